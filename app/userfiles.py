"""Files of JSON lines that a user hands in."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.errors import UserError


def read_rows(path: Path, option: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each line's number and JSON object, one at a time; blank lines are skipped.

    Lines end at a newline only: the other line separators of Unicode may stand inside a JSON text. Raises UserError
    naming the option, the file and the line.
    """
    for number, _, row in located_rows(path, option):
        yield number, row


def located_rows(path: Path, option: str) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """The same with the byte at which the line begins, to come back to it."""
    offset = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, offset, _object(line.decode("utf-8"), f"{path}, line {number}")
                offset += len(line)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{option} {path} can't be read ({error}): give a file of JSON lines") from None


def _object(line: str, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place} is no JSON ({error})") from None
    if type(row) is not dict:
        raise UserError(f"{place} is no JSON object")
    return row
