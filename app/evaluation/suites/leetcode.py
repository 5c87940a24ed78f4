"""LeetCodeDataset (arXiv 2504.14655): methods of a class Solution, about 2.5 assertions each in version 0.2.0, a
hundred and more in 0.3.1. The data are not part of this project: newfacade/LeetCodeDataset on the Hub or on GitHub
(MIT there, Apache-2.0 by the Hub's card; the statements' own terms are LeetCode's). For evaluation only.

The reference of word-ladder-ii, a training problem, fails its own test. Lists and trees of nodes cross between the
program and its tests as plain data (`linked_nodes`).
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from app.errors import UserError
from app.evaluation.suites import linked_nodes
from app.evaluation.suites.problem_files import hub_rows, reading, rows, with_texts
from app.evaluation.suites.suite import ProgramSuite, Task
from app.prompting.replies import code_block
from app.records import Problem

HUB = "newfacade/LeetCodeDataset"
DIFFICULTIES = {"Meidum": "Medium"}
"""A spelling in the data."""
_STARTER = re.compile(r"\s*(?:Please complete the following[^\n]*\n)?```(?:python)?\n(.*?)```\s*\Z", re.DOTALL)


class LeetCode(ProgramSuite):
    name = "leetcode"
    place = f"LeetCodeDataset-test.jsonl of {HUB} on the Hub"

    def load(self, path: Path | None) -> list[Task]:
        read = rows(path) if path is not None else hub_rows(self.name, HUB, "LeetCodeDataset-test.jsonl")
        tasks = _tasks(read, str(path or HUB))
        if not tasks:
            raise UserError(f"{path or HUB} holds no problem: give {self.place}")
        return tasks

    def question(self, problem: Problem) -> str:
        """The data set's own words; they end with the code to complete."""
        return problem.prompt

    def text(self, problem: Problem) -> str:
        """The row's imports, the statement as a comment, and the code to complete."""
        statement, starter = _parts(problem.prompt)
        comment = "\n".join(f"# {line}".rstrip() for line in statement.splitlines())
        return f"{problem.prelude.strip()}\n\n{comment}\n{starter}"

    def program(self, problem: Problem, protocol: str, reply: str) -> str:
        if protocol == "completion":
            return self.given_program(problem, _parts(problem.prompt)[1] + reply)
        return self.given_program(problem, code_block(reply, "Solution", given=problem.prelude))

    def given_program(self, problem: Problem, completion: str) -> str:
        """The row's imports and helpers stand before the answer, as in the data set's own harness."""
        program = f"{problem.prelude.strip()}\n\n{completion}"
        return linked_nodes.in_program(program) if linked_nodes.are_used(problem) else program

    def whole_program(self, problem: Problem, solution: str) -> str:
        return self.given_program(problem, solution)


def _tasks(read: Iterable[dict[str, Any]], place: str) -> list[Task]:
    tasks = []
    for number, row in enumerate(read, 1):
        with reading(place, number, row.get("task_id"), "LeetCodeDataset", f"LeetCodeDataset-test.jsonl of {HUB}"):
            tasks.append(with_texts(_task(row)))
    return tasks


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


def _parts(query: str) -> tuple[str, str]:
    """The statement, and the code to complete without its last newline."""
    found = _STARTER.search(query)
    if found is None:
        return query.strip(), ""
    return query[: found.start()].strip(), found[1].rstrip()
