"""The supervisor's hold on a zygote and on the processes it spawns. Nothing here runs inside the sandbox."""

import contextlib
import dataclasses
import functools
import json
import os
import select
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Sequence

from app.records import Status
from app.runs import REPOSITORY
from app.sandbox.readable_paths import keep_in_memory, python_view

START_SECONDS = 20.0
ANSWER_SECONDS = 10.0
"""A zygote answers in a millisecond; a machine under heavy load gets this long."""
END_SECONDS = 2.0
STOPPED_SECONDS = 2.0
"""A process that was stopped (SIGSTOP, a debugger) and is not continued within this time is given up."""
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
_END = struct.Struct("@8xi12xi100x4qq")
"""How a process ended, as a zygote's `children.reap` sends it: si_code and si_status of siginfo_t, then ru_utime and
ru_stime (seconds, microseconds) and ru_maxrss (KiB) of struct rusage, as 64-bit machines have them."""
_CLD_EXITED = 1
_MEMORY_SHARE, _MEMORY_FLOOR = 8, 64 << 20
"""A process that held an eighth of its limit, and so much more than Python itself needs, may be why memory ran out."""


class ZygoteError(RuntimeError):
    """The sandbox itself failed; no program is to blame."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a process ended."""

    signal: int
    """0 when it exited by itself."""
    code: int
    cpu_seconds: float
    reached: Status | None = None
    """TIMEOUT or MEMORY: the limit of its own for which the kernel may have killed it."""


class Descriptors(contextlib.ExitStack):
    """Descriptors that are closed at the end, and also when a later one can't be opened."""

    def pipe_to(self, other: "Descriptors") -> tuple[int, int]:
        """A pipe's end to read, closed with these, and its end to write, closed with the others."""
        read, write = os.pipe()
        return self.keep(read), other.keep(write)

    def keep(self, fd: int) -> int:
        self.callback(os.close, fd)
        return fd


class Process:
    """A confined process, addressed by its pidfd, which can't come to mean another process."""

    def __init__(self, pidfd: int, zygote: "Zygote", memory_bytes: int, cpu_seconds: int) -> None:
        """memory_bytes and cpu_seconds: its limits."""
        self._zygote = zygote
        self._memory_bytes = memory_bytes
        self._cpu_seconds = cpu_seconds
        self._outer: int | None = None
        self._looked = self._stopped_since = time.monotonic()
        self._stopped_seconds = 0.0
        self.pidfd = pidfd

    def cpu_seconds(self) -> float:
        """CPU time used so far by all its threads; 0 when it is gone."""
        with contextlib.suppress(OSError):
            return time.clock_gettime(~self._outer_pid() << 3 | _CPU_CLOCK)
        return 0.0

    def num_threads(self) -> int:
        """0 when it is gone. Raises ZygoteError when it was found stopped for a while, which it can't do to itself."""
        with contextlib.suppress(OSError, IndexError), open(f"/proc/{self._outer_pid()}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
            self._note_stop(fields[0] in "Tt")
            return int(fields[17])
        return 0

    def _note_stop(self, is_stopped: bool) -> None:
        now = time.monotonic()
        if is_stopped:
            self._stopped_seconds += now - self._looked
            if now - self._stopped_since > STOPPED_SECONDS:
                raise ZygoteError("a process of the sandbox was stopped from outside")
        else:
            self._stopped_since = now
        self._looked = now

    def waited_seconds(self) -> float:
        """How long its main thread was stopped, or ready and got no core, which not every kernel counts."""
        with contextlib.suppress(OSError, IndexError, ValueError), open(f"/proc/{self._outer_pid()}/schedstat") as file:
            return self._stopped_seconds + int(file.read().split()[1]) / 1e9
        return self._stopped_seconds

    def has_ended(self, grace_s: float = 0.0) -> bool:
        """Whether it ended by itself, now or within the grace."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(grace_s * 1000))

    def end(self) -> Exit:
        """Kill it unless it has ended, and wait. Raises ZygoteError."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        try:
            ended = self._zygote.reap(self.pidfd)
        finally:
            os.close(self.pidfd)
            self._outer = 0
        kind, status, user_s, user_us, system_s, system_us, resident_kib = _END.unpack_from(ended)
        if kind == 0:
            raise ZygoteError("the zygote has no such child")
        cpu_seconds = user_s + system_s + (user_us + system_us) / 1e6
        reached = None
        if cpu_seconds >= self._cpu_seconds:
            reached = Status.TIMEOUT
        elif resident_kib << 10 >= max(self._memory_bytes // _MEMORY_SHARE, _MEMORY_FLOOR):
            reached = Status.MEMORY
        ended_by, code = (0, status) if kind == _CLD_EXITED else (status, 0)
        return Exit(signal=ended_by, code=code, cpu_seconds=cpu_seconds, reached=reached)

    def _outer_pid(self) -> int:
        """Its pid as this process counts."""
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
        _warm_files()
        self._popen: subprocess.Popen[bytes] | None = None
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
        settings = dataclasses.asdict(view) | {"landlock": landlock, "seccomp": seccomp}
        settings["own_mounts"] = seccomp and not wrapper  # bubblewrap makes some
        settings["paths"] = [*view.listed, *view.folders, *view.files]
        try:
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
            self._control.send(json.dumps(settings).encode())
            self.report = json.loads(self._receive())
            """What is in force: Landlock's version, seccomp, mounts and namespaces of its own, and what a probe could
            still do ("escapes")."""
            if "error" in self.report:
                raise ZygoteError(f"the {role} zygote did not start: {self.report['error']}")
            self._control.settimeout(ANSWER_SECONDS)
        except BaseException:
            self.close()
            raise

    def spawn(
        self,
        run: str,
        fds: Sequence[int],
        *,
        memory_bytes: int,
        cpu_seconds: int,
        send: Callable[[], None] = lambda: None,
    ) -> Process:
        """A child that does `run` (zygote.RUNS) with these descriptors as 3, 4, ..., and of a script's as 0, 1, 2.

        The standard streams that are not given are a /dev/null opened for this child alone: whoever shares what is
        open can leave flags on it. send: gives the zygote, over one of them, what it reads before it forks. Raises
        ZygoteError.
        """
        message = {"run": run, "memory_bytes": memory_bytes, "cpu_seconds": cpu_seconds}
        null = open_null()
        try:
            socket.send_fds(self._control, [json.dumps(message).encode()], [*fds, null])
            send()
            data, pidfds, _, _ = socket.recv_fds(self._control, 4096, 1)
        except OSError as error:
            raise ZygoteError(f"the zygote is gone: {error}") from None
        finally:
            os.close(null)
        if not data:
            raise ZygoteError("the zygote is gone")
        if not pidfds:
            raise ZygoteError(data.decode())
        return Process(pidfds[0], self, memory_bytes, cpu_seconds)

    def reap(self, pidfd: int) -> bytes:
        """How the child ended. Raises ZygoteError."""
        try:
            socket.send_fds(self._control, [b'{"run": "reap"}'], [pidfd])
        except OSError as error:
            raise ZygoteError(f"the zygote is gone: {error}") from None
        return self._receive()

    def close(self) -> None:
        """End it, and with it every child that it still has."""
        self._control.close()  # at which it ends by itself, and a wrapper with it
        if self._popen is None:
            return
        try:
            self._popen.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()

    @property
    def pid(self) -> int:
        assert self._popen is not None
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


def open_null() -> int:
    """A descriptor of /dev/null, opened anew at each call."""
    return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)


@functools.cache
def _warm_files() -> None:
    keep_in_memory(python_view())
