"""Rows of APPS (arXiv 2105.09938) as problems: tests on standard input, or calls of a function.

Functions are judged as the official harness does (hendrycks/apps, `eval/testing_util.py`, MIT).
"""

import json
from collections.abc import Iterable
from typing import Any

from app.problem_sets.problem_files import read_tasks
from app.problem_sets.task import Task
from app.records import Problem, ProblemStyle

HUB = "codeparrot/apps"
IMPORTS = """\
import sys, time, itertools, collections, math, fractions, random, heapq
from itertools import accumulate, product, permutations, combinations
from collections import Counter, OrderedDict, deque, defaultdict, ChainMap
from functools import lru_cache
from math import sqrt, sin, cos, tan, ceil, fabs, floor, gcd, exp, log, log2
from typing import List, Tuple
from heapq import *
"""
"""What the official harness puts before each program, but for numpy, which takes longer to load than most tests."""
_PRELUDE = """\
from math import inf, nan


def same(answer, expected):
    if isinstance(answer, tuple):
        answer = list(answer)
    wrapped = expected[0] if isinstance(expected, list) and expected else expected
    if answer == expected or answer == wrapped:
        return True
    tuples = isinstance(answer, list) and answer and isinstance(answer[0], tuple)
    return bool(tuples) and [list(item) for item in answer] == wrapped


"""
_TESTS = """\
def check(candidate):
    for number, (given, expected) in enumerate(CASES, 1):
        assert same(candidate(*given), expected), f"input {number} of {len(CASES)}"
"""


def tasks_of(read: Iterable[dict[str, Any]], place: str, difficulty: str) -> tuple[list[Task], int]:
    """Tasks of a grade (of all for an empty one), and how many of it have no readable tests."""
    num_untested = 0

    def make(row: dict[str, Any]) -> Task | None:
        nonlocal num_untested
        if difficulty and row["difficulty"] != difficulty:
            return None
        in_out = _tests_of(row["input_output"])
        if in_out.get("inputs"):
            return _task(row, in_out)
        num_untested += 1
        return None

    tasks = read_tasks(read, make, place, "APPS", f"test.jsonl or train.jsonl of {HUB}")
    return tasks, num_untested


def _task(row: dict[str, Any], in_out: dict[str, Any]) -> Task:
    name = in_out.get("fn_name") or ""
    solutions = json.loads(row["solutions"] or "[]") if isinstance(row["solutions"], str) else row["solutions"]
    pairs = list(zip(in_out["inputs"], in_out["outputs"], strict=False))
    cases = [_keys_restored(*pair) for pair in pairs] if name else []
    return Task(
        problem=Problem(
            id=f"APPS/{row['problem_id']}",
            source="apps",
            licence="MIT",
            prompt="\n".join(part for part in (row["question"].strip(), row["starter_code"].rstrip()) if part),
            entry_point=name,
            prelude=f"{_PRELUDE}CASES = {cases!r}\n" if name else "",
            tests=_TESTS if name else json.dumps([(_lines(given), _lines(expected)) for given, expected in pairs]),
            style=ProblemStyle.CHECK if name else ProblemStyle.STDIO,
            difficulty=row["difficulty"],
        ),
        canonical_solution=solutions[0] if solutions else "",
    )


def _tests_of(value: Any) -> dict[str, Any]:
    """The field holds JSON as text, in some copies the value itself. An empty text says that there are no tests, and a
    number of more than 4,300 digits, which Python reads no more, that they can't be had."""
    try:
        return (json.loads(value) if isinstance(value, str) else value) or {}
    except ValueError:
        return {}


def _lines(text: Any) -> str:
    return "\n".join(map(str, text)) if isinstance(text, list) else str(text)


def _keys_restored(given: Any, expected: Any) -> tuple[Any, Any]:
    """Dicts with the int keys that JSON made texts of, where the harness restores them."""
    if isinstance(given, list) and given and isinstance(given[0], dict):
        given = [_with_int_keys(given[0])] if _with_int_keys(given[0]) is not given[0] else given
    if isinstance(expected, dict):
        expected = [_with_int_keys(expected)]
    elif isinstance(expected, list) and expected and isinstance(expected[0], dict):
        expected = [_with_int_keys(expected[0])]
    return given, expected


def _with_int_keys(value: dict[str, Any]) -> dict[Any, Any]:
    try:
        return {int(key): item for key, item in value.items()}
    except ValueError:
        return value
