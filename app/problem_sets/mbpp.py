"""Rows of MBPP (arXiv 2108.07732) as problems, whole or of its sanitized half: a function and its assertions."""

import ast
import functools
from collections.abc import Iterable
from typing import Any

from app.files.python_source import parse
from app.problem_sets.problem_files import read_tasks
from app.problem_sets.task import Task
from app.records import Problem, ProblemStyle

HUB = "google-research-datasets/mbpp"
SPLITS = {range(1, 11): "few_shot", range(11, 511): "test", range(511, 601): "validation", range(601, 975): "train"}
"""By task id, as the paper divides them."""


def tasks_of(read: Iterable[dict[str, Any]], place: str, text_field: str = "") -> list[Task]:
    """Every task, all splits. text_field: insist on the whole (text) or the sanitized (prompt) form.

    Raises UserError when the rows are none of MBPP's.
    """
    form = "sanitized MBPP (sanitized-mbpp.json)" if text_field == "prompt" else "MBPP (mbpp.jsonl)"
    source = "the file of https://github.com/google-research/google-research/tree/master/mbpp"
    return read_tasks(read, functools.partial(_task, text_field=text_field), place, form, source)


def _task(row: dict[str, Any], text_field: str) -> Task:
    text_field = text_field or ("text" if "text" in row else "prompt")
    tests = [_unix(test) for test in row["test_list"]]
    code = _unix(row["code"])
    return Task(
        problem=Problem(
            id=f"MBPP/{row['task_id']}",
            source="mbpp",
            licence="CC-BY-4.0",
            prompt=_unix(row[text_field]),
            entry_point=_entry_point(code, tests),
            tests="\n".join(tests),
            style=ProblemStyle.ASSERTIONS,
            setup=_unix(row["test_setup_code"]) if text_field == "text" else "\n".join(row["test_imports"]),
            split=_split(row["task_id"]),
        ),
        canonical_solution=code,
    )


def _split(task_id: Any) -> str:
    for ids, split in SPLITS.items():
        if task_id in ids:
            return split
    raise ValueError(f"task_id {task_id!r} is not one of 1 to 974")


def _unix(text: str) -> str:
    """The file's strings hold \\r\\n, which a prompt should not."""
    return text.replace("\r\n", "\n")


def _entry_point(code: str, tests: list[str]) -> str:
    """The function of the reference solution that the assertions call."""
    defined = {node.name for node in parse(code).body if isinstance(node, ast.FunctionDef)}
    called = [
        node.func.id
        for node in ast.walk(parse("\n".join(tests)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    for name in called:
        if name in defined:
            return name
    raise ValueError("its tests call no function that its code defines")
