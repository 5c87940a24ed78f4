"""What the benchmark of self-reward draws with, and that drafts of `rates` are imitation's first round."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from app.models.adapters import WEIGHTS
from app.reward.imitation.lessons import read_lessons
from app.reward.problems.find import load
from app.reward.problems.hardening import Hardened
from app.reward.problems.store import write
from app.stage_settings.grm import GrmSettings
from benchmarks import reward
from tests.sums import sums_settings


def test_the_first_round_takes_the_drafts_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [one for one in sums_settings(tmp_path) if not one.startswith("grm.problems")]
    problems, out = tmp_path / "problems.parquet", tmp_path / "out"
    write(problems, [Hardened(problem=one) for one in load([str(tmp_path / "sums.jsonl")])])

    def told(step: str, *more: str) -> dict[str, Any]:
        words = [step, "--problems", str(problems), "--out", str(out), "--profile", "smoke", *more]
        monkeypatch.setattr("sys.argv", ["reward", *words, *(word for one in settings for word in ("--set", one))])
        reward.main()
        return json.loads(capsys.readouterr().out)

    assert told("rates", "--drafts", "24")["drafts"] == 5 * 24
    found = told("imitate", "--how", "rft", "--name", "rft", "--set", "grm.imitate.batch=4")
    (of_round,) = found["rounds"]
    folder = out / "adapters/rft"
    assert of_round["drafts"] == 5 * 24
    assert [path.name for path in (folder / "drafts").iterdir()] == ["replay.parquet"], "nothing but the answers"
    assert (folder / "adapter" / WEIGHTS).exists() and len(read_lessons(folder / "lessons.parquet")) == sum(
        of_round["lessons"].values()
    )
    assert told("imitate", "--how", "upft", "--name", "upft")["rounds"][0]["problems"] == 5


def test_on_a_card_drafts_are_not_cut_where_a_laptop_cuts_them() -> None:
    given = argparse.Namespace(profile="laptop", model="", gpu=True, overrides=["grm.steps=7"])
    on_card = reward.profile_of(given).grm
    assert on_card == GrmSettings(steps=7)
    given.gpu = False
    assert reward.profile_of(given).grm.max_new_tokens < on_card.max_new_tokens
