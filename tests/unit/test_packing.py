"""Packing loses and repeats no token."""

import random
from collections import Counter

import pytest

from app.corpus.packing import IGNORE, PackedRow, Sample, pack

PAD = 0


def documents_of(rows: list[PackedRow]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The pieces of the rows, cut where positions start again; padding left out."""
    pieces = []
    for row in rows:
        starts = [i for i, position in enumerate(row.position_ids) if position == 0] + [len(row.position_ids)]
        for start, end in zip(starts, starts[1:], strict=False):
            ids, labels = tuple(row.input_ids[start:end]), tuple(row.labels[start:end])
            if set(ids) != {PAD}:
                pieces.append((ids, labels))
    return pieces


@pytest.mark.parametrize("seed", range(20))
def test_every_token_and_label_arrives_exactly_once(seed: int) -> None:
    draw = random.Random(seed)
    seq_len = draw.choice([32, 64, 100])
    samples = []
    for _ in range(draw.randint(1, 200)):
        ids = [draw.randint(1, 50_000) for _ in range(draw.choice([1, 5, 30, seq_len, seq_len + 1, 3 * seq_len]))]
        masked = draw.randint(0, len(ids) // 2)
        samples.append(Sample(input_ids=ids, labels=[IGNORE] * masked + ids[masked:]))
    rows = pack(samples, seq_len, PAD)
    expected = Counter()
    for sample in samples:
        for start in range(0, len(sample.input_ids), seq_len):
            ids, labels = sample.input_ids[start : start + seq_len], sample.labels[start : start + seq_len]
            expected[tuple(ids), (IGNORE, *labels[1:])] += 1
    assert Counter(documents_of(rows)) == expected
    assert all(len(row.input_ids) == len(row.labels) == len(row.position_ids) == seq_len for row in rows)


def test_a_document_that_fits_is_never_cut() -> None:
    draw = random.Random(0)
    samples = [Sample(input_ids=[n] * draw.randint(1, 64), labels=[n] * 64) for n in range(1, 300)]
    samples = [Sample(input_ids=s.input_ids, labels=s.labels[: len(s.input_ids)]) for s in samples]
    assert len(documents_of(pack(samples, 64, PAD))) == len(samples)


def test_rows_are_nearly_full() -> None:
    draw = random.Random(1)
    samples = [Sample(input_ids=[1] * n, labels=[1] * n) for n in (draw.randint(10, 200) for _ in range(500))]
    rows = pack(samples, 256, PAD)
    assert sum(len(s.input_ids) for s in samples) / (len(rows) * 256) > 0.97


def test_padding_and_first_tokens_are_not_learnt() -> None:
    (row,) = pack([Sample(input_ids=[5, 6], labels=[5, 6]), Sample(input_ids=[7], labels=[7])], 6, PAD)
    assert row.labels == [IGNORE, 6, IGNORE, IGNORE, IGNORE, IGNORE]
    assert row.position_ids == [0, 1, 0, 0, 1, 2]
