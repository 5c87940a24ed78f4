"""Source files that come as rows: tables of JSON lines or Parquet, made into Parquet files that give single rows fast.

`convert` copies the rows once, streaming, into the cache folder: in groups of 16, since a build draws files by hash and
reads a whole group for each. Licences are judged on the way; a row that is refused keeps its reason and loses its
content, and so does one that can't be read (`app.files.table_rows`). `app.corpus.sources.the_stack` writes the
same form. Read by `app.corpus.sources.find`.

Limits: a copy takes the disk that the contents take. A source file whose content changes is converted anew.
"""

import functools
import hashlib
import io
import itertools
import json
import os
import tokenize
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from app.corpus.recipes import Columns, JsonLines, ParquetTable
from app.corpus.shard_files import writable
from app.corpus.sources.folders import vendored_in
from app.corpus.sources.licences import LicenceVerdict, judge_licence
from app.corpus.sources.untrusted import odd_path, why
from app.errors import UserError
from app.files.table_rows import Rows, Unreadable, parquet_columns, readable_rows
from app.files.text import shown
from app.files.user_files import matching
from app.progress import say

ROWS_PER_GROUP = 16
ROWS_LOOKED_AT = 100
"""Rows in which the fields of a file of JSON lines are looked for."""
TEXT_COLUMNS = ("path", "licence", "repository", "revision", "author", "homepage", "reason")
SCHEMA = pa.schema([("content", pa.binary())] + [(name, pa.string()) for name in TEXT_COLUMNS])
NO_REPOSITORY = "(no repository)"
VERSION = 4
"""Version of the conversion: what an older one made is made anew."""
REQUIRED = ("content", "path", "licence", "repository")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of a converted table, without its content. Made by `read_rows`."""

    archive: str
    """The Parquet file."""
    number: int
    """Number of the row, from 0 on, over the whole file."""
    path: str
    licence: str
    """SPDX expression relied on, or what the table says where the row is refused."""
    repository: str
    revision: str
    author: str
    homepage: str
    reason: str
    """Why the row is refused; empty for a row to use."""


def convert(source: JsonLines | ParquetTable, allow: frozenset[str], cache: Path) -> list[Path]:
    """The converted tables of a source, in the order of its files. Raises UserError for a file that can't be read."""
    return [_converted(path, source, allow, cache) for path in files_of(source)]


def files_of(source: JsonLines | ParquetTable) -> list[Path]:
    """The files that the source's path names. Raises UserError when there are none."""
    files = matching(source.path)
    if not files:
        raise UserError(f"source path {source.path!r} names no file: give a {source.kind} file, or a pattern for some")
    return files


def columns_of(path: Path, source: JsonLines | ParquetTable) -> list[str]:
    """The fields of a file: those of its first rows, since one may be odd, or of its schema. Raises UserError when it
    can't be read."""
    if _is_parquet(path, source):
        return parquet_columns(path, _named(path))
    rows = (row for row in _read(path, source) if not isinstance(row, Unreadable))
    return list(dict.fromkeys(name for row in itertools.islice(rows, ROWS_LOOKED_AT) for name in row))


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a converted table, without their contents."""
    number = itertools.count()
    for batch in pq.ParquetFile(path).iter_batches(batch_size=4096, columns=list(TEXT_COLUMNS)):
        for row in batch.to_pylist():
            yield Row(archive=str(path), number=next(number), **row)


def read_row(path: str, number: int) -> bytes:
    """The content of one row. Raises OSError, IndexError or pyarrow's errors for a file that lacks it."""
    _, starts = _opened(path)
    group = bisect_right(starts, number) - 1
    content = _group(path, group)[number - starts[group]].as_py()
    if content is None:
        raise IndexError(number)
    return content


@functools.lru_cache(maxsize=8)
def _opened(path: str) -> tuple[pq.ParquetFile, list[int]]:
    """The file, and the number of the first row of each of its groups."""
    file = pq.ParquetFile(path)
    sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    return file, [0, *itertools.accumulate(sizes)][:-1]


@functools.lru_cache(maxsize=4)
def _group(path: str, group: int) -> Any:
    return _opened(path)[0].read_row_group(group, columns=["content"])["content"]


