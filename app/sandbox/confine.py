"""Take rights away from the calling process: capabilities, files, network, system calls, resources.

Everything here is one-way and needs no privilege. What a zygote gives up its children never have; `confine_child` does
the rest after each fork. Linux only, through ctypes. Sources: landlock(7),
Documentation/userspace-api/landlock.rst, capabilities(7), prctl(2).
"""

import contextlib
import ctypes
import os
import resource
import select
import signal
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

from app.sandbox import seccomp
from app.sandbox.syscalls import number

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_SECCOMP_SET_MODE_FILTER = 1
_LANDLOCK_VERSION_FLAG, _LANDLOCK_PATH_BENEATH = 1, 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FS_RIGHTS_BY_ABI = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many file rights each version of Landlock knows, from bit 0; every later version is asked for these."""
_NET_RIGHTS, _SCOPES = 0b11, 0b11
"""Bind and connect over TCP (version 4); abstract sockets and signals outside (version 6)."""
_libc = ctypes.CDLL(None, use_errno=True)
_CAPSET = number("capset", seccomp.MACHINE)
_OF_THIS_PROCESS = ctypes.create_string_buffer(struct.pack("<Ii", 0x20080522, 0))  # version 3
_NONE = ctypes.create_string_buffer(24)


class Limits(NamedTuple):
    """What one process may use. Made from SandboxSettings; read by `confine_child`."""

    memory_bytes: int
    """Address space."""
    cpu_seconds: int
    """A backstop: the supervisor measures and decides before."""


def no_new_privileges() -> None:
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def hide_from_ptrace() -> None:
    """No other process of the user may look into this one or its children."""
    _prctl(_PR_SET_DUMPABLE, 0)


def drop_capabilities() -> None:
    """Root in name only: all capability sets of this process become empty."""
    if _libc.syscall(_CAPSET, _OF_THIS_PROCESS, _NONE) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def landlock_version() -> int:
    """The kernel's Landlock ABI, 0 without."""
    try:
        return _syscall("landlock_create_ruleset", None, ctypes.c_size_t(0), ctypes.c_uint32(_LANDLOCK_VERSION_FLAG))
    except (OSError, KeyError):
        return 0


def allow_reading_only(listed: Sequence[str], folders: Sequence[str], files: Sequence[str]) -> int:
    """Landlock: from now on these can be read, nothing else can be opened, nothing written, run or connected to.

    listed: folders whose names can be listed, all the way down, but no file of theirs read by that.

    Returns the version in force. Raises OSError where the kernel has no Landlock.
    """
    version = landlock_version()
    handled = (1 << _FS_RIGHTS_BY_ABI[max(1, min(version, 5))]) - 1
    attributes = struct.pack("<QQQ", handled, _NET_RIGHTS if version >= 4 else 0, _SCOPES if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = _syscall("landlock_create_ruleset", ctypes.c_char_p(attributes), ctypes.c_size_t(size), 0)
    try:
        for paths, rights in ((listed, _READ_DIR), (folders, _READ_FILE | _READ_DIR), (files, _READ_FILE)):
            for path in paths:
                _allow(ruleset, path, rights)
        _syscall("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)
    return version


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        target = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:  # a link out of what bubblewrap shows
        return
    try:
        rule = struct.pack("<Qi", rights, target)
        _syscall("landlock_add_rule", ruleset, _LANDLOCK_PATH_BENEATH, ctypes.c_char_p(rule), 0)
    finally:
        os.close(target)


class Filter:
    """A seccomp program, ready to be installed without further work."""

    def __init__(self, rules: Sequence[seccomp.Rule], default: int) -> None:
        self._code = ctypes.create_string_buffer(seccomp.assemble(rules, default))
        count = (len(self._code) - 1) // 8
        self._header = ctypes.create_string_buffer(struct.pack("@HxxxxxxQ", count, ctypes.addressof(self._code)))
        self._call = number("seccomp", seccomp.MACHINE)

    def install(self) -> None:
        """Raises OSError where the kernel has no seccomp."""
        if _libc.syscall(self._call, _SECCOMP_SET_MODE_FILTER, 0, self._header) != 0:
            raise OSError(ctypes.get_errno(), "seccomp refused the filter")


def confine_child(parent_ended: select.poll, keep_fds: int, limits: Limits, filter_: Filter | None) -> None:
    """Confine a process just forked: its own session, no capability, death with the parent, limits, the filter.

    Descriptors from `keep_fds` on are closed.

    parent_ended: polls the parent's pidfd. In a process namespace of its own a child sees no parent's id to compare.
    """
    os.setsid()
    drop_capabilities()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent_ended.poll(0):  # before that
        os._exit(1)
    os.closerange(keep_fds, 1 << 16)
    _limit(resource.RLIMIT_AS, limits.memory_bytes)
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_seconds, limits.cpu_seconds + 1))  # SIGXCPU, then SIGKILL
    if filter_ is not None:
        filter_.install()


def limit_resources() -> None:
    """The limits that are the same for every run, set in the zygote."""
    for kind, value in (
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 32),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_STACK, 64 << 20),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        _limit(kind, value)


def _limit(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def escapes() -> list[str]:
    """What this process can still do and should not: empty when the confinement works. For the report at start."""
    found = []
    for path in ("/", "/etc/passwd", "/proc/self/environ", "/dev/shm"):
        try:
            os.close(os.open(path, os.O_RDONLY))
            found.append(f"open {path}")
        except OSError:
            pass
    with contextlib.suppress(OSError):
        os.close(os.open("/escape", os.O_WRONLY | os.O_CREAT, 0o600))
        found.append("write /")
        os.unlink("/escape")
    for name, kind in (("TCP", socket.SOCK_STREAM), ("UDP", socket.SOCK_DGRAM)):
        try:
            socket.socket(socket.AF_INET, kind).close()
            found.append(name)
        except OSError:
            pass
    return found


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def _syscall(name: str, *arguments: object) -> int:
    result = _libc.syscall(number(name, seccomp.MACHINE), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result
