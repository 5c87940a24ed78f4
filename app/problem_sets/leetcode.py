"""Rows of LeetCodeDataset (arXiv 2504.14655) as problems: methods of a class Solution."""

import re
from collections.abc import Iterable
from typing import Any

from app.problem_sets import linked_nodes
from app.problem_sets.problem_files import read_tasks
from app.problem_sets.task import Task
from app.records import Problem

HUB = "newfacade/LeetCodeDataset"
DIFFICULTIES = {"Meidum": "Medium"}
"""A spelling in the data."""
_STARTER = re.compile(r"\s*(?:Please complete the following[^\n]*\n)?```(?:python)?\n(.*?)```\s*\Z", re.DOTALL)


def tasks_of(read: Iterable[dict[str, Any]], place: str) -> list[Task]:
    return read_tasks(read, _task, place, "LeetCodeDataset", f"LeetCodeDataset-test.jsonl of {HUB}")


def _task(row: dict[str, Any]) -> Task:
    difficulty = row["meta"]["difficulty"] if "meta" in row else row["difficulty"]
    problem = Problem(
        id=row["task_id"],
        source="leetcode",
        licence="MIT",
        prompt=row["query"],
        prelude=row["prompt"],
        entry_point=row["entry_point"],
        tests=row["test"],
        difficulty=DIFFICULTIES.get(difficulty, difficulty),
    )
    return Task(problem=linked_nodes.in_tests(problem), canonical_solution=row["completion"])


def statement_and_starter(query: str) -> tuple[str, str]:
    """The statement, and the code to complete without its last newline."""
    found = _STARTER.search(query)
    if found is None:
        return query.strip(), ""
    return query[: found.start()].strip(), found[1].rstrip()
