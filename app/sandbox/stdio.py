"""Problems of standard input and output (APPS): the program runs as a script, once for each test, and what it printed
is compared here, outside of it. Passing needs the right output and exit code 0 within the limits."""

import json
import time

from app.records import Problem, Status
from app.sandbox.marks import BrokenTestsError
from app.sandbox.limits import WALL_FACTOR
from app.sandbox.process import Spawn
from app.sandbox.script import OUTPUT_BYTES, run_script

WHOLE_FACTOR = 10
TOLERANCE = 1e-6
"""Relative and absolute, for numbers that the expected output writes with a point."""


def judge_stdio(problem: Problem, program: str, spawn: Spawn, timeout_s: float) -> tuple[Status, str, float]:
    """Status, detail and CPU seconds of all tests together; the first test that fails ends it.

    timeout_s holds for each test, WHOLE_FACTOR times as much for all. Raises BrokenTestsError.
    """
    tests = _pairs(problem.tests)
    total, deadline = 0.0, time.monotonic() + WHOLE_FACTOR * WALL_FACTOR * timeout_s
    for index, (given, expected) in enumerate(tests):
        status, detail, cpu_seconds = _run_test(program, given, expected, spawn, timeout_s)
        total += cpu_seconds
        if total > WHOLE_FACTOR * timeout_s or time.monotonic() > deadline:
            status, detail = Status.TIMEOUT, f"more than {WHOLE_FACTOR} times the limit of one test"
        if status != Status.PASSED:
            return status, f"test {index + 1} of {len(tests)}: {detail}", total
    return Status.PASSED, "", total


def _pairs(tests: str) -> list[tuple[str, str]]:
    """problem.tests is a JSON array of [input, output] pairs."""
    try:
        pairs = [(given, expected) for given, expected in json.loads(tests)]
    except (ValueError, TypeError) as error:
        raise BrokenTestsError(f"the tests are no JSON of [input, output] pairs: {error}") from None
    if not pairs or not all(type(text) is str for pair in pairs for text in pair):
        raise BrokenTestsError("the tests are no [input, output] pairs of text")
    return pairs


def same_output(actual: str, expected: str) -> bool:
    """Line by line without trailing blanks; else word by word, numbers with a point within TOLERANCE."""
    if [line.rstrip() for line in actual.rstrip().split("\n")] == [
        line.rstrip() for line in expected.rstrip().split("\n")
    ]:
        return True
    ours, theirs = actual.split(), expected.split()
    return len(ours) == len(theirs) and all(map(_same_word, ours, theirs))


def _same_word(actual: str, expected: str) -> bool:
    if actual == expected:
        return True
    if "." not in expected:
        return False
    try:
        number, right = float(actual), float(expected)
    except ValueError:
        return False
    return abs(number - right) <= TOLERANCE * max(1.0, abs(right))


def _run_test(program: str, given: str, expected: str, spawn: Spawn, timeout_s: float) -> tuple[Status, str, float]:
    cap = max(OUTPUT_BYTES, 4 * len(expected) + 4096)
    run = run_script(program, given, spawn, timeout_s, cap=cap)
    if run.status == Status.PASSED and not same_output(run.output, expected):
        return Status.WRONG_ANSWER, "the output differs", run.cpu_seconds
    return run.status, run.detail, run.cpu_seconds
