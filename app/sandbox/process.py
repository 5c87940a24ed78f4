"""The supervisor's hold on a zygote and on the processes it spawns. Nothing here runs inside the sandbox."""

import contextlib
import dataclasses
import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence

from app.runs import REPOSITORY
from app.sandbox.view import python_view

START_SECONDS = 20.0
ANSWER_SECONDS = 10.0
"""A zygote answers in a millisecond; a machine under heavy load gets this long."""
END_SECONDS = 2.0
_MAIN = """
import sys
root, control_fd, role = sys.argv[1:]
sys.argv[1:] = []
sys.path.insert(0, root)
from app.sandbox.zygote import main
main(int(control_fd), role)
"""
_CPU_CLOCK = 2
"""CPUCLOCK_SCHED of the kernel's dynamic clock ids: the CPU time of a process."""


class ZygoteError(RuntimeError):
    """The sandbox itself failed; no program is to blame."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a process ended."""

    signal: int
    """0 when it exited by itself."""
    code: int
    cpu_seconds: float


class Process:
    """A confined process, addressed by its pidfd, which can't come to mean another process."""

    def __init__(self, pid: int, pidfd: int, zygote: "Zygote") -> None:
        self._pid = pid
        self._zygote = zygote
        self._outer: int | None = None if zygote.in_namespace else pid
        self.pidfd = pidfd

    def cpu_seconds(self) -> float:
        """CPU time used so far by all its threads; 0 when it is gone."""
        with contextlib.suppress(OSError):
            return time.clock_gettime(~self._outer_pid() << 3 | _CPU_CLOCK)
        return 0.0

    def num_threads(self) -> int:
        """0 when it is gone."""
        with contextlib.suppress(OSError, IndexError), open(f"/proc/{self._outer_pid()}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[17])
        return 0

    def waited_seconds(self) -> float:
        """How long its main thread was ready and got no core; 0 where the kernel does not count that."""
        with contextlib.suppress(OSError, IndexError, ValueError), open(f"/proc/{self._outer_pid()}/schedstat") as file:
            return int(file.read().split()[1]) / 1e9
        return 0.0

    def has_ended(self, grace_s: float = 0.0) -> bool:
        """Whether it ended by itself, now or within the grace."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(grace_s * 1000))

    def end(self) -> Exit:
        """Kill it unless it has ended, and wait."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        try:
            return self._zygote.reap(self._pid)
        finally:
            os.close(self.pidfd)

    def _outer_pid(self) -> int:
        """Its pid as this process counts; in a pid namespace the zygote's count is another."""
        if self._outer is None:
            with open(f"/proc/self/fdinfo/{self.pidfd}") as file:
                self._outer = next(int(line.split()[1]) for line in file if line.startswith("Pid:"))
        if self._outer <= 0:
            raise ProcessLookupError("the process has ended")
        return self._outer


Spawn = Callable[[str, Sequence[int]], Process]
"""Starts what a zygote's children do, with these descriptors."""


class Zygote:
    """One zygote, for one role: "candidate" or "judge"."""

    def __init__(self, role: str, *, landlock: bool, seccomp: bool, wrapper: Sequence[str] = ()) -> None:
        """wrapper: a command line to run it in, bubblewrap's. Raises ZygoteError when it does not come up."""
        view = python_view()
        self.in_namespace = bool(wrapper)
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(START_SECONDS)
        code = [
            view.interpreter,
            "-s",
            "-S",
            "-P",
            "-X",
            "no_debug_ranges",
            "-c",
            _MAIN,
            str(REPOSITORY),
            str(theirs.fileno()),
            role,
        ]
        with theirs:
            self._popen = subprocess.Popen(
                [*wrapper, *code],
                env={"PYTHONHASHSEED": "0"},  # so that a program's sets have one order
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        settings = dataclasses.asdict(view) | {"landlock": landlock, "seccomp": seccomp}
        self._control.send(json.dumps(settings).encode())
        self.report = json.loads(self._receive())
        """What is in force: Landlock's version, seccomp, and what a probe could still do ("escapes")."""
        if "error" in self.report:
            self.close()
            raise ZygoteError(f"the {role} zygote did not start: {self.report['error']}")
        self._control.settimeout(ANSWER_SECONDS)

    def spawn(
        self,
        run: str,
        fds: Sequence[int],
        *,
        memory_bytes: int,
        cpu_seconds: int,
        send: Callable[[], None] = lambda: None,
    ) -> Process:
        """A child that does `run` (zygote.RUNS) with these descriptors as 3, 4, ...

        send: gives the zygote, over one of them, what it reads before it forks. Raises ZygoteError.
        """
        message = {"run": run, "memory_bytes": memory_bytes, "cpu_seconds": cpu_seconds}
        try:
            socket.send_fds(self._control, [json.dumps(message).encode()], fds)
            send()
            data, pidfds, _, _ = socket.recv_fds(self._control, 4096, 1)
        except OSError as error:
            raise ZygoteError(f"the zygote is gone: {error}") from None
        if not data:
            raise ZygoteError("the zygote is gone")
        if not pidfds:
            raise ZygoteError(data.decode())
        return Process(int(data), pidfds[0], self)

    def reap(self, pid: int) -> Exit:
        try:
            self._control.send(json.dumps({"reap": pid}).encode())
        except OSError as error:
            raise ZygoteError(f"the zygote is gone: {error}") from None
        status, cpu_seconds = json.loads(self._receive())
        code = os.waitstatus_to_exitcode(status)
        return Exit(signal=max(0, -code), code=max(0, code), cpu_seconds=cpu_seconds)

    def close(self) -> None:
        """End it, and with it every child that it still has."""
        self._control.close()  # at which it ends by itself, and a wrapper with it
        try:
            self._popen.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()

    @property
    def pid(self) -> int:
        return self._popen.pid

    def _receive(self) -> bytes:
        try:
            data = self._control.recv(1 << 16)
        except OSError as error:
            self.close()
            raise ZygoteError(f"the zygote does not answer: {error}") from None
        if not data:
            self.close()
            raise ZygoteError("the zygote is gone")
        return data
