"""The folders of the user that things are kept in: home, and the cache of weights."""

import os
from pathlib import Path

from app.errors import UserError
from app.files.user_files import user_path


def home() -> Path:
    """The user's home directory. Raises UserError where there is none."""
    try:
        return Path.home()
    except RuntimeError:
        raise UserError(
            "this user has no home directory: set HOME, or POCKETCODER_CACHE and POCKETCODER_RUNS to folders of yours"
        ) from None


def cache_root() -> Path:
    """Where weights are kept: $POCKETCODER_CACHE, else the user's cache folder. Absolute: workers run elsewhere."""
    if base := os.environ.get("POCKETCODER_CACHE"):
        return user_path(base).absolute()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return user_path(base).absolute() / "pocketcoder"
    return home() / ".cache" / "pocketcoder"
