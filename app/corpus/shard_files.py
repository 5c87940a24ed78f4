"""Files of the build's tasks: one Parquet file a shard, written whole, with the identity of what it was made from. What
is there under the identity that is asked for needs no second look."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from app.corpus.records import Origin, Rejected
from app.errors import UserError, causes
from app.files.durable import flush
from app.files.text import one_line

TEXT = pa.string()
ORIGIN_FIELDS = [(name, TEXT) for name in Origin.__slots__]
REJECTED_SCHEMA = pa.schema([*ORIGIN_FIELDS, *((name, TEXT) for name in ("name", "what", "reason"))])
IDENTITY, COPYRIGHT = b"identity", b"copyright"
"""Keys in a part's metadata: what it was made from; copyright lines of the files in it, by distribution and path."""


def part(work: str | Path, folder: str, index: int) -> Path:
    return Path(work) / folder / f"part-{index:05d}.parquet"


def is_made(path: Path, identity: str) -> bool:
    """Whether the part is there whole, made from what this identity names (`app.corpus.identity`)."""
    try:
        return path.exists() and (pq.read_schema(path).metadata or {}).get(IDENTITY) == identity.encode()
    except (pa.ArrowInvalid, OSError):  # cut off by a machine that went down
        return False


def check_rows(folder: Path, rows: int) -> None:
    """Raise UserError unless the folder's parts can be opened and hold this many rows together. Rows are not read."""
    number = 0
    for path in sorted(folder.glob("*.parquet")):
        try:
            number += pq.read_metadata(path).num_rows
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{path} can't be read ({one_line(error)}): {_way_out(folder)}") from None
    if number != rows:
        raise UserError(f"{folder} holds {number} rows of the {rows} that were built: {_way_out(folder)}")


@contextlib.contextmanager
def read_whole(folder: Path) -> Iterator[None]:
    """Within the block the folder's parts are read: damage that their ends don't show raises UserError."""
    try:
        yield
    except Exception as error:  # may come back from a Ray task, wrapped
        *_, bottom = causes(error)
        if isinstance(bottom, pa.ArrowException) or isinstance(bottom, OSError) and bottom.errno is None:
            raise UserError(f"{folder} holds a damaged file ({one_line(bottom)}): {_way_out(folder)}") from None
        raise


def _way_out(folder: Path) -> str:
    return f"restore it, or remove {folder.parent} to build the corpus anew"


def write_table(path: Path, table: pa.Table) -> None:
    """Write the table beside its place, then rename it. What a killed writer left there is removed: one worker at a
    time runs a job."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{path.name}.*.tmp"):
        left.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    pq.write_table(table, temporary)
    flush(temporary)
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