def write_table(path: Path, rows: Iterable[dict[str, Any]], notes: dict[str, str] | None = None) -> None:
    """Write rows of SCHEMA, a missing text being empty, to a Parquet file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    blank: dict[str, Any] = {"content": None, **dict.fromkeys(TEXT_COLUMNS, "")}
    remaining = iter(rows)
    try:
        with pq.ParquetWriter(temporary, SCHEMA.with_metadata(notes or {}), compression="zstd") as writer:
            while group := list(itertools.islice(remaining, ROWS_PER_GROUP)):
                writer.write_table(pa.Table.from_pylist([writable(blank | row) for row in group], SCHEMA))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def judge_row(value: Any, allow: frozenset[str]) -> LicenceVerdict:
    """Verdict on a field that names one licence or several, of which all apply."""
    names = [str(name).strip() for name in value] if isinstance(value, list | tuple) else [str(value or "").strip()]
    named = [name for name in names if name]
    field = named[0] if len(named) == 1 else " AND ".join(f"({name})" for name in named)
    return judge_licence(expression=None, classifiers=[], field=field, licence_texts=[], also_allow=allow)


def python_bytes(text: str) -> bytes | None:
    """Source text as bytes that Python reads back as the same: in the encoding that its cookie declares (PEP 263).

    None where there are none: a cookie of an encoding that lacks a character, or half a surrogate pair.
    """
    try:
        encoded = text.encode()
        encoding, _ = tokenize.detect_encoding(io.BytesIO(encoded).readline)
        return text.encode(encoding) if encoding not in ("utf-8", "utf-8-sig") else encoded
    except (SyntaxError, UnicodeError, LookupError):
        return None


def _converted(path: Path, source: JsonLines | ParquetTable, allow: frozenset[str], cache: Path) -> Path:
    with open(path, "rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    made_of = [content, source.columns.model_dump(), sorted(allow)]
    key = json.dumps([*made_of, TEXT_COLUMNS, VERSION])
    stem = _text(path.name.split(".")[0])[:40]
    target = cache / "tables" / f"{stem}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.parquet"
    if not target.exists():
        say(f"  converting {_text(path)}")
        write_table(target, _judged(_read(path, source), path, source.columns, allow))
    return target


def _read(path: Path, source: JsonLines | ParquetTable) -> Rows:
    columns = [name for name in source.columns.model_dump().values() if name]
    return readable_rows(path, _named(path), columns, is_parquet=_is_parquet(path, source))


def _named(path: Path) -> str:
    return f"source {shown(str(path))}"


def _is_parquet(path: Path, source: JsonLines | ParquetTable) -> bool:
    return isinstance(source, ParquetTable) or path.suffix.lower() == ".parquet"


def _judged(rows: Rows, path: Path, columns: Columns, allow: frozenset[str]) -> Iterator[dict[str, Any]]:
    """The rows in the common form; those that are refused, or that can't be read, with their reason."""
    number = 0
    for row in rows:
        number += 1
        if isinstance(row, Unreadable):
            yield _unreadable(path, row.place, row.reason)
            continue
        try:
            yield _row(row, columns, allow)
        except Exception as error:  # whatever a row holds is its own matter: it ends no build
            yield _unreadable(path, f"row {number}", why(error).partition(": ")[2])


def _unreadable(path: Path, place: str, reason: str) -> dict[str, Any]:
    return {"path": f"{path.name}, {place}", "repository": NO_REPOSITORY, "reason": f"unreadable: {reason}"}


def _row(row: dict[str, Any], columns: Columns, allow: frozenset[str]) -> dict[str, Any]:
    """A row in the common form, with the reason if it is refused."""
    given = {name: row.get(column) for name, column in columns.model_dump().items() if column}
    path = _text(given["path"]).replace("\\", "/").lstrip("/")
    made: dict[str, Any] = {"path": path}
    made |= {name: _text(given.get(name)) for name in ("repository", "revision", "author")}
    if made["repository"].startswith(("https://", "http://")):
        made["homepage"] = made["repository"]
    made["repository"] = made["repository"] or NO_REPOSITORY
    if missing := [name for name in REQUIRED if not given[name]]:
        return made | {"reason": f"{missing[0]} missing: the field {getattr(columns, missing[0])!r} is empty"}
    if wrong := [name for name in ("content", "path") if not isinstance(given[name], str | bytes)]:
        kind = type(given[wrong[0]]).__name__
        return made | {"reason": f"{wrong[0]} is not text: the field {getattr(columns, wrong[0])!r} holds a {kind}"}
    verdict = judge_row(given["licence"], allow)
    made["licence"] = verdict.licence
    if not verdict.approved:
        return made | {"reason": f"licence: {verdict.reason}"}
    if not path.endswith(".py"):
        return made | {"reason": f"not Python: {path[-60:]}"}
    if reason := odd_path(path):
        return made | {"reason": reason}
    if folder := vendored_in(path):
        return made | {"reason": f"vendored: in {folder}"}
    content = given["content"]
    content = python_bytes(content) if isinstance(content, str) else content
    if not isinstance(content, bytes):
        return made | {"reason": "encoding: not the one it declares, or not UTF-8"}
    return made | {"content": content}


def _text(value: Any) -> str:
    """A field as text that can be written: half surrogate pairs, which JSON can hold, become question marks."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")
    return text.strip().encode(errors="replace").decode()
