"""Files of the build's tasks: one Parquet file a shard, written whole, with the identity of what it was made from. What
is there under the identity that is asked for needs no second look."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from app.corpus.records import Origin, Rejected

TEXT = pa.string()
ORIGIN_FIELDS = [(name, TEXT) for name in Origin.__slots__]
REJECTED_SCHEMA = pa.schema([*ORIGIN_FIELDS, *((name, TEXT) for name in ("name", "what", "reason"))])
IDENTITY = b"identity"
"""Key in a part's metadata."""


def part(work: str | Path, folder: str, index: int) -> Path:
    return Path(work) / folder / f"part-{index:05d}.parquet"


def is_made(path: Path, identity: str) -> bool:
    """Whether the part is there whole, made from what this identity names (`app.corpus.identity`)."""
    try:
        return path.exists() and (pq.read_schema(path).metadata or {}).get(IDENTITY) == identity.encode()
    except (pa.ArrowInvalid, OSError):  # cut off by a machine that went down
        return False


def write_table(path: Path, table: pa.Table) -> None:
    """Write the table beside its place, then rename it. What a killed writer left there is removed: one worker at a
    time runs a job."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{path.name}.*.tmp"):
        left.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    pq.write_table(table, temporary)
    os.replace(temporary, path)


def write_rejected(path: Path, rejected: Iterable[Rejected]) -> None:
    write_rows(path, [one.row for one in rejected], REJECTED_SCHEMA)


def write_rows(path: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    write_table(path, pa.Table.from_pylist([writable(row) for row in rows], schema))


def writable(row: dict[str, Any]) -> dict[str, Any]:
    """The row with question marks for half surrogate pairs, which names and reasons may hold and UTF-8 does not."""
    return {
        key: value.encode(errors="replace").decode() if isinstance(value, str) else value for key, value in row.items()
    }
