"""What a build keeps out of its training data: benchmark suites, told apart by name and hash, and their signs.

The signs of suites whose problems don't come with the project lie in `guarded/`, one Parquet file a suite, made by
`python -m app.evaluation.guarded_suites`; a build without the benchmarks' files goes by them. A suite whose text is at
hand is hashed anew, and guarded by both. A build writes its whole guard into its work folder in the same form.
"""

import dataclasses
import functools
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from app.corpus.clean.decontamination import Decontaminator
from app.corpus.clean.signs import SIGNS, Signs, merged, signs_of
from app.corpus.jobs import BuildSettings
from app.files.json_files import write_atomic
from app.records import BenchmarkText

GUARD = "guard.parquet"
"""In a build's work folder."""
SHIPPED = Path(__file__).with_name("guarded")
SCHEMA = pa.schema([("label", pa.string()), *((kind, pa.list_(pa.int64())) for kind in SIGNS)])


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Guarded:
    """A suite that training data was held against. Made here; kept in the manifest; read by evaluation."""

    suite: str
    problems: int
    sha256: str
    """SHA-256 of the problems' texts (`texts_sha256`)."""
    by: Literal["text", "hashes"]
    """What it is told by: the "text" of problems at hand, or the "hashes" that come with the project."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Guard:
    """All that a build keeps out. Made by `guard_of`; read by the build's tasks."""

    suites: tuple[Guarded, ...]
    unguarded: tuple[str, ...]
    """Suites that the project knows and can't tell: neither text nor hashes are here."""
    texts: Mapping[str, Sequence[BenchmarkText]]
    """The problems at hand, by suite."""
    shipped: tuple[str, ...]
    """Suites to guard by the project's hashes, texts or not."""

    def signs(self) -> list[Signs]:
        """What a build goes by: seconds of work, which a run with a complete corpus does without."""
        own = [each for held in self.texts.values() for each in signs_of(held)]
        return own + [each for name in self.shipped for each in read_signs(SHIPPED / f"{name}.parquet")[0]]

    def facts(self) -> dict[str, Any]:
        """What the manifest says of it."""
        return {"suites": [dataclasses.asdict(suite) for suite in self.suites], "unguarded": list(self.unguarded)}


def guard_of(
    texts: Mapping[str, Sequence[BenchmarkText]], shipped: Iterable[str] = (), unguarded: Iterable[str] = ()
) -> Guard:
    """The guard of some suites. texts: the problems at hand, by suite. shipped: suites to guard by the project's
    hashes, texts or not."""
    shipped = tuple(shipped)
    found = {name: Guarded(**_facts(pq.read_schema(SHIPPED / f"{name}.parquet"))) for name in shipped}
    for name, held in texts.items():
        found[name] = Guarded(suite=name, problems=len(held), sha256=texts_sha256(held), by="text")
    ordered = tuple(found[name] for name in sorted(found))
    return Guard(suites=ordered, unguarded=tuple(unguarded), texts=texts, shipped=shipped)


def shipped_suites() -> list[str]:
    return sorted(path.stem for path in SHIPPED.glob("*.parquet"))


def ship(suite: str, texts: Sequence[BenchmarkText], folder: Path = SHIPPED) -> Path:
    """Write the file of a suite that comes with the project. The same problems give the same bytes."""
    guarded = Guarded(suite=suite, problems=len(texts), sha256=texts_sha256(texts), by="hashes")
    path = folder / f"{suite}.parquet"
    write_atomic(path, signs_bytes([merged(suite, signs_of(texts))], dataclasses.asdict(guarded)))
    return path


def texts_sha256(texts: Iterable[BenchmarkText]) -> str:
    """What tells one edition of a suite from another: of its problems' ids and texts, in order."""
    return hashlib.sha256(json.dumps({text.problem_id: text.text for text in texts}).encode()).hexdigest()


def signs_bytes(signs: Iterable[Signs], facts: Mapping[str, Any]) -> bytes:
    """The signs as a Parquet file; hashes in order are kept as differences, about four bytes each."""
    rows = [{"label": each.label} | {kind: getattr(each, kind).astype(np.int64) for kind in SIGNS} for each in signs]
    table = pa.Table.from_pylist(rows, SCHEMA.with_metadata({"facts": json.dumps(facts)}))
    encodings = {f"{kind}.list.element": "DELTA_BINARY_PACKED" for kind in SIGNS}
    file = io.BytesIO()
    pq.write_table(
        table, file, use_dictionary=False, column_encoding=encodings, compression="zstd", write_statistics=False
    )
    return file.getvalue()


def read_signs(path: Path) -> tuple[list[Signs], dict[str, Any]]:
    """The signs of a file and what it says of itself."""
    table = pq.read_table(path)
    columns = {}
    for kind in SIGNS:
        column = table[kind].combine_chunks()
        values = column.values.to_numpy().astype(np.uint64)
        starts = column.offsets.to_numpy()
        columns[kind] = [values[start:end] for start, end in zip(starts[:-1], starts[1:], strict=True)]
    labels = table["label"].to_pylist()
    held = [
        Signs(label=label, **{kind: columns[kind][number] for kind in SIGNS}) for number, label in enumerate(labels)
    ]
    return held, _facts(table.schema)


def _facts(schema: pa.Schema) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(schema.metadata[b"facts"])
    return facts


def guard_of_build(build: BuildSettings) -> Decontaminator:
    """The guard of a build, for its tasks: read once in a process."""
    return decontaminator(build.work / GUARD, build.guard_sha256)


@functools.lru_cache(maxsize=1)
def decontaminator(path: Path, sha256: str) -> Decontaminator:
    """The guard that a build wrote; sha256: of the file, so that a worker never goes by an older one."""
    return Decontaminator(signs=read_signs(path)[0])
