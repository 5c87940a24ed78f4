"""What to tell a user of a file that can't be used: read and written are told apart, and each place has its way out."""

import contextlib
import errno
import os
import re
import shutil
import tempfile
from pathlib import Path

from app.errors import UserError
from app.files.home import cache_root, home
from app.files.user_files import user_path

FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
SHAPES = {
    errno.EISDIR: "is a folder where a file is needed",
    errno.ENOTDIR: "lies under a file, not under a folder",
    errno.ENAMETOOLONG: "is too long a path",
    errno.ELOOP: "is a link that leads back to itself",
}

_NUMBERED = re.compile(r"\[Errno (\d+)\]")


def sentence_of(error: OSError) -> str | None:
    """One sentence with the path, the cause and the way out; None for errors that no user can mend."""
    if isinstance(error, shutil.Error):
        error = _first_of(error)
    cause = error.strerror or str(error)  # those of other libraries may have no number
    if error.errno == errno.ENOENT and "temporary directory" in cause:
        return "no folder for temporary files can be written: set TMPDIR to one that can"
    place = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    if error.errno in FULL:
        return f"{place or 'the run directory'} can't be written ({cause}): free space or {_elsewhere(place)}"
    if error.errno == errno.EROFS and not place:
        return f"the run directory can't be written ({cause}): give another --run"
    if error.errno in FORBIDDEN and place:
        return _forbidden(Path(place), cause)
    if error.errno in SHAPES and place:
        return f"{place} {SHAPES[error.errno]}: give another path"
    return None


def _first_of(error: shutil.Error) -> OSError:
    """What ended the copy of a folder first: `shutil.copytree` goes on with other files, and tells each end as text."""
    match error.args:
        case ([(source, target, why), *_],) if found := _NUMBERED.match(str(why)):
            number = int(found[1])
        case _:
            return error
    return OSError(number, os.strerror(number), str(target if os.access(source, os.R_OK) else source))


def _forbidden(place: Path, cause: str) -> str:
    if closed := _closed_folder(place):
        return f"{place} can't be reached ({cause}): let this user enter {closed}, or {_elsewhere(place, 'path')}"
    if place.exists() and not os.access(place, os.R_OK):
        return f"{place} can't be read ({cause}): make it readable for this user, or {_elsewhere(place, 'path')}"
    there = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
    return f"{place} can't be written ({cause}): let this user write {there}, or {_elsewhere(place)}"


def _closed_folder(place: Path) -> Path | None:
    """The highest folder above that can't be entered, if there is one."""
    above = reversed(place.absolute().parents)
    return next((folder for folder in above if not os.access(folder, os.F_OK | os.X_OK) and _is_there(folder)), None)


def _is_there(folder: Path) -> bool:
    with contextlib.suppress(PermissionError):
        return folder.is_dir()
    return False


def _elsewhere(place: str | Path, otherwise: str = "--run") -> str:
    """The other way out: the variable that moves the place, else another path."""
    there = Path(place).absolute()
    for folder, variable in _places() if place else ():
        if there.is_relative_to(folder) or folder.is_relative_to(there):
            return f"set {variable} to another folder"
    if place and str(there).startswith(os.path.join(tempfile.gettempdir(), tempfile.gettempprefix())):
        return "set TMPDIR to another folder"
    return f"give another {otherwise}"


def _places() -> list[tuple[Path, str]]:
    """What is written unasked, each with the variable that names another place."""
    found = []
    with contextlib.suppress(UserError):
        found.append((cache_root(), "POCKETCODER_CACHE"))
    with contextlib.suppress(UserError):
        found.append((home() / ".cache" / "huggingface", "HF_HOME"))
        found.append((home() / ".ray", "RAY_AUTH_TOKEN_PATH"))
    with contextlib.suppress(UserError):
        if hub := os.environ.get("HF_HOME"):
            found.append((user_path(hub).absolute(), "HF_HOME"))
    return found
