"""The one reader of rows: JSON lines, packed or not, a JSON array, and Parquet, row by row.

What can't be read is given as `Unreadable`, with its place and reason, and the next row follows. Sources go on behind
it (`readable_rows`); for a file that has to be whole it is an error (`strict_rows`, `sure`).

Lines end at a newline only: the other line separators of Unicode may be part of a JSON text. Blank lines, a
byte-order mark and carriage returns are passed over; gzip is known by its first bytes, whatever the file is called.

Limits: a JSON array is held in memory whole.
"""

import contextlib
import gzip
import io
import json
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, cast

from app.errors import UserError
from app.files.text import one_line

if TYPE_CHECKING:  # files of JSON lines are read without pyarrow
    import pyarrow as pa
    import pyarrow.parquet as pq

MAX_LINE_BYTES = 64 << 20
"""A longer line of a source is not kept in memory."""
MAX_HELD = 10_000
"""Unreadable rows that are kept until one can be read."""
BATCH = 64
"""Rows of Parquet that are read at once."""
_GZIP = b"\x1f\x8b"
_MARK = b"\xef\xbb\xbf"
_DAMAGE = (OSError, EOFError, zlib.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A row that can't be read, or the rest of a file. Made here; written to rejected.parquet by a build."""

    place: str
    """"line 17" or "row 17", from 1 on."""
    reason: str
    """What is wrong, so that "PLACE is REASON" reads as a sentence: "no JSON object"."""


Rows: TypeAlias = Iterator[dict[str, Any] | Unreadable]


def readable_rows(path: Path, name: str, columns: Sequence[str] | None = None, *, is_parquet: bool = False) -> Rows:
    """The rows of a .jsonl, .jsonl.gz, .json (an array or lines) or .parquet file.

    name: of the file, for errors; columns: the ones to read of Parquet, where they exist; is_parquet: whatever the file
    is called. Raises UserError when the file or none of its rows can be read.
    """
    held: list[Unreadable] = []
    rows = _rows(path, name, MAX_LINE_BYTES, columns, is_parquet=is_parquet)
    for row in rows:
        if not isinstance(row, Unreadable):
            yield from held
            yield row
            yield from rows
            return
        if len(held) < MAX_HELD:
            held.append(row)
    if held:
        raise UserError(f"{name} can't be read ({held[0].place} is {held[0].reason}): give another file")


def strict_rows(path: Path, name: str) -> Iterator[dict[str, Any]]:
    """The same rows, however long a line is. Raises UserError at the first that can't be read."""
    for row in _rows(path, name, sys.maxsize, None, is_parquet=False):
        yield sure(row, name)


def sure(row: dict[str, Any] | Unreadable, name: str) -> dict[str, Any]:
    """The row. Raises UserError with the name of the file, the place and the reason where it is unreadable."""
    if isinstance(row, Unreadable):
        raise UserError(f"{name}, {row.place} is {row.reason}: mend it, take it out, or restore the file")
    return row


def parquet_columns(path: Path, name: str) -> list[str]:
    """The names of the file's columns. Raises UserError for a file that can't be read."""
    return list(_parquet(path, name).schema_arrow.names)


def read_lines(path: Path, option: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each line's number and JSON object. option: how the user named the file, for errors.

    Raises UserError naming the file and the first line that can't be read.
    """
    name = f"{option} {path}"
    with unpacked(path, name) as file:
        for number, _, row in located_rows(file):
            yield number, sure(row, name)


def located_rows(
    file: BinaryIO, max_bytes: int = sys.maxsize, *, may_end_torn: bool = False
) -> Iterator[tuple[int, int, dict[str, Any] | Unreadable]]:
    """Each line's number, the byte at which its text begins, and its JSON object.

    max_bytes: of a line; a longer one is unreadable. may_end_torn: a last line without a newline that is no JSON object
    was left by a killed writer and is passed over; so is all that is written while this reads.
    """
    number = end = 0
    try:
        while line := file.readline(max_bytes):
            number += 1
            end += len(line)
            rest = line
            while len(rest) == max_bytes and not rest.endswith(b"\n"):
                rest = file.readline(max_bytes)
                end += len(rest)
            is_torn = may_end_torn and not rest.endswith(b"\n")
            text = line.removeprefix(_MARK) if number == 1 else line
            place = f"line {number}"
            if rest is not line:
                yield number, end, Unreadable(place=place, reason=f"too large: more than {max_bytes} bytes")
            elif text.strip():
                row = parse_row(text, place)
                if not (is_torn and isinstance(row, Unreadable)):
                    yield number, end - len(text), row
            if is_torn:
                return
    except _DAMAGE as error:
        yield number + 1, end, _damaged(f"line {number + 1}", error)


def parse_row(line: bytes, place: str) -> dict[str, Any] | Unreadable:
    """The JSON object of a line. One with a key twice is unreadable, since nobody knows which value is meant;
    in an inner object the last one counts, as json has it."""
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
        return Unreadable(place=place, reason=f"no UTF-8 text ({error.reason})")
    except (ValueError, RecursionError) as error:
        return Unreadable(place=place, reason=f"no JSON ({one_line(error)})")
    if repeated and type(row) is dict:
        return Unreadable(place=place, reason=f"ambiguous: it has the key {one_line(repr(repeated))} twice")
    return _object(row, place)


def is_row(line: bytes) -> bool:
    """Whether the line is a whole JSON object."""
    return not isinstance(parse_row(line, ""), Unreadable)


@contextlib.contextmanager
def unpacked(path: Path, name: str) -> Iterator[BinaryIO]:
    """The file's bytes, unpacked as they are read. Raises UserError for a file that can't be opened."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"{name} can't be read ({error.strerror}): give another file") from None
    with file:
        if file.peek(2)[:2] != _GZIP:
            yield file
        else:
            with gzip.open(file) as packed:
                yield cast(BinaryIO, packed)


def seekable(path: Path, name: str) -> BinaryIO:
    """The same bytes in a file that can be read from any place: a temporary one where they are packed.

    Raises UserError for a file that can't be opened or unpacked.
    """
    with unpacked(path, name) as file:
        if not isinstance(file, gzip.GzipFile):
            return path.open("rb")
        whole = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115
        try:
            shutil.copyfileobj(file, whole, 1 << 20)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            whole.close()
            raise UserError(
                f"{name} can't be unpacked ({error}): give a whole gzip file, or the file unpacked"
            ) from None
    whole.seek(0)
    return whole


def _rows(path: Path, name: str, max_bytes: int, columns: Sequence[str] | None, *, is_parquet: bool) -> Rows:
    if is_parquet or path.name.lower().endswith(".parquet"):
        yield from _parquet_rows(path, name, columns)
        return
    with unpacked(path, name) as file:
        if path.name.lower().removesuffix(".gz").endswith(".json"):
            try:
                array = _array(file)
            except (*_DAMAGE, ValueError, RecursionError) as error:
                yield _damaged("the array", error)
                return
            if array is not None:
                yield from (_object(row, f"row {number}") for number, row in enumerate(array, 1))
                return
        yield from (row for _, _, row in located_rows(file, max_bytes))


def _array(file: BinaryIO) -> list[Any] | None:
    """None for JSON lines under the name .json, as BFCL has them; then nothing is read yet."""
    begin = cast(io.BufferedReader, file).peek(1 << 12)
    return json.loads(file.read().decode("utf-8-sig")) if begin.removeprefix(_MARK).lstrip()[:1] == b"[" else None


def _object(row: Any, place: str) -> dict[str, Any] | Unreadable:
    return row if type(row) is dict else Unreadable(place=place, reason="no JSON object")


def _damaged(place: str, error: Exception) -> Unreadable:
    return Unreadable(place=place, reason=f"cut off or damaged ({one_line(error)})")


def _parquet_rows(path: Path, name: str, columns: Sequence[str] | None) -> Rows:
    import pyarrow as pa

    file = _parquet(path, name)
    there = file.schema_arrow.names
    known = None if columns is None else [column for column in dict.fromkeys(columns) if column in there]
    number = 0
    try:
        for batch in file.iter_batches(batch_size=BATCH, columns=known):
            for row in _batch_rows(batch, number):
                number += 1
                yield row
    except (pa.ArrowException, OSError, ValueError) as error:
        yield _damaged(f"row {number + 1}", error)


def _batch_rows(batch: "pa.RecordBatch", before: int) -> list[dict[str, Any] | Unreadable]:
    """The rows of a batch, each by itself where one can't be read. before: number of rows before the batch."""
    try:
        return batch.to_pylist()
    except Exception as error:  # text that is no UTF-8, a date beyond the calendar: what a row holds is its own matter
        if batch.num_rows == 1:
            return [Unreadable(place=f"row {before + 1}", reason=f"broken ({type(error).__name__}: {one_line(error)})")]
        return [row for place in range(batch.num_rows) for row in _batch_rows(batch.slice(place, 1), before + place)]


def _parquet(path: Path, name: str) -> "pq.ParquetFile":
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{name} can't be read as Parquet ({one_line(error)}): give another file") from None
