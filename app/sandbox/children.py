"""Fork and reap the children of a zygote so that nothing of one child is left for the next.

A child starts with a copy of the zygote's memory, so the zygote must not come to know how another child fared. Exit
status, CPU time and process id of a child never become Python objects there: the kernel writes them into a buffer,
which is sent to the supervisor as it is and wiped. A child can also be given namespaces of its own, in which it has
process id 1 and no other process can be named: ids are handed out in order, and a counter is a memory.
Sources: clone(2), waitid(2), pid_namespaces(7), user_namespaces(7); os.fork of CPython, Modules/posixmodule.c.
"""

import ctypes
import os
import signal
import socket

from app.sandbox import seccomp
from app.sandbox.syscalls import number

_CLONE_PIDFD, _CLONE_NEWUSER, _CLONE_NEWPID = 0x1000, 0x10000000, 0x20000000
_P_PIDFD, _WEXITED = 3, 4
_SIGINFO_BYTES, _USAGE_BYTES = 128, 144

_python = ctypes.PyDLL(None, use_errno=True)  # keeps the interpreter's lock during the call, as a fork must
_before, _after, _after_in_child = (
    _python.PyOS_BeforeFork,
    _python.PyOS_AfterFork_Parent,
    _python.PyOS_AfterFork_Child,
)
_syscall = _python.syscall
_syscall.restype = None  # a result would be the new process's id
_CLONE, _WAITID = (number(name, seccomp.MACHINE) for name in ("clone", "waitid"))
_pidfd = ctypes.c_int()
_ended = (ctypes.c_char * (_SIGINFO_BYTES + _USAGE_BYTES))()
_usage = ctypes.byref(_ended, _SIGINFO_BYTES)


def fork(*, own_namespaces: bool) -> int | None:
    """None in the child, the child's pidfd in this process. Raises OSError.

    own_namespaces: a user and a process namespace for the child, who is then alone in the latter, and has all
    capabilities in the former, which it has to drop.
    """
    flags = _CLONE_PIDFD | signal.SIGCHLD | (_CLONE_NEWUSER | _CLONE_NEWPID if own_namespaces else 0)
    this = os.getpid()
    _pidfd.value = -1
    ctypes.set_errno(0)
    _before()
    _syscall(_CLONE, ctypes.c_long(flags), None, ctypes.byref(_pidfd), None, None)
    if os.getpid() != this:
        _after_in_child()
        return None
    _after()
    if _pidfd.value < 0:
        raise OSError(ctypes.get_errno(), "clone")
    return _pidfd.value


def can_have_namespaces() -> bool:
    """Whether this kernel gives a child namespaces of its own, found by trying."""
    try:
        child = fork(own_namespaces=True)
    except OSError:
        return False
    if child is None:
        os._exit(0)
    _wait(child)
    os.close(child)
    return True


def reap(pidfd: int, control: socket.socket) -> None:
    """Wait for a child and send how it ended: siginfo_t and rusage, for `process.Process`. Keep nothing of it."""
    _wait(pidfd)
    control.send(_ended)
    ctypes.memset(_ended, 0, len(_ended))


def _wait(pidfd: int) -> None:
    _syscall(_WAITID, _P_PIDFD, pidfd, _ended, _WEXITED, _usage)
