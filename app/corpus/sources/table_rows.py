"""Rows of untrusted tables: JSON lines, packed or not, and Parquet, row by row.

A row that can't be read is given as `Unreadable` with its place and reason, and the next one follows: a blank line is
skipped, a byte-order mark too, a line without end is not kept in memory, a file that is cut off or damaged gives what
comes before. Read by `app.corpus.sources.tables` and `app.corpus.sources.task_files`.
"""

import glob
import gzip
import io
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from app.corpus.sources.untrusted import one_line, shown
from app.errors import UserError

MAX_LINE_BYTES = 64 << 20
BATCH = 64
_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A row that can't be read, or the rest of a file. Made here; written to rejected.parquet by the build."""

    place: str
    """"line 17" or "row 17", from 1 on."""
    reason: str


Rows: TypeAlias = Iterator[dict[str, Any] | Unreadable]


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


def json_rows(path: Path) -> Rows:
    """The objects of a .jsonl, .jsonl.gz or .json file (an array or lines).

    Raises UserError naming the file when none of its rows can be read.
    """
    yield from _some(_json_rows(path), path, "JSON lines")


def parquet_rows(path: Path, columns: Sequence[str]) -> Rows:
    """The rows, those of the columns that there are. Raises UserError when the file or none of its rows can be read."""
    yield from _some(_parquet_rows(path, columns), path, "Parquet")


def parquet_columns(path: Path) -> list[str]:
    """Raises UserError for a file that can't be read."""
    return list(_opened(path).schema_arrow.names)


def _some(rows: Rows, path: Path, form: str) -> Rows:
    """The rows, as soon as one of them can be read."""
    held: list[Unreadable] = []
    is_any = False
    for row in rows:
        if is_any:
            yield row
        elif isinstance(row, Unreadable):
            held.append(row) if len(held) < 10_000 else None
        else:
            is_any = True
            yield from held
            yield row
    if held and not is_any:
        first = held[0]
        raise UserError(
            f"source {shown(str(path))} can't be read as {form} ({first.place}: {first.reason}): give another file"
        )


def _json_rows(path: Path) -> Rows:
    if path.name.lower().endswith(".json") and (array := _array(path)) is not None:
        for number, item in enumerate(array, 1):
            yield item if isinstance(item, dict) else Unreadable(place=f"row {number}", reason="no JSON object")
        return
    number = 0
    try:
        with _unpacked(path) as file:
            for number, line in enumerate(_lines(file), 1):
                if isinstance(line, Unreadable):
                    yield line
                elif line.strip():
                    yield _object(line, f"line {number}")
    except (OSError, EOFError, zlib.error) as error:
        yield Unreadable(place=f"line {number + 1}", reason=f"the file is cut off or damaged ({one_line(error)})")


def _array(path: Path) -> list[Any] | None:
    """None for a file that is no JSON array: then it is one of lines."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            return json.load(file) if file.read(1) == "[" and file.seek(0) == 0 else None
    except (OSError, ValueError, RecursionError):
        return None


def _unpacked(path: Path) -> io.BufferedIOBase:
    with path.open("rb") as file:
        is_packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if is_packed else path.open("rb")


def _lines(file: io.BufferedIOBase) -> Iterator[bytes | Unreadable]:
    """Lines end at a newline only: the other line separators of Unicode may be part of a JSON text."""
    number = 0
    while line := file.readline(MAX_LINE_BYTES):
        number += 1
        if line.endswith(b"\n") or len(line) < MAX_LINE_BYTES:
            yield line.removeprefix(_MARK) if number == 1 else line
            continue
        while (more := file.readline(MAX_LINE_BYTES)) and not more.endswith(b"\n"):
            pass
        yield Unreadable(place=f"line {number}", reason=f"too large: more than {MAX_LINE_BYTES} bytes")


def _object(line: bytes, place: str) -> dict[str, Any] | Unreadable:
    try:
        row = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        return Unreadable(place=place, reason=f"no JSON ({one_line(error)})")
    return row if isinstance(row, dict) else Unreadable(place=place, reason="no JSON object")


def _parquet_rows(path: Path, columns: Sequence[str]) -> Rows:
    file = _opened(path)
    known = [name for name in dict.fromkeys(columns) if name in file.schema_arrow.names]
    number = 0
    try:
        for batch in file.iter_batches(batch_size=BATCH, columns=known):
            for row in _batch(batch, number):
                number += 1
                yield row
    except (pa.ArrowException, OSError, ValueError) as error:
        yield Unreadable(place=f"row {number + 1}", reason=f"the file is cut off or damaged ({one_line(error)})")


def _batch(batch: pa.RecordBatch, before: int) -> list[dict[str, Any] | Unreadable]:
    """before: number of rows before it."""
    try:
        return batch.to_pylist()
    except Exception as error:  # text that is no UTF-8, a date beyond the calendar: what a row holds is its own matter
        if batch.num_rows == 1:
            return [Unreadable(place=f"row {before + 1}", reason=one_line(f"{type(error).__name__}: {error}"))]
        return [row for place in range(batch.num_rows) for row in _batch(batch.slice(place, 1), before + place)]


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(
            f"source {shown(str(path))} can't be read as Parquet ({one_line(error)}): give another file"
        ) from None
