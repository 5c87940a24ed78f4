"""MBPP (arXiv 2108.07732): 974 short tasks, each with three assertions. The file is not part of this project:
mbpp.jsonl of google-research's repository, CC BY 4.0, for evaluation only."""

import ast
from pathlib import Path
from typing import Any

from app.errors import UserError
from app.evaluation.humaneval import Task
from app.records import Problem, ProblemStyle
from app.userfiles import read_rows

SPLITS = {range(1, 11): "few_shot", range(11, 511): "test", range(511, 601): "validation", range(601, 975): "train"}
"""By task id, as the paper divides them."""


def load(path: Path) -> list[Task]:
    """Every task of the file. Raises UserError when it is no MBPP file."""
    try:
        return [_task(row) for _, row in read_rows(path, "--problems")]
    except (SyntaxError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise UserError(
            f"{path} can't be read as MBPP ({type(error).__name__}: {error}): give the mbpp.jsonl of "
            "https://github.com/google-research/google-research/tree/master/mbpp"
        ) from None


def _task(row: dict[str, Any]) -> Task:
    tests = [*row["test_list"], *row.get("challenge_test_list", [])]
    return Task(
        problem=Problem(
            id=f"MBPP/{row['task_id']}",
            source="mbpp",
            licence="CC-BY-4.0",
            prompt=row["text"],
            entry_point=_entry_point(row["code"], tests),
            tests="\n".join(tests),
            style=ProblemStyle.ASSERTIONS,
            setup=row["test_setup_code"],
            split=next(split for ids, split in SPLITS.items() if row["task_id"] in ids),
        ),
        canonical_solution=row["code"],
    )


def _entry_point(code: str, tests: list[str]) -> str:
    """The function of the reference solution that the assertions call."""
    defined = {node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)}
    called = [
        node.func.id
        for node in ast.walk(ast.parse("\n".join(tests)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    return next(name for name in called if name in defined)
