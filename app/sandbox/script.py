"""Run a program once as a script, with a given standard input, and return what it printed and how it ended.

Nothing is compared here: `app.sandbox.stdio` holds outputs against the expected ones, the IDE shows them.
"""

import contextlib
import dataclasses
import os
import select
import time

from app.records import Status
from app.sandbox.limits import Clock, classify, send_timed
from app.sandbox.process import Descriptors, Process, Spawn
from app.sandbox.values import WireError
from app.sandbox.wire import Frames, pack

OUTPUT_BYTES = 64 << 10
"""Bytes of standard output and standard error together, where the caller names no other cap."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ScriptRun:
    """One run of a script. Made by `run_script`; read by the stdio judge and the IDE.

    Example: ScriptRun(status=Status.RUNTIME_ERROR, output="1\\n", errors="Traceback ...", cpu_seconds=0.01,
                       detail="ZeroDivisionError: division by zero", wall_seconds=0.02, tier="A")
    """

    status: Status
    """PASSED says that it ran to its end and exited with code 0, nothing about what it printed."""
    output: str
    """What came of standard output; with OUTPUT_LIMIT, up to the cap."""
    errors: str
    """Standard error, which ends with the traceback of an exception; empty for a run that is not interactive."""
    detail: str
    """The exception's last line, or which limit ended it; empty for PASSED."""
    cpu_seconds: float
    wall_seconds: float
    tier: str = ""
    """How the program was confined (`app.sandbox.tiers`); the supervisor fills it in."""


def run_script(
    source: str, given: str, spawn: Spawn, timeout_s: float, *, cap: int = OUTPUT_BYTES, interactive: bool = False
) -> ScriptRun:
    """Run it within timeout_s of CPU time, with `given` as standard input.

    interactive: keep standard error, and pass lines on as they are printed, so that they are there when a limit ends
    the program. Raises ZygoteError.
    """
    start = time.monotonic()
    with Descriptors() as ours:
        with Descriptors() as theirs:
            stdin = theirs.keep(_read_only(given.encode("utf-8", "replace")))
            read_request, write_request = theirs.pipe_to(ours)
            read_response, write_response = ours.pipe_to(theirs)
            read_output, write_output = ours.pipe_to(theirs)
            read_errors, write_errors = ours.pipe_to(theirs)
            fds = [read_request, write_response, stdin, write_output]
            process = spawn("script", [*fds, write_errors] if interactive else fds)
        printed: dict[int, bytearray] = {read_output: bytearray(), read_errors: bytearray()}
        clock = Clock(timeout_s, [process])
        try:
            with contextlib.suppress(BrokenPipeError):
                send_timed(write_request, pack({"id": 0, "program": source, "interactive": interactive}), clock)
            word, why = _read_printed(printed, process, clock, cap)
        except TimeoutError:
            word, why = clock.status, clock.why
        finally:
            killed_here = not process.has_ended()
            ended = process.end()
        word, why = (word, why) if word else _said(read_response, ended.code)
        if not word and ended.signal:
            word, why = "died", "the program ended"
        elif not word:
            word, why = ("runtime_error", f"exit code {ended.code}") if ended.code else ("passed", "")
    status, detail = classify(word, why, ended, killed_here)
    output, errors = (bytes(data[:cap]).decode("utf-8", "replace") for data in printed.values())
    return ScriptRun(
        status=status,
        output=output,
        errors=errors,
        detail=detail,
        cpu_seconds=ended.cpu_seconds,
        wall_seconds=time.monotonic() - start,
    )


def _read_printed(printed: dict[int, bytearray], process: Process, clock: Clock, cap: int) -> tuple[str, str]:
    """Fill the buffers from their descriptors until the process has ended; or the status of why reading stopped."""
    poll = select.poll()
    for fd in (*printed, process.pidfd):
        poll.register(fd, select.POLLIN)
    open_ends = len(printed) + 1
    while open_ends:
        seconds = clock.remaining()
        if seconds <= 0:
            return clock.status, clock.why
        for ready, _ in poll.poll(int(seconds * 1000) + 1):
            data = os.read(ready, 1 << 16) if ready in printed else b""
            if not data:
                poll.unregister(ready)
                open_ends -= 1
            else:
                printed[ready] += data
        if sum(map(len, printed.values())) > cap:
            return "output_limit", f"more than {cap} bytes of output"
    return "", ""


def _said(fd: int, code: int) -> tuple[str, str]:
    """The exception that a script reported before it exited, if it did."""
    if not code:
        return "", ""
    try:
        answer = Frames(fd, fd).receive()
        base, name, text = map(str, answer["error"][:3])
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
