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
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, _object(line, f"{path}, line {number}")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{option} {path} can't be read ({error}): give a file of JSON lines") from None


def _object(line: str, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{place} is no JSON ({error})") from None
    if type(row) is not dict:
        raise UserError(f"{place} is no JSON object")
    return row
