"""Limits held from outside a process, and how its end is read."""

import math
import os
import select
import signal
import time
from collections.abc import Sequence

from app.records import Status
from app.sandbox.process import Exit, Process, ZygoteError
from app.sandbox.wire import Frames

LOOK_SECONDS = 0.02
MAX_THREADS = 256
"""Threads of one program. The kernel counts processes by user only, so this is looked at every LOOK_SECONDS."""
WALL_FACTOR = 4
"""Wall seconds allowed for each second of CPU time."""
CLOSED = "the program closed its channel"
ABSENT_SECONDS = 1.0
"""Between two looks of LOOK_SECONDS: whoever looks was stopped itself, or got no core."""
FROM_OUTSIDE = (
    signal.SIGKILL,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
"""What people and machines end processes with. No program here can send one, not even to itself."""


class Clock:
    """The time limits of one run. CPU time decides; the wall limit catches a program that sleeps."""

    def __init__(self, timeout_s: float, processes: Sequence[Process], used: float = 0.0) -> None:
        """used: seconds to add to the processes' CPU time; negative for what a process used before."""
        self._timeout_s = timeout_s
        self._processes = processes
        self._used = used
        self._wall = WALL_FACTOR * timeout_s
        self._looked = time.monotonic()
        self._deadline = self._looked + self._wall
        self._extended = False
        self._has_begun = False
        self.status = Status.TIMEOUT
        self.why = ""

    def remaining(self) -> float:
        """Seconds until it is worth looking again; 0 when it must end, and `status` and `why` say for which limit.

        Raises ZygoteError when a process was stopped from outside, or the wall limit is over and it got no core.
        """
        now = time.monotonic()
        if now - self._looked > ABSENT_SECONDS:
            self._deadline += now - self._looked
        self._looked = now
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
        wall = self._deadline - now
        if wall <= 0 and not self._extended:
            self._extended = True
            waited = sum(process.waited_seconds() for process in self._processes)
            if waited > self._wall / 2:  # ready to run and given no core: the machine is loaded, or it was stopped
                self._deadline += self._wall
                wall += self._wall
        if wall <= 0:
            self.why = f"more than {self._wall:g} s of wall time"
            if sum(process.waited_seconds() for process in self._processes) > self._wall:  # of twice as much by now
                raise ZygoteError(f"{self.why}, most of it without a core")
            return 0.0
        return max(0.001, min(wall, self._timeout_s - cpu_seconds, LOOK_SECONDS))


def wait_readable(fd: int, clock: Clock, event: int = select.POLLIN) -> bool:
    """Whether the descriptor became readable (with POLLOUT: writable), or its other end closed, in time."""
    poll = select.poll()
    poll.register(fd, event)
    while (seconds := clock.remaining()) > 0:
        if poll.poll(math.ceil(seconds * 1000)):
            return True
    return False


def send_timed(fd: int, data: bytes, clock: Clock) -> None:
    """Write to a process that may never read. Raises TimeoutError, or BrokenPipeError when it has ended."""
    os.set_blocking(fd, False)
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            if not wait_readable(fd, clock, select.POLLOUT):
                raise TimeoutError(clock.why) from None


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

    word: a status; "died" means that the channel closed. killed_here: it was still alive after that. Raises ZygoteError
    for a program that somebody killed: neither this process, nor the kernel for a limit that the program had reached.
    """
    if ended.signal == signal.SIGSYS:
        return Status.VIOLATION, "a forbidden system call"
    if word != "died":
        return Status(word), detail
    if ended.signal == signal.SIGXCPU:
        return Status.TIMEOUT, "the kernel's CPU limit"
    if killed_here and ended.signal == signal.SIGKILL:
        return Status.DIED, CLOSED
    if ended.signal == signal.SIGKILL and ended.reached:
        return ended.reached, "killed by the kernel"
    if ended.signal in FROM_OUTSIDE:
        raise ZygoteError(f"the program was killed from outside ({signal.Signals(ended.signal).name})")
    how = f"signal {ended.signal}" if ended.signal else f"exit code {ended.code}"
    return Status.DIED, f"{detail} ({how})"
