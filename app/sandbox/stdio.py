"""Problems of standard input and output (APPS): the program runs as a script, once for each test, and what it printed
is compared here, outside of it. Passing needs the right output and exit code 0 within the limits."""

import contextlib
import json
import os
import select
import time

from app.records import Problem, Status
from app.sandbox.checks import BrokenTestsError
from app.sandbox.limits import WALL_FACTOR, Clock, classify
from app.sandbox.process import Process, Spawn
from app.sandbox.values import WireError
from app.sandbox.wire import Frames, pack, send_bytes

MIN_OUTPUT = 64 << 10
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
    cap = max(MIN_OUTPUT, 4 * len(expected) + 4096)
    stdin = _read_only(given.encode())
    read_request, write_request = os.pipe()
    read_response, write_response = os.pipe()
    read_output, write_output = os.pipe()
    try:
        try:
            process = spawn("script", [read_request, write_response, stdin, write_output])
        finally:
            for fd in (read_request, write_response, write_output):
                os.close(fd)
        killed_here = False
        try:
            with contextlib.suppress(BrokenPipeError):
                send_bytes(write_request, pack({"id": 0, "program": program}))
            output, word, why = _read_output(read_output, process, Clock(timeout_s, [process]), cap)
        finally:
            killed_here = not process.has_ended()
            ended = process.end()
        if word == "":
            word, why = _said(read_response, ended.code)
        if word == "" and not ended.signal and not ended.code:
            right = same_output(output.decode("utf-8", "replace"), expected)
            word, why = ("passed", "") if right else ("wrong_answer", "the output differs")
        elif word == "":
            word, why = ("died", "the program ended") if ended.signal else ("runtime_error", f"exit code {ended.code}")
    finally:
        for fd in (stdin, write_request, read_response, read_output):
            os.close(fd)
    return (*classify(word, why, ended, killed_here), ended.cpu_seconds)


def _read_output(fd: int, process: Process, clock: Clock, cap: int) -> tuple[bytes, str, str]:
    """What was printed until the process ended; or the status of why reading stopped."""
    output = bytearray()
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.register(process.pidfd, select.POLLIN)
    open_ends = 2
    while open_ends:
        seconds = clock.remaining()
        if seconds <= 0:
            return bytes(output), clock.status, clock.why
        for ready, _ in poll.poll(int(seconds * 1000) + 1):
            data = os.read(fd, 1 << 16) if ready == fd else b""
            if not data:
                poll.unregister(ready)
                open_ends -= 1
            output += data
        if len(output) > cap:
            return bytes(output), "output_limit", f"more than {cap} bytes of output"
    return bytes(output), "", ""


def _said(fd: int, code: int) -> tuple[str, str]:
    """The exception that a script reported before it exited, if it did."""
    if not code:
        return "", ""
    try:
        answer = Frames(fd, fd).receive()
        base, name, text, _ = map(str, answer["error"])
    except (WireError, EOFError, KeyError, TypeError, ValueError):
        return "", ""
    status = "memory" if base == "MemoryError" else "load_error" if answer.get("id") == 0 else "runtime_error"
    return status, f"{name}: {text}"[:300]


def _read_only(data: bytes) -> int:
    """A descriptor to read these bytes from, which can't be written."""
    fd = os.memfd_create("stdin")
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    finally:
        os.close(fd)
