"""No problem of our own is near one of a public suite, as the guard of the corpus tells them; none to train on is near
one for validation.

The suites whose files are not here are told by the hashes that come with the project; where POCKETCODER_DATA names the
folder with the files, by all of their text as well. Left out are the signs that count short pieces of code and inputs:
exercises of a line or two share those whoever wrote them.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable

import numpy as np
import pytest

from app.corpus.clean.decontamination import Decontaminator
from app.corpus.clean.guard import SHIPPED, read_signs, shipped_suites
from app.corpus.clean.signs import OWNED, Signs, signs_of
from app.evaluation.suites.registry import get_suite
from app.problem_sets import apps, leetcode, mbpp
from app.problem_sets.own import read_problems, task_of
from app.problem_sets.problem_files import rows
from app.problem_sets.task import Task
from tests.suite_files import real

PROBLEMS = read_problems()
MBPP = "mbpp/mbpp.jsonl"
LEETCODE = "leetcode/LeetCodeDataset-v0.2.0-{}.jsonl.gz"
APPS = "apps/apps_train_5.jsonl"
BFCL = "bfcl/BFCL_v4_simple_python.jsonl"
OF_FILES: dict[str, Callable[[], Iterable[Task]]] = {
    "MBPP, all splits": lambda: mbpp.tasks_of(rows(real(MBPP)), MBPP),
    "LeetCodeDataset test": lambda: leetcode.tasks_of(rows(real(LEETCODE.format("test"))), "test"),
    "LeetCodeDataset train": lambda: leetcode.tasks_of(rows(real(LEETCODE.format("train"))), "train"),
    "APPS train": lambda: apps.tasks_of(rows(real(APPS)), APPS, "")[0],
    "BFCL": lambda: get_suite("tooluse").load(real(BFCL).parent),
}


def near(guard: Decontaminator) -> list[str]:
    """Problems that the guard hits, with the reason."""
    found = []
    for problem in PROBLEMS:
        text = "\n".join((problem.prompt, problem.reference, problem.tests, problem.generated))
        if reason := guard.hit(text, [problem.name, problem.entry_point]):
            found.append(f"{problem.id}: {reason}")
    return found


def guard_of(signs: Iterable[Signs]) -> Decontaminator:
    """The guard without the signs that count short pieces."""
    empty = dict.fromkeys(OWNED, np.zeros(0, np.uint64))
    return Decontaminator(signs=[dataclasses.replace(each, **empty) for each in signs])


def of_tasks(tasks: Iterable[Task]) -> Decontaminator:
    return guard_of(signs_of(task.benchmark_text for task in tasks))


@functools.cache
def shipped(suite: str) -> Decontaminator:
    return guard_of(read_signs(SHIPPED / f"{suite}.parquet")[0])


@pytest.mark.parametrize("suite", shipped_suites())
def test_no_problem_is_near_a_suite_by_its_hashes(suite: str) -> None:
    assert near(shipped(suite)) == []


@pytest.mark.parametrize("suite", ["humaneval", "repo", "search_docs"])
def test_no_problem_is_near_a_suite_that_is_always_here(suite: str) -> None:
    assert near(of_tasks(get_suite(suite).load(None))) == []


@pytest.mark.parametrize("name", OF_FILES)
def test_no_problem_is_near_a_suite_whose_file_is_given(name: str) -> None:
    assert near(of_tasks(OF_FILES[name]())) == []


def test_a_problem_that_is_near_would_be_found() -> None:
    (task, *_) = get_suite("humaneval").load(None)
    assert shipped("humaneval").hit(task.benchmark_text.text, [])


def test_no_problem_to_train_on_is_near_one_for_validation() -> None:
    tasks = [task_of(problem) for problem in PROBLEMS]
    guard = of_tasks(task for task in tasks if task.problem.split == "validation")
    train = [task for task in tasks if task.problem.split == "train"]
    hits = {t.problem.id: guard.hit(t.benchmark_text.text, [t.problem.entry_point]) for t in train}
    assert {name: reason for name, reason in hits.items() if reason} == {}
