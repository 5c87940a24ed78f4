"""Where an export is put: a folder that is there whole or not at all, on a disk that has room for it."""

import contextlib
import errno
import glob
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from app.errors import UserError
from app.files.errors import FULL
from app.models.sizes import GIB

SPARE_BYTES = 64 << 20
"""For the tokenizer, the card and what file systems take for themselves."""


def check_target(target: Path) -> None:
    """Raise UserError for a place that holds anything: an export replaces nothing."""
    if target.is_dir() and not any(target.iterdir()):
        return
    if target.exists():
        raise UserError(
            f"{target} is there already, and an export replaces nothing: remove it, or give another --out DIR"
        )


def check_room(target: Path, num_bytes: int) -> None:
    """Raise UserError where the disk of `target` has no room for this much."""
    there = next(folder for folder in (target, *target.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if num_bytes + SPARE_BYTES > free:
        raise UserError(
            f"the export takes {num_bytes / GIB:.1f} GiB, and {there} has {free / GIB:.1f} GiB left: free space, or "
            "give another --out DIR"
        )


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder beside `target` to fill, which becomes `target` at the end and is removed after an error. What exports
    that were killed left there is removed too. Raises UserError for a full disk, and where another was faster."""
    check_target(target)
    _remove_left(target)
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        beside.mkdir(parents=True)
        yield beside
        for path in (*beside.rglob("*"), beside):
            if path.is_file():  # safetensors' are for their owner alone
                path.chmod(0o666 & ~_umask())
            _sync(path)
        check_target(target)
        beside.rename(target)
        _sync(target.parent)
    except OSError as error:
        if error.errno in FULL:
            raise UserError(
                f"{target} can't be written ({error.strerror}): free space, or give another --out"
            ) from None
        if error.errno == errno.ENOTEMPTY:
            check_target(target)
        raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _remove_left(target: Path) -> None:
    for folder in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        pid = folder.name.removesuffix(".tmp").rpartition(".")[2]
        if pid == str(os.getpid()) or pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(folder, ignore_errors=True)


def _umask() -> int:
    before = os.umask(0)
    os.umask(before)
    return before


def _sync(path: Path) -> None:
    """To disk, before the name says that all is there."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
