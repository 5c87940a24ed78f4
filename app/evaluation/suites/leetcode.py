"""LeetCodeDataset (arXiv 2504.14655): methods of a class Solution, about 2.5 assertions each in version 0.2.0, a
hundred and more in 0.3.1. The data are not part of this project: newfacade/LeetCodeDataset on the Hub or on GitHub
(MIT there, Apache-2.0 by the Hub's card; the statements' own terms are LeetCode's). For evaluation only.

The reference of word-ladder-ii, a training problem, fails its own test. Lists and trees of nodes cross between the
program and its tests as plain data (`app.problem_sets.linked_nodes`).
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from app.errors import UserError
from app.evaluation.suites.suite import ProgramSuite
from app.problem_sets import linked_nodes
from app.problem_sets.leetcode import HUB, statement_and_starter, tasks_of, whole_query
from app.problem_sets.problem_files import hub_rows, rows
from app.problem_sets.task import Task
from app.prompting.replies import code_block
from app.records import Problem


class LeetCode(ProgramSuite):
    name = "leetcode"
    file = "LeetCodeDataset-test.jsonl"
    place = f"{file} of {HUB} on the Hub"

    def load(self, path: Path | None) -> list[Task]:
        tasks = tasks_of(self.rows(path), str(path or HUB))
        if not tasks:
            raise UserError(f"{path or HUB} holds no problem: give {self.place}")
        return tasks

    def rows(self, path: Path | None) -> Iterable[dict[str, Any]]:
        return rows(path) if path is not None else hub_rows(self.name, HUB, self.file)

    def question(self, problem: Problem) -> str:
        """The data set's own words; they end with the code to complete."""
        return problem.prompt

    def text(self, problem: Problem) -> str:
        """The row's imports, the statement as a comment, and the code to complete."""
        statement, starter = statement_and_starter(problem.prompt)
        comment = "\n".join(f"# {line}".rstrip() for line in statement.splitlines())
        return f"{problem.prelude.strip()}\n\n{comment}\n{starter}"

    def program(self, problem: Problem, protocol: str, reply: str) -> str:
        if protocol == "completion":
            return self.given_program(problem, statement_and_starter(problem.prompt)[1] + reply)
        return self.given_program(problem, code_block(reply, "Solution", given=problem.prelude))

    def given_program(self, problem: Problem, completion: str) -> str:
        """The row's imports and helpers stand before the answer, as in the data set's own harness."""
        program = f"{problem.prelude.strip()}\n\n{completion}"
        return linked_nodes.in_program(program) if linked_nodes.are_used(problem) else program

    def whole_program(self, problem: Problem, solution: str) -> str:
        return self.given_program(problem, solution)


class LeetCodeExamples(LeetCode):
    """The same problems, asked as the site asks: with the statement's examples and constraints, which version 0.2.0 of
    the data set leaves out of its question. The examples are most of its tests, so judge by hardened ones."""

    name = "leetcode_examples"

    def rows(self, path: Path | None) -> Iterable[dict[str, Any]]:
        return ({**row, "query": whole_query(row)} if "query" in row else row for row in super().rows(path))
