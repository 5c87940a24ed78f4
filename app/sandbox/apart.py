"""Supervisors in threads of another process, so that a model that draws in this one keeps Python's lock to itself.

What is to be done and what came of it go over one connection, pickled, as between processes of one program. The other
process ends when the connection does, however this one ends, and with it all that it started.

Limit: the work of `work_all`, its jobs and what comes of them have to be picklable, and not of `__main__`.
"""

import contextlib
import functools
import itertools
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future
from multiprocessing.connection import Connection
from threading import Lock, Thread
from typing import Any

from app.errors import UserError
from app.runs import REPOSITORY
from app.sandbox.local import Job, Judges, LocalJudges, Outcome
from app.sandbox.supervisor import Supervisor
from app.sandbox.tiers import Confinement
from app.settings import SandboxSettings

_MAIN = """
import sys
root, fd = sys.argv[1:]
sys.path.insert(0, root)
from app.sandbox.apart import serve
serve(int(fd))
"""


class JudgesApart(Judges):
    """An implementation of `records.Judge`. Close it, or use it with `contextlib.closing`.

    Where the other process ends too early, what waits for it raises UserError.
    """

    def __init__(self, settings: SandboxSettings, confined: Confinement) -> None:
        super().__init__(settings)
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _MAIN, str(REPOSITORY), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # an interrupt is this process's to act on
            )
        self._link = _Link(ours.detach())
        self._link.send((settings, confined))
        self._numbers = itertools.count()
        self._waiting: dict[int, Future[Any]] = {}
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def submit(self, work: Callable[[Supervisor, Job], Outcome], job: Job) -> Future[Outcome]:
        number, future = next(self._numbers), Future[Outcome]()
        self._waiting[number] = future
        try:
            self._link.send((number, work, job))
        except OSError:
            raise _ended() from None
        future.add_done_callback(functools.partial(self._forget, number))
        if not self._reader.is_alive():  # which has told the others
            raise _ended()
        return future

    def close(self) -> None:
        """What is under way comes to its end."""
        with contextlib.suppress(OSError):
            self._link.send(None)
        self._reader.join()
        self._process.wait()
        self._link.close()

    def _forget(self, number: int, future: Future[Any]) -> None:
        if self._waiting.pop(number, None) and future.cancelled():
            with contextlib.suppress(OSError):
                self._link.send((number, None, None))

    def _read(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                number, outcome, error = self._link.receive()
                future = self._waiting.pop(number, None)
                if future and future.set_running_or_notify_cancel():
                    future.set_exception(error) if error else future.set_result(outcome)
        for future in [*self._waiting.values()]:
            if future.set_running_or_notify_cancel():
                future.set_exception(_ended())


class _Link:
    """One end of the connection. Whole messages, from any thread."""

    def __init__(self, fd: int) -> None:
        self._connection, self._lock = Connection(fd), Lock()

    def send(self, message: Any) -> None:
        data = pickle.dumps(message)
        with self._lock:
            self._connection.send_bytes(data)

    def receive(self) -> Any:
        """Raises EOFError or OSError where the other end is closed."""
        return pickle.loads(self._connection.recv_bytes())

    def close(self) -> None:
        self._connection.close()


def serve(fd: int) -> None:
    """The other process: do what comes, until the connection ends."""
    link, waiting = _Link(fd), dict[int, Future[Any]]()

    def answer(number: int, future: Future[Any]) -> None:
        waiting.pop(number, None)
        if future.cancelled():
            return
        with contextlib.suppress(OSError):  # nobody listens any more
            try:
                error = future.exception()
                link.send((number, None if error else future.result(), error))
            except (pickle.PicklingError, TypeError, AttributeError) as unfit:
                link.send((number, None, RuntimeError(f"what came of it can't be sent: {unfit}")))

    settings, confined = link.receive()
    with contextlib.closing(LocalJudges(settings, confined)) as judges, contextlib.suppress(EOFError, OSError):
        while message := link.receive():
            number, work, job = message
            if work is not None:
                waiting[number] = judges.submit(work, job)
                waiting[number].add_done_callback(functools.partial(answer, number))
            elif number in waiting:
                waiting[number].cancel()


def _ended() -> UserError:
    return UserError("the process of the judges ended, most often for lack of memory: lower sandbox.num_workers")
