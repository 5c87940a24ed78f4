"""The one reader of files of JSON lines, and of paths that a user types.

Lines end at a newline only: the other line separators of Unicode may be part of a JSON text. Blank lines, a
byte-order mark and carriage returns are passed over; gzip is known by its first bytes, whatever the file is called.
"""

import contextlib
import gzip
import json
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from app.errors import UserError

GZIP = b"\x1f\x8b"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
PACKING_ERRORS = (EOFError, zlib.error, gzip.BadGzipFile)


def user_path(text: str) -> Path:
    """The path with `~` and `~name` replaced, which a shell does not do after `=`.

    Raises UserError where there is no such home directory, and for a link that leads back to itself.
    """
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        raise UserError(f"the home directory in {text!r} is unknown: write the whole path, or set HOME") from None
    try:
        path.resolve()
    except RuntimeError:
        raise UserError(f"{text} is a link that leads back to itself: give another path") from None
    return path


def read_rows(path: Path, option: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each line's number and JSON object, one at a time.

    option: how the user named the file, for errors. Raises UserError naming it, the file and the line.
    """
    with opened(path, option) as file:
        for number, _, row in located_rows(file, str(path)):
            yield number, row


def opened(path: Path, option: str) -> BinaryIO:
    """The file's bytes, in a temporary file of their own where they were packed.

    Raises UserError for a file that can't be opened or unpacked.
    """
    name = f"{option} {path}".strip()
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"{name} can't be read ({error.strerror}): give a file of JSON lines") from None
    if file.peek(2)[:2] != GZIP:
        return file
    whole = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115
    try:
        with gzip.open(file) as packed:
            shutil.copyfileobj(packed, whole, 1 << 20)
    except PACKING_ERRORS as error:
        raise UserError(f"{name} can't be unpacked ({error}): give a whole gzip file, or the file unpacked") from None
    finally:
        file.close()
    whole.seek(0)
    return whole


def located_rows(file: BinaryIO, name: str, *, may_end_torn: bool = False) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Each line's number, the byte at which it begins, and its JSON object.

    may_end_torn: a last line without a newline that is no JSON object was left by a killed writer and is passed over;
    so is all that is written while this reads. Raises UserError naming the file and the line.
    """
    offset = 0
    for number, line in enumerate(file, 1):
        text = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
        is_torn = may_end_torn and not line.endswith(b"\n")
        if text.strip():
            try:
                row = parse_row(text, f"{name}, line {number}")
            except UserError:
                if not is_torn:
                    raise
            else:
                yield number, offset, row
        if is_torn:
            return
        offset += len(line)


def parse_row(line: bytes, place: str) -> dict[str, Any]:
    """The JSON object of a line; `place` names it in errors."""
    repeated = ""

    def as_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal repeated  # the outermost object is the last to be made, and the only one that is held strictly
        held = dict(pairs)
        names = [name for name, _ in pairs]
        repeated = "" if len(held) == len(pairs) else next(name for name in names if names.count(name) > 1)
        return held

    try:
        row = json.loads(line.decode("utf-8"), object_pairs_hook=as_dict)
    except UnicodeDecodeError as error:
        raise UserError(f"{place} is no UTF-8 text ({error.reason}): save the file as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place} is no JSON ({error}): mend that line or take it out") from None
    if type(row) is not dict:
        raise UserError(f"{place} is no JSON object: mend that line or take it out")
    if repeated:
        raise UserError(f"{place} has the key {repeated!r} twice: mend that line")
    return row


def is_row(line: bytes) -> bool:
    """Whether the line is a whole JSON object."""
    with contextlib.suppress(UserError):
        parse_row(line, "")
        return True
    return False
