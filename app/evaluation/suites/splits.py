"""Which problems of MBPP and LeetCodeDataset are for what, by a hash of their ids: the same on every machine.

Test problems measure, and nothing else: MBPP's tasks 11 to 510 and LeetCodeDataset's test file. For validation are
MBPP's tasks 511 to 600 and those 400 of LeetCodeDataset's training file that a hash puts first. They are halved: by the
tuning half prompts, recipes and arms are chosen, by the other half whether a training is kept (`app.evaluation.gate`).
All others are there to learn from. A problem for validation that repeats one of a test suite is in neither half:
MBPP+ holds many of MBPP's tasks above 510.
"""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Literal

from app.corpus.clean.decontamination import Decontaminator
from app.corpus.clean.guard import SHIPPED, read_signs, shipped_suites
from app.corpus.draws import bits
from app.errors import UserError
from app.problem_sets.task import Task
from app.progress import say

Half = Literal["tuning", "validation"]
LEETCODE_VALIDATION = 400


def half_of(problem_id: str) -> Half:
    """In which half a problem for validation is."""
    return "validation" if bits(problem_id) % 2 else "tuning"


def with_leetcode_splits(tasks: Iterable[Task]) -> list[Task]:
    """The problems of LeetCodeDataset's training file, each with its split. The draw depends on which are there."""
    held = list(tasks)
    drawn = set(sorted((task.problem.id for task in held), key=bits)[:LEETCODE_VALIDATION])
    return [_with_split(task, "validation" if task.problem.id in drawn else "train") for task in held]


def chosen_half(tasks: Iterable[Task], half: Half, suite: str, source: str, place: str) -> list[Task]:
    """The problems for validation of one half. What repeats a test problem is left out, and counted.

    source: where they come from; place: where they should come from. Raises UserError where none is left.
    """
    held = [t for t in tasks if t.problem.split == "validation" and half_of(t.problem.id) == half]
    kept = [task for task in held if not repeats_a_test_problem(task)]
    if not kept:
        raise UserError(f"{source} holds no problem of {suite} that is not in a test suite as well: give {place}")
    if len(kept) < len(held):
        say(f"  {suite}: {len(held) - len(kept)} of {len(held)} problems left out, because test suites hold the like")
    return kept


def repeats_a_test_problem(task: Task) -> bool:
    return repeats(task, _test_problems())


def repeats(task: Task, held: Decontaminator) -> bool:
    """Whether the problem is one of those that `held` tells."""
    problem = task.problem
    text = f"{problem.prompt}\n{task.canonical_solution}"
    return held.repeats(text, task.canonical_solution, problem.entry_point)


@functools.cache
def _test_problems() -> Decontaminator:
    """By the hashes that come with the project, whichever files are here, so that the halves are always the same."""
    return Decontaminator(signs=[s for name in shipped_suites() for s in read_signs(SHIPPED / f"{name}.parquet")[0]])


def _with_split(task: Task, split: str) -> Task:
    return dataclasses.replace(task, problem=dataclasses.replace(task.problem, split=split))
