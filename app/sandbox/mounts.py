"""A mount namespace of a zygote's own, where the kernel lets it have one: everything read-only, most folders hidden.

Through a read-only mount no time of access is written, not even that of a link on the way. Folders that hold nothing a
program reads are covered by empty ones: /proc and /sys above all, whose entries keep the moment at which somebody first
looked them up, so that a program could leave a bit there with each look. Bubblewrap does more where it is installed.
Sources: mount_namespaces(7), user_namespaces(7), mount_setattr(2).
"""

import ctypes
import os
import struct
from collections.abc import Sequence

from app.sandbox import seccomp
from app.sandbox.syscalls import number

_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 1, 2, 4, 8, 0x4000, 1 << 18
_AT_FDCWD, _AT_RECURSIVE, _MOUNT_ATTR_RDONLY = -100, 0x8000, 1
_libc = ctypes.CDLL(None, use_errno=True)


def hide_all_but(kept: Sequence[str]) -> bool:
    """Leave the machine's mounts for a read-only copy that shows the top folders of these paths only.

    False where the kernel refuses (a container, mostly), which leaves the mounts as they are. Before capabilities are
    dropped.
    """
    try:
        try:
            _enter_user_namespace()
        except OSError:  # they are switched off; root may do without
            _call("unshare", _CLONE_NEWNS)
        _call("mount", None, b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None)
        read_only = ctypes.c_char_p(struct.pack("@4Q", _MOUNT_ATTR_RDONLY, 0, 0, 0))
        _call("mount_setattr", _AT_FDCWD, b"/", _AT_RECURSIVE, read_only, ctypes.c_size_t(32))
        shown = {place.split("/")[1] for path in kept for place in (path, os.path.realpath(path))}
        flags = ctypes.c_ulong(_MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
        for entry in list(os.scandir("/")):
            if entry.is_dir(follow_symlinks=False) and entry.name not in shown:
                _call("mount", b"none", os.fsencode(entry.path), b"tmpfs", flags, b"size=4k,nr_inodes=2,mode=755")
    except (OSError, KeyError):
        return False
    return True


def _enter_user_namespace() -> None:
    """With a mount namespace, and with this user under its own number, without which no child may have its own."""
    user, group = os.geteuid(), os.getegid()
    _call("unshare", _CLONE_NEWUSER | _CLONE_NEWNS)
    for name, line in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(line)


def _call(name: str, *arguments: object) -> None:
    if _libc.syscall(number(name, seccomp.MACHINE), *arguments) != 0:
        raise OSError(ctypes.get_errno(), name)
