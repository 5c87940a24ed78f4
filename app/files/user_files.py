"""Paths that a user types."""

import glob
import os
import re
from pathlib import Path

from app.errors import UserError


def user_path(text: str) -> Path:
    """The path with `~` and `~name` replaced, which a shell does not do after `=`.

    Raises UserError for a URL, which would name a folder `s3:` here, where there is no such home directory, and for a
    link that leads back to itself.
    """
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", text):
        raise UserError(
            f"{text!r} is a URL, and a path is needed, since files are locked, renamed and appended to: give one that "
            "all nodes mount, and copy from and to a bucket as docs/cluster.md says (Where files lie)"
        )
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        raise UserError(f"the home directory in {text!r} is unknown: write the whole path, or set HOME") from None
    try:
        path.resolve()
    except RuntimeError:
        raise UserError(f"{text} is a link that leads back to itself: give another path") from None
    return path


def matching(pattern: str) -> list[Path]:
    """The regular files that a path or pattern names, in order. What exists under its very name is that file, whatever
    signs it holds, and so is the part of a pattern that is a folder."""
    whole = os.path.expanduser(pattern)
    if os.path.lexists(whole):
        found = [whole]
    else:
        folder, rest = os.path.split(whole)
        while folder not in ("", "/") and not os.path.isdir(folder):
            folder, last = os.path.split(folder)
            rest = os.path.join(last, rest)
        found = sorted(glob.glob(os.path.join(glob.escape(folder), rest), recursive=True))
    return [path for path in (Path(name).resolve() for name in found) if path.is_file()]
