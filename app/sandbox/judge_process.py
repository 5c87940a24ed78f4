"""A judge process as the supervisor sees it: started with one problem's tests, asked for its word, ended."""

import signal
import socket
from typing import Any

from app.records import Problem
from app.sandbox.limits import FROM_OUTSIDE
from app.sandbox.marks import mark_assertions
from app.sandbox.process import Zygote, ZygoteError
from app.sandbox.wire import receive, send

CPU_SECONDS = 24 * 3600
START_SECONDS = 20.0
CRASHED = "crashed"
"""What comes instead of a status from a judge that died of what it was given."""


class Judge:
    """A judge process with one problem's tests loaded, as the supervisor sees it."""

    def __init__(self, zygote: Zygote, problem: Problem, memory_bytes: int) -> None:
        """Raises ZygoteError when it does not answer, BrokenTestsError for tests that can't tell right from wrong."""
        marked, _ = mark_assertions(problem.tests)
        self.problem = problem
        self._is_ended = False
        self.is_spent = False
        """Whether a program changed what its tests share with the next draft's."""
        fields = {name: getattr(problem, name) for name in ("style", "prelude", "setup", "entry_point")}
        fields |= {"tests": marked}
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.control.settimeout(START_SECONDS)
        try:
            self.process = zygote.spawn(
                "judge",
                [theirs.fileno()],
                memory_bytes=memory_bytes,
                cpu_seconds=CPU_SECONDS,
                send=lambda: send(self.control, fields),
            )
        except ZygoteError:
            self.control.close()
            raise
        finally:
            theirs.close()
        try:
            self.loaded: dict[str, Any] = receive(self.control)[0]
            """{"loaded": true}, {"unsplittable": why} or {"error": why}."""
        except (OSError, EOFError, ValueError) as error:
            self.close()
            raise ZygoteError(f"the judge did not load its tests: {error}") from None
        self.load_seconds = self.process.cpu_seconds()

    def word(self, nonce: str) -> tuple[str, str]:
        """Its message about a program: status and detail. Raises ZygoteError when somebody ended it."""
        try:
            answer = receive(self.control)[0]
        except (EOFError, OSError, ValueError):
            return self._epitaph()
        if answer["nonce"] != nonce:
            raise ZygoteError("the judge answered another question")
        self.is_spent = answer["spent"]
        return answer["status"], answer["detail"]

    def _epitaph(self) -> tuple[str, str]:
        """CRASHED for a judge that died of what it was given (a fault in C code), which others' signals are not."""
        ended_itself = self.process.has_ended(grace_s=1.0)
        self._is_ended = True
        ended = self.process.end()
        if not ended_itself or ended.signal in (0, signal.SIGXCPU, signal.SIGBUS, *FROM_OUTSIDE):
            raise ZygoteError(f"the judge ended (signal {ended.signal}, exit code {ended.code})")
        return CRASHED, f"the judge died of what the program sent (signal {ended.signal})"

    def close(self) -> None:
        self.control.close()
        if not self._is_ended:
            self._is_ended = True
            self.process.end()
