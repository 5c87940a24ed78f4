"""Packs tokenised documents into rows of one length: no token lost, none repeated, only padding added.

Best-fit decreasing ("Fewer Truncations Improve Language Modeling", arXiv 2404.10830): a document longer than a row is
cut into rows, every other one stays whole. `position_ids` start at 0 with each document, from which the model builds
a mask that keeps documents from attending to each other.
"""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from app.records import IGNORE


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A tokenised document. labels[i] is input_ids[i], or IGNORE where nothing is to be learnt. Both [tokens]."""

    input_ids: list[int]
    labels: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedRow:
    """One training row; all three [seq_len]. Padding has label IGNORE and positions of its own."""

    input_ids: list[int]
    labels: list[int]
    position_ids: list[int]


def pack(samples: Sequence[Sample], seq_len: int, pad_id: int) -> list[PackedRow]:
    pieces = [piece for sample in samples for piece in _cut(sample, seq_len)]
    pieces.sort(key=lambda piece: -len(piece.input_ids))  # stable: equal lengths keep their order
    bins: list[list[Sample]] = []
    room: list[tuple[int, int]] = []  # (free tokens, bin), ascending
    for piece in pieces:
        size = len(piece.input_ids)
        place = bisect.bisect_left(room, (size, -1))
        if place < len(room):
            free, index = room.pop(place)
        else:
            free, index = seq_len, len(bins)
            bins.append([])
        bins[index].append(piece)
        if free > size:
            bisect.insort(room, (free - size, index))
    return [_row(pieces_of_bin, seq_len, pad_id) for pieces_of_bin in bins]


def _cut(sample: Sample, seq_len: int) -> list[Sample]:
    return [
        Sample(input_ids=sample.input_ids[i : i + seq_len], labels=sample.labels[i : i + seq_len])
        for i in range(0, len(sample.input_ids), seq_len)
    ]


def _row(pieces: list[Sample], seq_len: int, pad_id: int) -> PackedRow:
    input_ids = [token for piece in pieces for token in piece.input_ids]
    labels = [label for piece in pieces for label in (IGNORE, *piece.labels[1:])]  # nothing precedes a first token
    positions = [position for piece in pieces for position in range(len(piece.input_ids))]
    padding = seq_len - len(input_ids)
    return PackedRow(
        input_ids=input_ids + [pad_id] * padding,
        labels=labels + [IGNORE] * padding,
        position_ids=positions + list(range(padding)),
    )
