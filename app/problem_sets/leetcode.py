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
_CONSTRAINTS = re.compile(r"Constraints:\**(.*?)(?:Follow[ -]?up|```|\Z)", re.DOTALL | re.IGNORECASE)
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


def constraints_of(row: dict[str, Any]) -> str:
    """The list of constraints that a row's statement has, one a line; empty where it has none. What is asked
    (`Problem.prompt`) is without it in version 0.2.0."""
    return next(filter(None, map(constraints_in, _texts_of(row))), "")


def constraints_in(text: str) -> str:
    """The same of a text."""
    found = _CONSTRAINTS.search(text)
    return "\n".join(line.strip() for line in found[1].splitlines() if line.strip()) if found else ""


def whole_query(row: dict[str, Any]) -> str:
    """What is asked, with the examples and constraints of the statement, which version 0.2.0 leaves out of it."""
    whole = next((text for text in _texts_of(row) if "Input:" in text), row["query"])
    if whole is row["query"]:
        return whole
    _, starter = statement_and_starter(row["query"])
    return f"{whole.strip()}\n\nPlease complete the following python code precisely:\n```python\n{starter}\n```"


def _texts_of(row: dict[str, Any]) -> list[str]:
    """Where a row may hold the whole statement."""
    texts = (row.get("meta", {}).get("question_title", ""), row.get("problem_description", ""), row["query"])
    return [text for text in texts if text]


def statement_and_starter(query: str) -> tuple[str, str]:
    """The statement, and the code to complete without its last newline."""
    found = _STARTER.search(query)
    if found is None:
        return query.strip(), ""
    return query[: found.start()].strip(), found[1].rstrip()
