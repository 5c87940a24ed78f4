"""Packing loses and repeats no token, cuts only what must be cut, and leaves little padding."""

import random
from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.corpus.rows.packing import IGNORE, PackedRow, Sample, pack, packing_stats, too_long

PAD = 0


def documents_of(rows: list[PackedRow]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The pieces of the rows, cut where positions start again; padding left out."""
    pieces = []
    for row in rows:
        starts = [i for i, position in enumerate(row.position_ids[: row.num_tokens]) if position == 0]
        for start, end in zip(starts, [*starts[1:], row.num_tokens], strict=True):
            pieces.append((tuple(row.input_ids[start:end]), tuple(row.labels[start:end])))
    return pieces


def plain(length: int, token: int = 1) -> Sample:
    return Sample(input_ids=[token] * length, labels=[token] * length)


def realistic_length(draw: random.Random) -> int:
    """Tokens of an example: functions and dialogues of some hundred, now and then a file of many rows."""
    if draw.random() < 0.04:
        return int(draw.lognormvariate(7.9, 0.9))
    return max(20, min(2048, int(draw.lognormvariate(5.6, 0.75))))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_every_token_and_label_arrives_exactly_once(data: st.DataObject) -> None:
    seq_len = data.draw(st.sampled_from([32, 64, 100]))
    lengths = data.draw(st.lists(st.integers(1, 3 * seq_len + 1) | st.just(seq_len), max_size=80))
    draw = random.Random(data.draw(st.integers(0, 1000)))
    samples = []
    for length in lengths:
        ids = [draw.randint(0, 50_000) for _ in range(length)]  # the padding's own id among them
        masked = draw.randint(0, length // 2)
        samples.append(Sample(input_ids=ids, labels=[IGNORE] * masked + ids[masked:]))
    rows = pack(samples, seq_len, PAD)
    expected = Counter()
    for sample in samples:
        for start in range(0, len(sample.input_ids), seq_len):
            ids, labels = sample.input_ids[start : start + seq_len], sample.labels[start : start + seq_len]
            expected[tuple(ids), (IGNORE, *labels[1:])] += 1
    assert Counter(documents_of(rows)) == expected
    assert all(len(row.input_ids) == len(row.labels) == len(row.position_ids) == seq_len for row in rows)
    assert packing_stats(rows).tokens == sum(lengths)


def test_a_document_that_fits_is_never_cut() -> None:
    draw = random.Random(0)
    samples = [plain(draw.randint(1, 64), token=n) for n in range(1, 300)]
    rows = pack(samples, 64, PAD)
    assert len(documents_of(rows)) == len(samples) and packing_stats(rows).cut == 0


@given(st.integers(0, 10_000), st.integers(300, 3000))
@settings(max_examples=15, deadline=None)
def test_rows_of_realistic_examples_are_at_least_97_percent_full(seed: int, count: int) -> None:
    draw = random.Random(seed)
    rows = pack([plain(realistic_length(draw)) for _ in range(count)], 2048, PAD)
    assert packing_stats(rows).fill >= 0.97


def test_padding_and_first_tokens_are_not_learnt() -> None:
    (row,) = pack([Sample(input_ids=[5, 6], labels=[5, 6]), Sample(input_ids=[7], labels=[7])], 6, PAD)
    assert row.labels.tolist() == [IGNORE, 6, IGNORE, IGNORE, IGNORE, IGNORE]
    assert row.position_ids.tolist() == [0, 1, 0, 0, 1, 2]


def test_a_dialogue_longer_than_a_row_is_refused_with_its_length_and_never_cut() -> None:
    dialogue = Sample(input_ids=[1] * 65, labels=[1] * 65, is_whole=True)
    assert too_long(dialogue, 64) == "longer than a row: 65 tokens in rows of 64"
    assert not too_long(dialogue, 65) and not too_long(plain(65), 64)
    with pytest.raises(ValueError, match="65 tokens"):
        pack([dialogue], 64, PAD)


def test_the_rest_of_a_cut_document_shares_its_row() -> None:
    rows = pack([plain(100), plain(20)], 64, PAD)
    assert asdict(packing_stats(rows)) == {
        "rows": 2, "tokens": 120, "fill": 120 / 128, "pieces": 3, "pieces_per_row": 1.5, "cut": 1,
        "rows_by_fill": {"87": 1, "100": 1},
    }  # fmt: skip


def test_the_same_samples_give_the_same_rows() -> None:
    draw = random.Random(3)
    samples = [plain(realistic_length(draw), token=n) for n in range(500)]
    first, second = pack(samples, 2048, PAD), pack(list(samples), 2048, PAD)
    assert len(first) == len(second)
    for name in ("input_ids", "labels", "position_ids"):
        assert all(np.array_equal(getattr(a, name), getattr(b, name)) for a, b in zip(first, second, strict=True))
    assert pack([], 2048, PAD) == [] and packing_stats([]).fill == 0
