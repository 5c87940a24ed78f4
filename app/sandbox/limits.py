"""Limits held from outside a process, and how its end is read."""

import math
import select
import signal
import time
from collections.abc import Sequence

from app.records import Status
from app.sandbox.process import Exit, Process
from app.sandbox.wire import Frames

LOOK_SECONDS = 0.02
MAX_THREADS = 256
"""Of one program. The kernel counts processes by user only, so this is looked at every LOOK_SECONDS."""
WALL_FACTOR = 4
"""Wall seconds allowed for each second of CPU time."""
CLOSED = "the program closed its channel"


class Clock:
    """The time limits of one run. CPU time decides; the wall limit catches a program that sleeps."""

    def __init__(self, timeout_s: float, processes: Sequence[Process], used: float = 0.0) -> None:
        """used: seconds to add to the processes' CPU time; negative for what a process used before."""
        self._timeout_s = timeout_s
        self._processes = processes
        self._used = used
        self._wall = WALL_FACTOR * timeout_s
        self._deadline = time.monotonic() + self._wall
        self._extended = False
        self._has_begun = False
        self.status = Status.TIMEOUT
        self.why = ""

    def remaining(self) -> float:
        """Seconds until it is worth looking again; 0 when it must end, and `status` and `why` say for which limit."""
        if not self._has_begun:  # most programs end before anything has to be measured
            self._has_begun = True
            return min(self._timeout_s, LOOK_SECONDS)
        if max(process.num_threads() for process in self._processes) > MAX_THREADS:
            self.status, self.why = Status.MEMORY, f"more than {MAX_THREADS} threads"
            return 0.0
        cpu_seconds = self._used + sum(process.cpu_seconds() for process in self._processes)
        if cpu_seconds >= self._timeout_s:
            self.why = f"more than {self._timeout_s:g} s of CPU time"
            return 0.0
        wall = self._deadline - time.monotonic()
        if wall <= 0 and not self._extended:
            self._extended = True
            waited = sum(process.waited_seconds() for process in self._processes)
            if waited > self._wall / 2:  # ready to run and given no core: the machine is loaded
                self._deadline += self._wall
                wall += self._wall
        if wall <= 0:
            self.why = f"more than {self._wall:g} s of wall time"
            return 0.0
        return max(0.001, min(wall, self._timeout_s - cpu_seconds, LOOK_SECONDS))


def wait_readable(fd: int, clock: Clock) -> bool:
    """Whether the descriptor became readable (or its other end closed) before the time was up."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while (seconds := clock.remaining()) > 0:
        if poll.poll(math.ceil(seconds * 1000)):
            return True
    return False


class TimedFrames(Frames):
    """Frames of a program that may never end the one it began."""

    def __init__(self, read_fd: int, write_fd: int, clock: Clock) -> None:
        super().__init__(read_fd, write_fd)
        self._clock = clock

    def _fill(self) -> None:
        if not wait_readable(self._read_fd, self._clock):
            raise TimeoutError(self._clock.why)
        super()._fill()


def classify(word: str, detail: str, ended: Exit, killed_here: bool) -> tuple[Status, str]:
    """A verdict of what was said about a program and how its process ended, which a dying program can't colour.

    word: a status; "died" means that the channel closed. killed_here: it was still alive after that.
    """
    if ended.signal == signal.SIGSYS:
        return Status.VIOLATION, "a forbidden system call"
    if word != "died":
        return Status(word), detail
    if ended.signal == signal.SIGXCPU:
        return Status.TIMEOUT, "the kernel's CPU limit"
    if ended.signal == signal.SIGKILL:
        return (Status.DIED, CLOSED) if killed_here else (Status.MEMORY, "killed by the kernel")
    how = f"signal {ended.signal}" if ended.signal else f"exit code {ended.code}"
    return Status.DIED, f"{detail} ({how})"
