"""What the folders above a file say of it: whose code it is."""

import functools
from pathlib import Path

FOREIGN = ("site-packages", "dist-packages", "node_modules", "venv", "env")
VENDORED = (
    "_vendor",
    "vendor",
    "vendored",
    "_vendored",
    "third_party",
    "thirdparty",
    "thirdparty_files",
    "extern",
    "externals",
)


def vendored_in(path: str) -> str:
    """The folder that says that the file is a copy of other people's; empty where there is none."""
    return next((part for part in folders_of(path) if part in VENDORED + FOREIGN), "")


def folders_of(path: str) -> tuple[str, ...]:
    """The folders above a file, whichever slash they are written with."""
    above, slash, _ = path.replace("\\", "/").rpartition("/")
    return _parts(above + slash)


@functools.lru_cache(maxsize=4096)  # a folder's files come one after the other
def _parts(folder: str) -> tuple[str, ...]:
    return Path(folder).parts
