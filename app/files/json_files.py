"""JSON and JSON lines that the project itself writes and reads back: whole or not at all.

A file that somebody else broke is told with its name and line; only a last line that a killed writer left unfinished is
expected (`app.files.table_rows` reads the lines).
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from app.errors import UserError, first_line
from app.files.table_rows import is_row, located_rows, sure


class BrokenFileError(UserError, ValueError):
    """A file of the project's own that is no longer what was written. A ValueError too, as what json raises."""


@contextlib.contextmanager
def of_this_version(place: Path) -> Iterator[None]:
    """Read a run's files: JSON that holds something else, since it was changed by hand or is of another version, raises
    UserError with this file or folder and what was found."""
    try:
        yield
    except UserError:  # BrokenFileError is a ValueError too
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise UserError(
            f"{place} holds what no run of this version holds ({type(error).__name__}: {first_line(error)}): restore "
            "it, choose another run, or make what is broken anew"
        ) from error


def write_atomic(path: Path, data: str | bytes, mode: int = 0o666) -> None:
    """Write beside the place and rename, so that a reader sees the old file or the whole new one.

    mode: of the file, less what the umask takes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)  # of a killed writer, whose mode may be another
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    write_atomic(path, json.dumps(data, indent=2, default=str) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Raises BrokenFileError for a file that holds no JSON object."""
    try:
        held = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BrokenFileError(f"{path} is broken ({error}): restore it, or remove it to make it anew") from None
    if not isinstance(held, dict):
        raise BrokenFileError(f"{path} is broken (no JSON object): restore it, or remove it to make it anew")
    return held


def append_json_line(path: Path, row: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        file.write(json.dumps(row) + "\n")


def numbered_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The lines of the file with their numbers, one at a time; none without a file.

    A last line that a killed writer left unfinished is passed over. Raises UserError naming a line that is broken.
    """
    if not path.exists():
        return
    with open(path, "rb") as file:
        for number, _, row in located_rows(file, may_end_torn=True):
            yield number, sure(row, str(path))


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    return [row for _, row in numbered_json_lines(path)]


def trim_json_lines(path: Path) -> None:
    """End the file with a newline, so that lines can be appended.

    A last line that a killed writer left unfinished is cut off, a whole one is kept.
    """
    if not path.exists():
        return
    with open(path, "rb+") as file:
        size = end = file.seek(0, os.SEEK_END)
        tail, newline = b"", -1
        while end and newline < 0:
            start = max(0, end - (1 << 16))
            file.seek(start)
            tail = file.read(end - start) + tail
            newline = tail.rfind(b"\n")
            end = start
        last = tail[newline + 1 :]
        if last and is_row(last):
            file.seek(size)
            file.write(b"\n")
        else:
            file.truncate(size - len(last))


def write_json_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows))
