"""Arms of SFT: who trains and measures what, and which one is chosen."""

import argparse
import json
from pathlib import Path

import pytest

from benchmarks.sft_arms import AGAIN, ARMS, choose, dealt, own_arms, pooled


def options(**changes: object) -> argparse.Namespace:
    return argparse.Namespace(**{"arm": None, "only": None, "share": (0, 1)} | changes)


def test_the_shares_of_all_cards_are_all_arms() -> None:
    shares = [own_arms(options(share=(part, 4))) for part in range(4)]
    assert sorted(name for share in shares for name, _ in share) == sorted(ARMS)


def test_an_arm_is_given_by_rows_and_settings() -> None:
    ((name, arm),) = own_arms(options(arm=["mine:own:sft.learning_rate=1e-4+sft.max_steps=2"]))
    assert (name, arm.rows, arm.settings) == ("mine", "own", ("sft.learning_rate=1e-4", "sft.max_steps=2"))


def test_the_longest_measurement_has_a_card_of_its_own() -> None:
    asked = [("tooluse=DIR", "chat"), *((name, p) for name in ("humaneval", "mbpp", "leetcode") for p in ("a", "b"))]
    parts = [dealt(asked, (part, 4)) for part in range(4)]
    assert parts[0] == [("tooluse=DIR", "chat")]
    assert sorted(sum(parts, [])) == sorted(asked)


def result(out: Path, run: str, label: str, candidate: str, passed: int, of: int = 40) -> None:
    folder = out / run / "evaluation" / label / candidate
    folder.mkdir(parents=True)
    rates = {f"p/{number}": float(number < passed) for number in range(of)}
    (folder / "result.json").write_text(json.dumps({"pass_rates": rates}))


def measured(out: Path, **passed: int) -> None:
    for part, (name, number) in enumerate(passed.items()):
        for label in ("ours-chat", "ours-completion"):
            result(out, f"measure-{part}", label, "base", 10)
            result(out, f"measure-{part}", label, name.replace("_", "-"), number)


def test_protocols_are_pooled_by_problem_and_each_arm_is_held_against_its_own_base(tmp_path: Path) -> None:
    measured(tmp_path, worse=6, better=20)
    found = pooled(tmp_path, "measure")
    assert {name: (c.num_problems, c.num_better, c.num_worse) for name, c in found.items()} == {
        "worse": (40, 0, 4),
        "better": (40, 10, 0),
        AGAIN: (40, 0, 0),
    }


def test_tool_use_is_not_pooled_with_programs(tmp_path: Path) -> None:
    result(tmp_path, "confirm-0", "tooluse-chat", "base", 3)
    result(tmp_path, "confirm-0", "tooluse-chat", "arm", 9)
    assert pooled(tmp_path, "confirm") == {}


def test_an_arm_that_was_measured_on_a_part_is_not_chosen(tmp_path: Path) -> None:
    measured(tmp_path, better=12)
    result(tmp_path, "measure-1", "mbpp-chat", "base", 1, of=5)
    result(tmp_path, "measure-1", "mbpp-chat", "lucky", 5, of=5)
    choose(argparse.Namespace(out=tmp_path, share=(0, 1), step=choose))
    assert json.loads((tmp_path / "chosen.json").read_text())["best"] == "better"


@pytest.mark.parametrize(("better", "default"), [(20, "better"), (12, "no SFT"), (4, "no SFT")])
def test_no_sft_is_the_default_where_the_best_arm_may_be_chance(better: int, default: str, tmp_path: Path) -> None:
    measured(tmp_path, worse=3, better=better)
    choose(argparse.Namespace(out=tmp_path, share=(0, 1), step=choose))
    chosen = json.loads((tmp_path / "chosen.json").read_text())
    assert (chosen["best"], chosen["default"]) == ("better", default)
