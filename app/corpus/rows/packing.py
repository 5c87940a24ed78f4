"""The packing of tokenised examples into rows of one length: no token lost, none repeated, only padding added.

Best-fit decreasing ("Fewer Truncations Improve Language Modeling", arXiv 2404.10830): a text longer than a row is cut
into rows, every other one stays whole. `position_ids` start at 0 with each piece, from which the model builds a mask
that keeps pieces from attending to each other.
"""

import bisect
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from app.records import IGNORE

Ids: TypeAlias = NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A tokenised example. Made by `app.corpus.rows.render`; packed here. labels[i] is input_ids[i], or IGNORE where
    nothing is to be learnt. Both [tokens]."""

    input_ids: list[int]
    labels: list[int]
    is_whole: bool = False
    """Never cut: a dialogue, or a completion that means nothing without its prompt."""
    columns: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """What else is said of each token, [tokens] each; packed with it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PackedRow:
    """One training row; the arrays are [seq_len]. Padding has label IGNORE and positions of its own."""

    input_ids: Ids
    labels: Ids
    position_ids: Ids
    num_tokens: int
    """Without the padding."""
    num_pieces: int
    num_cut: int
    """Examples cut into several rows whose first piece is here."""
    columns: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """The samples' columns, [seq_len] each; 0 on padding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackingStats:
    """How full rows are. Made by `packing_stats`; kept with the rows and added up in the manifest."""

    rows: int
    tokens: int
    """Without the padding."""
    fill: float
    """Share of the rows' tokens that are not padding."""
    pieces: int
    pieces_per_row: float
    cut: int
    """Examples in more than one row."""
    rows_by_fill: dict[str, int]
    """Whole per cent of fill, rounded down -> rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """Tokens `start` to `end` of a sample."""

    sample: Sample
    start: int
    end: int


def too_long(sample: Sample, seq_len: int) -> str:
    """Why a sample can't be packed; empty when it can."""
    size = len(sample.input_ids)
    return f"longer than a row: {size} tokens in rows of {seq_len}" if sample.is_whole and size > seq_len else ""


def num_learnt(labels: Sequence[int], seq_len: int) -> int:
    """Tokens of a sample that are learnt in rows of seq_len, where nothing precedes the first token of each piece."""
    return sum(label != IGNORE for place, label in enumerate(labels) if place % seq_len)


def pack(samples: Sequence[Sample], seq_len: int, pad_id: int) -> list[PackedRow]:
    """Rows in an order that follows the samples' lengths. Raises ValueError for a sample that is `too_long`."""
    pieces = [piece for sample in samples for piece in _pieces(sample, seq_len)]
    pieces.sort(key=lambda piece: piece.start - piece.end)  # stable: equal lengths keep their order
    rows: list[list[_Piece]] = []
    rows_with: dict[int, list[int]] = {}  # free tokens -> numbers of the rows that have this many
    room: list[int] = []  # the keys of rows_with that are not empty, ascending
    for piece in pieces:
        size = piece.end - piece.start
        place = bisect.bisect_left(room, size)
        if place < len(room):
            free = room[place]
            number = rows_with[free].pop()
            if not rows_with[free]:
                del room[place]
        else:
            free, number = seq_len, len(rows)
            rows.append([])
        rows[number].append(piece)
        if left := free - size:
            if not rows_with.setdefault(left, []):
                bisect.insort(room, left)
            rows_with[left].append(number)
    return [_row(held, seq_len, pad_id) for held in rows]


def packing_stats(rows: Sequence[PackedRow]) -> PackingStats:
    tokens, pieces = sum(row.num_tokens for row in rows), sum(row.num_pieces for row in rows)
    by_fill = Counter(100 * row.num_tokens // len(row.input_ids) for row in rows)
    return PackingStats(
        rows=len(rows),
        tokens=tokens,
        fill=tokens / max(1, sum(len(row.input_ids) for row in rows)),
        pieces=pieces,
        pieces_per_row=pieces / max(1, len(rows)),
        cut=sum(row.num_cut for row in rows),
        rows_by_fill={str(percent): by_fill[percent] for percent in sorted(by_fill)},
    )


def _pieces(sample: Sample, seq_len: int) -> Iterator[_Piece]:
    if reason := too_long(sample, seq_len):
        raise ValueError(f"an example that must stay whole is {reason}")
    size = len(sample.input_ids)
    for start in range(0, size, seq_len):
        yield _Piece(sample=sample, start=start, end=min(start + seq_len, size))


def _row(pieces: list[_Piece], seq_len: int, pad_id: int) -> PackedRow:
    input_ids = np.full(seq_len, pad_id, np.int32)
    labels = np.full(seq_len, IGNORE, np.int32)
    positions = np.zeros(seq_len, np.int32)
    columns = {name: np.zeros(seq_len, np.float32) for piece in pieces for name in piece.sample.columns}
    place = num_cut = 0
    for piece in pieces:
        end = place + piece.end - piece.start
        input_ids[place:end] = piece.sample.input_ids[piece.start : piece.end]
        labels[place + 1 : end] = piece.sample.labels[piece.start + 1 : piece.end]  # nothing precedes a first token
        positions[place:end] = np.arange(end - place)
        for name, column in piece.sample.columns.items():
            columns[name][place:end] = column[piece.start : piece.end]
        num_cut += piece.start == 0 and piece.end < len(piece.sample.input_ids)
        place = end
    positions[place:] = np.arange(seq_len - place)
    return PackedRow(
        input_ids=input_ids,
        labels=labels,
        position_ids=positions,
        num_tokens=place,
        num_pieces=len(pieces),
        num_cut=num_cut,
        columns=columns,
    )
