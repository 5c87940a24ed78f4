"""Test problems with further tests: drafts that passed by chance are told, and nothing can be learnt from the file."""

import argparse
import dataclasses
import json
from pathlib import Path

import pytest

from app.errors import UserError
from app.evaluation.verdict_counts import Tally
from app.files.json_files import append_json_line, write_json
from app.problem_sets import mbpp
from app.records import Draft, FinishReason, Status, Verdict
from app.reward.problems import store as problem_store
from app.reward.problems.find import load
from benchmarks.hardened_suites import hard_tests, judge, make
from benchmarks.sft_arms import pooled
from tests.suite_files import written
from tests.unit.reward.sources import SORTED

ROW = SORTED | {"task_id": 11}
BY_TABLE = """
def second(words):
    return {2: ['b1', 'a3'], 3: ['b2', 'a4', 'c5']}[len(words)]
"""
"""It passes the given tests."""


@pytest.fixture(scope="module")
def tests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suites")
    suite, place = written(folder / "mbpp.jsonl", [ROW]), folder / "hardened.jsonl.gz"
    told = list(make(argparse.Namespace(suite=[f"mbpp={suite}"], tests=place, timeout=5, workers=1)))
    assert told[0]["hardened"] == 1
    return place


def measured(out: Path, candidate: str, program: str) -> None:
    """What a measurement leaves of one draft that passed the given tests."""
    (task,) = mbpp.tasks_of([ROW], "a test")
    place, name = out / "confirm-0/evaluation/mbpp-chat" / candidate, task.problem.id
    draft = Draft(
        problem_id=name, text="", num_prompt_tokens=3, num_tokens=5, mean_logprob=-0.1, finish_reason=FinishReason.STOP,
        adapter="", seed=0,
    ).stored()  # fmt: skip
    verdict = Verdict(problem_id=name, status=Status.PASSED, detail="", tier="full")
    append_json_line(
        place / "samples.jsonl", {"draft": draft, "program": program, "verdict": dataclasses.asdict(verdict)}
    )
    tally = Tally([task.problem])
    tally.add(name, verdict.status, verdict.tier, draft, program)
    result = dataclasses.asdict(tally.result("mbpp", "chat", candidate))
    write_json(place / "result.json", {"result": result, "pass_rates": tally.pass_rates()})


def test_a_gain_by_the_given_tests_alone_vanishes(tests: Path, tmp_path: Path) -> None:
    measured(tmp_path, "base", ROW["code"])
    measured(tmp_path, "arm", BY_TABLE)
    told = list(judge(argparse.Namespace(tests=tests, out=tmp_path, step="confirm", timeout=5, workers=1)))
    by_arm = {row["arm"]: (row["given"], row["hardened"]) for row in told if "suite" in row}
    assert by_arm == {"base": (1, 1), "arm": (1, 0)}
    assert pooled(tmp_path, "confirm")["arm"].num_worse == 0
    assert pooled(tmp_path, "hardened")["arm"].num_worse == 1


def test_nothing_can_be_learnt_from_the_file(tests: Path) -> None:
    for read in (problem_store.read, lambda path: load([str(path)])):
        with pytest.raises(UserError):
            read(tests)


def test_the_file_holds_neither_question_nor_reference(tests: Path) -> None:
    (held,) = hard_tests(tests).values()
    assert held.added and not held.problem.prompt
    text = json.dumps(dataclasses.asdict(held.problem))
    assert ROW["text"] not in text and "sorted(" not in text
