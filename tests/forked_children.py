"""What a forked worker spawns by multiprocessing, without its imports: a child that it forked before it was a worker.

vLLM spawns its engine from a worker of Ray, a process that imports for twelve seconds of a core before it loads a
model. It has to be the worker's child, since it ends with it, and a worker with its threads can't be forked any more.
So each worker has one child from its begin, which waits to be the first process that is spawned. Further ones are
spawned as usual.
"""

import atexit
import contextlib
import fcntl
import marshal
import os
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from multiprocessing import util

OUT_OF_THE_WAY = 900
"""More than the numbers of descriptors that are passed on."""


def fork_in_advance() -> None:
    """Fork that child, to be called while this process has one thread. It ends with this process."""
    ours, its = socket.socketpair(socket.AF_UNIX)
    pid = os.fork()
    if pid == 0:
        ours.close()
        _wait(its)
    its.close()
    usual = util.spawnv_passfds  # type: ignore[attr-defined]

    def forked(path: str, arguments: Sequence[str], passed: Sequence[int]) -> int:
        if "--multiprocessing-fork" not in arguments:  # multiprocessing's own helper
            return usual(path, arguments, passed)
        util.spawnv_passfds = usual  # type: ignore[attr-defined]
        asked = marshal.dumps((arguments[-2], list(passed), dict(os.environ)))
        with ours:
            socket.send_fds(ours, [len(asked).to_bytes(8, "big")], list(passed))
            ours.sendall(asked)
        return pid

    util.spawnv_passfds = forked  # type: ignore[attr-defined]


def _wait(its: socket.socket) -> None:
    """The child: from here on what is spawned, with nothing open but what is passed on to it."""
    length, fds, *_ = socket.recv_fds(its, 8, 16)
    if not length:
        os._exit(0)
    call, numbers, env = marshal.loads(its.recv(int.from_bytes(length, "big"), socket.MSG_WAITALL))
    with to_its_end():
        _take(fds, numbers)
        os.environ.clear()
        os.environ.update(env)
        sys.argv = ["-c", "--multiprocessing-fork"]
        exec(call, {})


@contextlib.contextmanager
def to_its_end(asker: socket.socket | None = None) -> Iterator[None]:
    """The block is all that is left of this process, which was forked: it ends as Python ends, and with its code, of
    which who asked for it is told."""
    code = 1
    try:
        yield
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        if asker:
            asker.sendall(bytes([code]))
        os._exit(code)


def _take(fds: Sequence[int], numbers: Sequence[int]) -> None:
    """Give descriptors these numbers, and close all others but the standard streams."""
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, OUT_OF_THE_WAY) for fd in fds]
    os.closerange(3, OUT_OF_THE_WAY)
    for fd, number in zip(high, numbers, strict=True):
        os.dup2(fd, number)
        os.close(fd)
