"""Where a Ray that is started here keeps its sockets, token and objects, on machines whose usual places won't do."""

import atexit
import contextlib
import os
import secrets
import tempfile
from pathlib import Path

from app.errors import UserError
from app.files.home import home
from app.progress import say

LONGEST_SOCKET = 107
"""Bytes of a path that the kernel takes for a socket (sun_path of unix(7), less the end)."""
BELOW = "/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""What Ray puts below its temporary folder, at its longest: the number is the largest process id."""
VLLM_SOCKET = "/00000000-0000-0000-0000-000000000000"
USUAL = ("/tmp", "/var/tmp", "/dev/shm")


def choose_temporary_folder() -> None:
    """Set RAY_TMPDIR, and vLLM's folder for sockets, where the paths below the usual one would be too long.

    Raises UserError for an own RAY_TMPDIR that is too long or can't be written, and where no folder will do.
    """
    if named := os.environ.get("RAY_TMPDIR"):
        if not _is_short(named, BELOW):
            raise UserError(
                f"RAY_TMPDIR={named!r} is too long for Ray's sockets: at most {LONGEST_SOCKET - len(BELOW)} bytes will "
                "do, for example RAY_TMPDIR=/tmp"
            )
        if not _is_writable(named):
            raise UserError(f"RAY_TMPDIR={named!r} can't be written: set it to a folder that can, for example /tmp")
        return
    usual = os.environ.get("TMPDIR") or "/tmp"
    chosen = next((place for place in (usual, *USUAL) if _is_short(place, BELOW) and _is_writable(place)), None)
    if chosen is None:
        raise UserError(
            f"TMPDIR={usual!r} can't hold Ray's sockets, nor can {', '.join(USUAL)}: set RAY_TMPDIR to a folder that "
            f"can be written, of at most {LONGEST_SOCKET - len(BELOW)} bytes"
        )
    if chosen != usual:
        say(f"TMPDIR={usual!r} can't hold Ray's sockets: they lie in {chosen} (RAY_TMPDIR chooses another folder)")
        os.environ["RAY_TMPDIR"] = chosen
    if not _is_short(tempfile.gettempdir(), VLLM_SOCKET):
        os.environ.setdefault("VLLM_RPC_BASE_PATH", chosen)


def object_store_folder(num_bytes: int) -> str | None:
    """Where Ray's object store is to lie; None: in shared memory, as usual. num_bytes: its size.

    Ray fails without /dev/shm, and a container often has one of 64 MiB. A file on disk holds the same, slower."""
    free = _free_bytes("/dev/shm")
    if free is not None and free >= num_bytes:
        return None
    has = "this machine has no /dev/shm" if free is None else f"/dev/shm has {free >> 20} MiB free"
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    say(f"{has}: Ray's object store lies in {folder} (for a container --shm-size=2g is faster)")
    return folder


def _free_bytes(folder: str) -> int | None:
    try:
        there = os.statvfs(folder)
    except OSError:
        return None
    return there.f_bsize * there.f_bavail


def _is_short(place: str, below: str) -> bool:
    return len(os.fsencode(place.rstrip("/"))) + len(below) <= LONGEST_SOCKET


def _is_writable(place: str) -> bool:
    """Whether Ray's folder is there, or can be made, and holds a file of this user's."""
    folder = Path(place) / "ray"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def make_private_token() -> None:
    """A token of this user's for Ray, which would write a missing one for all to read.

    Where the home directory can't be used, the token ends with this process.
    """
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    try:
        token = home() / ".ray" / "auth_token"
        if not token.exists():
            _write_token(token)
        token.read_bytes()
    except (OSError, UserError):
        handle, name = tempfile.mkstemp(prefix="pocketcoder-token-")
        with open(handle, "w") as file:
            file.write(secrets.token_hex(32))
        atexit.register(_remove, name)
        os.environ["RAY_AUTH_TOKEN_PATH"] = name
        say(f"the home directory can't keep Ray's token: the one of this time is in {name}")


def _write_token(token: Path) -> None:
    token.parent.mkdir(parents=True, exist_ok=True)
    whole = token.with_name(f".auth_token.{os.getpid()}")
    whole.touch(mode=0o600)
    whole.write_text(secrets.token_hex(32))
    with contextlib.suppress(FileExistsError):  # another process was first: its token counts
        os.link(whole, token)
    whole.unlink()


def _remove(name: str) -> None:
    os.environ.pop("RAY_AUTH_TOKEN_PATH", None)
    Path(name).unlink(missing_ok=True)
