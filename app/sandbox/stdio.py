"""Problems of standard input and output (APPS): the program runs as a script, once for each test.

What it printed is compared here, outside of it. Passing needs the right output and exit code 0 within the limits."""

import json
import math
import re
import time
from decimal import Decimal

from app.records import Problem, Status
from app.sandbox.limits import WALL_FACTOR
from app.sandbox.marks import BrokenTestsError
from app.sandbox.process import Spawn
from app.sandbox.script import OUTPUT_BYTES, run_script

WHOLE_FACTOR = 10
TOLERANCE = 1e-6
"""Relative and absolute, for numbers that the expected output writes with a point."""
COMPUTED_PLACES = 6
"""C's %f prints six places and more precise formats more; fewer with a zero at the end are a price or a version."""
_NUMBER = re.compile(r"[+-]?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][+-]?\d{1,4})?", re.ASCII)  # linear


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
    """Compare line by line.

    Blanks at the ends of lines and empty lines don't count; indentation counts where the expected line has some.

    Lines that differ are compared word by word: a word of a line of numbers as a number (`_same_number`); in a line
    with other words only decimals of at least COMPUTED_PLACES places are numbers ("Case #1: 0.3333333"), the rest is
    text ("version 1.10").
    """
    ours, theirs = _lines(actual), _lines(expected)
    return len(ours) == len(theirs) and all(map(_same_line, ours, theirs))


def _lines(text: str) -> list[str]:
    return [line for part in text.split("\n") if (line := part.rstrip())]


def _same_line(actual: str, expected: str) -> bool:
    if actual == expected:
        return True
    if expected[0].isspace() and _indentation(actual) != _indentation(expected):
        return False
    ours, theirs = actual.split(), expected.split()
    all_numbers = all(map(_NUMBER.fullmatch, theirs))
    return len(ours) == len(theirs) and all(
        mine == right or (all_numbers or _places(right) >= COMPUTED_PLACES) and _same_number(mine, right)
        for mine, right in zip(ours, theirs, strict=True)
    )


def _indentation(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _places(word: str) -> int:
    """Decimal places of a number; 0 for anything else."""
    return len(word.partition(".")[2]) if _NUMBER.fullmatch(word) else 0


def _same_number(actual: str, expected: str) -> bool:
    """A decimal within TOLERANCE; a whole number exactly, but 6.0 will do for 6. One that was written with a certain
    number of places (1.10, 007) is a text: it ends in a zero that no computed number has."""
    if not _NUMBER.fullmatch(actual) or not _NUMBER.fullmatch(expected):
        return False
    whole, _, fraction = expected.lower().partition("e")[0].lstrip("+-").partition(".")
    if len(whole) > 1 and whole.startswith("0"):
        return False
    if not fraction and "e" not in expected.lower():
        return not actual.lstrip("+-").isdigit() and Decimal(actual) == Decimal(expected)
    if len(fraction) > 1 and fraction.endswith("0") and len(fraction) < COMPUTED_PLACES:
        return False
    number, right = float(actual), float(expected)
    return math.isfinite(right) and abs(number - right) <= TOLERANCE * max(1.0, abs(right))


def _run_test(program: str, given: str, expected: str, spawn: Spawn, timeout_s: float) -> tuple[Status, str, float]:
    cap = max(OUTPUT_BYTES, 4 * len(expected) + 4096)
    run = run_script(program, given, spawn, timeout_s, cap=cap)
    if run.status == Status.PASSED and not same_output(run.output, expected):
        return Status.WRONG_ANSWER, "the output differs", run.cpu_seconds
    return run.status, run.detail, run.cpu_seconds
