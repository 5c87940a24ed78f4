"""Exact and near-duplicates over the documents of many shards: the best copy of each group stays.

Reads Parquet files with the columns sha256 (binary 32), bands (binary, `minhash.bands`), kind and rank, a few bands at
a time: near-duplicates are the connected components over documents of one kind that share a band. Of a group the
document with the highest rank stays, the first in order among equals.

Memory follows the number of documents, not their text: 60 bytes each in a pass of BANDS_A_PASS bands, and the columns
of one file. Measured with 600,000 documents (about 2 GB of source), a quarter of them distinct: 3.2 s, 160 MB. The
order of the files is the order of the documents, so the result does not depend on who wrote them.

Limits: sharing is transitive, so a group may hold documents that are less alike than the threshold; candidates are
not verified (see `minhash` for how likely pairs of each similarity meet). Hashes are compared by 64 bits: among 10^6
documents one pair in ten million builds is taken for a duplicate that is none.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from app.corpus.clean.minhash import NUM_BANDS
from app.corpus.clean.tokens import Hashes, mixed
from app.errors import UserError

EXACT, NEAR = "duplicate", "near-duplicate"
BANDS_A_PASS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicates:
    """What stays and what goes. Made by `find_duplicates`; read by the build, for rows to pack and rejected.parquet."""

    paths: tuple[Path, ...]
    kept: tuple[NDArray[np.int64], ...]
    """Rows that stay of each path, ascending."""
    counts: dict[str, int]
    """Documents dropped, by EXACT and NEAR."""
    starts: NDArray[np.int64]
    """Number of documents before each path, and after the last."""
    keeper: NDArray[np.int32]
    """The one of each document's group that stays, itself where it stays; shape: (documents,)."""
    exact: NDArray[np.bool_]
    """Whether each document is a copy of its keeper, byte for byte; shape: (documents,)."""

    def dropped(self, number: int) -> Iterator[tuple[int, str]]:
        """Rows of path `number` that go, each with its reason: "near-duplicate: of part-00001.parquet:17"."""
        start, end = self.starts[number], self.starts[number + 1]
        for document in start + np.flatnonzero(self.keeper[start:end] != np.arange(start, end)):
            keeper = self.keeper[document]
            home = int(np.searchsorted(self.starts, keeper, side="right")) - 1
            kind = EXACT if self.exact[document] else NEAR
            yield int(document - start), f"{kind}: of {self.paths[home].name}:{keeper - self.starts[home]}"


def find_duplicates(paths: Sequence[Path]) -> Duplicates:
    """Group the documents of all files. Raises UserError for a file without the columns."""
    starts = np.concatenate(([0], np.cumsum([_num_rows(path) for path in paths]))).astype(np.int64)
    groups = np.arange(starts[-1], dtype=np.int32)
    digests = _keys(paths, starts, "sha256", 0, 1)[:, 0]
    _unite(groups, digests)
    for first in range(0, NUM_BANDS, BANDS_A_PASS):
        keys = _keys(paths, starts, "bands", first, min(BANDS_A_PASS, NUM_BANDS - first))
        for band in range(keys.shape[1]):
            _unite(groups, keys[:, band])
    keeper = _keepers(groups, _ranks(paths))
    exact = digests == digests[keeper]
    gone = keeper != np.arange(len(keeper))
    kept = [np.flatnonzero(~gone[start:end]) for start, end in zip(starts[:-1], starts[1:], strict=True)]
    num_exact = int((gone & exact).sum())
    counts = {EXACT: num_exact, NEAR: int(gone.sum()) - num_exact}
    return Duplicates(paths=tuple(paths), kept=tuple(kept), counts=counts, starts=starts, keeper=keeper, exact=exact)


def _num_rows(path: Path) -> int:
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowInvalid):
        raise UserError(f"{path} is no readable Parquet file: remove it and build its shard again") from None
    if missing := sorted({"sha256", "bands", "kind", "rank"} - set(schema.names)):
        raise UserError(f"{path} has no column {missing[0]!r}: documents of another version, build them again")
    return int(pq.read_metadata(path).num_rows)


def _keys(paths: Sequence[Path], starts: NDArray[np.int64], column: str, first: int, count: int) -> Hashes:
    """64-bit words `first` to `first + count` of a binary column, made different for each kind; 0 stays 0 (no band).
    Shape: (documents, count), column by column in memory."""
    keys = np.zeros((starts[-1], count), np.uint64, order="F")
    for number, path in enumerate(paths):
        table = pq.read_table(path, columns=[column, "kind"])
        kinds = table["kind"].combine_chunks().dictionary_encode()
        salts = np.array([_salt(kind.as_py()) for kind in kinds.dictionary], np.uint64)
        row = int(starts[number])
        for chunk in table[column].chunks:
            values = chunk.cast(pa.binary())
            if len(values) == 0:
                continue
            words = np.frombuffer(b"".join(values.to_pylist()), "<u8").reshape(len(values), -1)
            keys[row : row + len(values)] = words[:, first : first + count]
            row += len(values)
        if len(salts):
            part = keys[starts[number] : starts[number + 1]]
            part ^= np.where(part != 0, salts[kinds.indices.to_numpy()][:, None], np.uint64(0))
    return keys


def _salt(kind: str) -> np.uint64:
    return mixed(np.frombuffer(kind.encode().ljust(8, b"\0")[:8], "<u8"))[0]


def _ranks(paths: Sequence[Path]) -> NDArray[np.float64]:
    columns = [pq.read_table(path, columns=["rank"])["rank"].to_numpy() for path in paths]
    return np.concatenate(columns).astype(np.float64) if columns else np.zeros(0)


def _unite(groups: NDArray[np.int32], keys: Hashes) -> None:
    """Join, in place, the groups of documents with one key. groups[i] <= i is the group's first document.

    Union-find over whole arrays (hook the higher root to the lower, then shortcut: Shiloach and Vishkin 1982).
    """
    order = np.argsort(keys, kind="stable")
    same = keys[order[1:]] == keys[order[:-1]]
    same &= keys[order[1:]] != 0
    left, right = order[:-1][same], order[1:][same]
    while len(left):
        low, high = np.minimum(groups[left], groups[right]), np.maximum(groups[left], groups[right])
        apart = low != high
        left, right = left[apart], right[apart]
        np.minimum.at(groups, high[apart], low[apart])
        while not np.array_equal(shorter := groups[groups], groups):
            groups[:] = shorter


def _keepers(groups: NDArray[np.int32], ranks: NDArray[np.float64]) -> NDArray[np.int32]:
    """The best of each document's group: the highest rank, then the first in order."""
    order = np.lexsort((np.arange(len(groups)), -ranks, groups))
    leads = np.ones(len(order), bool)
    leads[1:] = groups[order[1:]] != groups[order[:-1]]
    best = np.zeros(len(groups), np.int32)
    best[groups[order[leads]]] = order[leads]
    return best[groups]
