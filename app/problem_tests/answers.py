"""What programs answer in the sandbox to calls of a test's form, and whether two answers are the same to tests."""

import math
from collections.abc import Sequence
from typing import Any

from app.corpus.mining.literals import NotLiteralError, value_of
from app.corpus.mining.recording import Recorded, record_calls
from app.corpus.mining.records import Call
from app.files.python_source import parse_expression
from app.problem_tests.assertions import Form, asking
from app.records import Problem, Status
from app.sandbox.supervisor import Supervisor

MAX_RUNS = 4
"""Runs of a program: after each that was cut the next one goes on behind the call that cut it."""
NO_LITERAL = object()


def answers(
    problem: Problem,
    program: str,
    form: Form,
    calls: Sequence[Call],
    supervisor: Supervisor,
    *,
    max_runs: int = MAX_RUNS,
) -> list[Recorded]:
    """What the program gives for each call, as an assertion of this form compares it; "not run" behind max_runs calls
    that did not end.

    Raises NoProblemError for a program that writes behind Python's back.
    """
    asked = f"{program}\n\n{problem.setup}\n{asking(problem, form)}"
    rows: list[Recorded] = []
    for _ in range(max_runs):
        done, run = record_calls(asked, "__asked__", calls[len(rows) :], supervisor)
        rows += done
        if len(rows) == len(calls):
            return rows
        if run.status in (Status.LOAD_ERROR, Status.INFRA) or (not done and run.status == Status.PASSED):
            break
        if run.status != Status.OUTPUT_LIMIT or not done:
            rows.append(_unknown(len(rows), "slow"))
    return rows + [_unknown(number, "not run") for number in range(len(rows), len(calls))]


def literal(text: str) -> Any:
    """The value of a recorded answer; NO_LITERAL where it is none."""
    try:
        return value_of(parse_expression(text).body, {})
    except (NotLiteralError, SyntaxError, ValueError, MemoryError, RecursionError):
        return NO_LITERAL


def agree(one: str, other: str, form: Form) -> bool:
    """Whether two recorded answers are the same to tests of this form."""
    if one == other:
        return True
    first, second = literal(one), literal(other)
    if NO_LITERAL in (first, second):
        return False
    return _is_near(first or [], second or []) if form.expected_made_by else _is_near(first, second)


def _is_near(one: Any, other: Any) -> bool:
    """Equal, floats inside nearly so."""
    if isinstance(one, float) or isinstance(other, float):
        numbers = isinstance(one, int | float) and isinstance(other, int | float)
        return numbers and math.isclose(one, other, rel_tol=1e-5, abs_tol=1e-5)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(_is_near, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_near(one[key], other[key]) for key in one)
    return bool(one == other)


def _unknown(number: int, what: str) -> Recorded:
    return Recorded(number=number, what=what, result="", is_sure=True, holds=None, printed=False)
