"""Near-duplicates meet, different code does not, and the best copy of each group stays."""

import hashlib
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.corpus.clean.duplicates import Duplicates, find_duplicates
from app.corpus.clean.minhash import BANDS_BYTES, NO_BANDS, bands
from app.corpus.clean.tokens import code_tokens, grams, word_tokens
from app.errors import UserError

CODE = '''def moving_average(values, width):
    """Mean of each window of the values."""
    # A running sum keeps this linear in the number of values.
    if width < 1 or width > len(values):
        raise ValueError("no such window")
    total = sum(values[:width])  # the first window
    means = [total / width]
    for position in range(width, len(values)):
        total += values[position] - values[position - width]
        means.append(total / width)
    return means
'''
RECOMMENTED = CODE.replace(
    "# A running sum keeps this linear in the number of values.", "# O(n), see the notes"
).replace("  # the first window", "")
OTHER = '''def parse_header(line):
    """Name and value of one header line."""
    name, _, value = line.partition(":")
    if not name.strip():
        raise KeyError(f"no name in {line!r}")
    return name.strip().lower(), value.strip()
'''


def write(path: Path, texts: Sequence[str], kinds: str | Sequence[str] = "file", ranks: Sequence[float] = ()) -> Path:
    table = pa.table(
        {
            "sha256": pa.array([hashlib.sha256(text.encode()).digest() for text in texts], pa.binary(32)),
            "bands": pa.array([bands(text) for text in texts], pa.binary(BANDS_BYTES)),
            "kind": pa.array([kinds] * len(texts) if isinstance(kinds, str) else kinds, pa.string()),
            "rank": pa.array(ranks or [0.0] * len(texts), pa.float64()),
        }
    )
    pq.write_table(table, path)
    return path


def rows(found: Duplicates) -> list[list[int]]:
    return [part.tolist() for part in found.kept]


def shared(one: str, two: str) -> int:
    both = [np.frombuffer(bands(text), "<u8") for text in (one, two)]
    return int((both[0] == both[1]).sum())


def test_a_near_duplicate_with_changed_comments_and_layout_is_caught(tmp_path: Path) -> None:
    laid_out = RECOMMENTED.replace("    ", "\t").replace("(values, width)", "(\n    values,\n    width\n)")
    paths = [write(tmp_path / "a.parquet", [OTHER, CODE]), write(tmp_path / "b.parquet", [RECOMMENTED, laid_out])]
    found = find_duplicates(paths)
    assert rows(found) == [[0, 1], []]
    assert list(found.dropped(1)) == [(0, "near-duplicate: of a.parquet:1"), (1, "near-duplicate: of a.parquet:1")]
    assert found.counts == {"duplicate": 0, "near-duplicate": 2}


def test_exact_duplicates_are_told_apart_from_near_ones(tmp_path: Path) -> None:
    found = find_duplicates([write(tmp_path / "a.parquet", [CODE, OTHER, CODE, RECOMMENTED])])
    assert list(found.dropped(0)) == [(2, "duplicate: of a.parquet:0"), (3, "near-duplicate: of a.parquet:0")]
    assert found.counts == {"duplicate": 1, "near-duplicate": 1}


def test_the_best_copy_stays_and_the_first_among_equals(tmp_path: Path) -> None:
    first = write(tmp_path / "a.parquet", [CODE, RECOMMENTED], ranks=[1.0, 2.0])
    second = write(tmp_path / "b.parquet", [CODE, RECOMMENTED], ranks=[2.0, 0.5])
    found = find_duplicates([first, second])
    assert rows(found) == [[1], []]
    assert list(found.dropped(0)) == [(0, "near-duplicate: of a.parquet:1")]
    assert list(found.dropped(1)) == [(0, "near-duplicate: of a.parquet:1"), (1, "duplicate: of a.parquet:1")]


def test_a_function_and_a_file_of_one_text_are_no_duplicates(tmp_path: Path) -> None:
    found = find_duplicates([write(tmp_path / "a.parquet", [CODE, CODE], kinds=["file", "function"])])
    assert rows(found) == [[0, 1]]


def test_very_short_documents_have_exact_duplicates_only(tmp_path: Path) -> None:
    assert bands("x = 1\n") == bands("y\n") == bands("") == NO_BANDS
    assert rows(find_duplicates([write(tmp_path / "a.parquet", ["x = 1\n", "y = 2\n", "x = 1\n"])])) == [[0, 1]]


def test_near_duplicates_join_through_a_third_copy(tmp_path: Path) -> None:
    lines = [f"value_{number} = compute_{number}(alpha, beta)  # step" for number in range(60)]
    versions = ["\n".join(lines[start : start + 45]) for start in range(0, 16, 3)]
    assert shared(versions[0], versions[-1]) == 0 and all(map(shared, versions, versions[1:]))
    assert rows(find_duplicates([write(tmp_path / "a.parquet", versions)])) == [[0]]


def test_pairs_meet_as_often_as_the_bands_promise() -> None:
    """1 - (1 - s^10)^25, on documents of 400 shingles with known Jaccard similarity."""
    draw = random.Random(0)
    for similarity, least, most in ((0.4, 0.0, 0.05), (0.7, 0.3, 0.72), (0.9, 0.98, 1.0)):
        met = 0
        for _ in range(60):
            common = [draw.randrange(10**9) for _ in range(400)]
            own = round(400 * (1 - similarity) / (1 + similarity))
            tails = [[draw.randrange(10**9) for _ in range(own)] for _ in range(2)]
            texts = [" ".join(map(str, [*common[own:], *tail])) for tail in tails]
            met += shared(*texts) > 0
        assert least <= met / 60 <= most, similarity


def test_the_groups_are_those_of_a_plain_search(tmp_path: Path) -> None:
    """Against a union of all pairs, over several files of unequal length, empty ones included."""
    draw = random.Random(1)
    texts = []
    for number in range(40):
        words = [f"name{draw.randrange(2000)}" for _ in range(120)]
        for _ in range(draw.randrange(1, 4)):
            changed = list(words)
            for _ in range(draw.randrange(0, 4)):
                changed[draw.randrange(len(changed))] = f"other{number}"
            texts.append(" ".join(changed))
    draw.shuffle(texts)
    group = list(range(len(texts)))
    for one in range(len(texts)):
        for two in range(one):
            if shared(texts[one], texts[two]) and group[one] != group[two]:
                low, high = sorted((group[one], group[two]))
                group = [low if value == high else value for value in group]
    cuts = [0, 10, 10, 70, len(texts)]
    paths = [
        write(tmp_path / f"{number}.parquet", texts[start:end])
        for number, (start, end) in enumerate(zip(cuts, cuts[1:], strict=False))
    ]
    found = find_duplicates(paths)
    kept = [cuts[number] + row for number, part in enumerate(rows(found)) for row in part]
    assert kept == sorted(set(group)) and len(kept) < len(texts)
    assert found.keeper.tolist() == group


def test_no_documents_are_no_duplicates(tmp_path: Path) -> None:
    assert rows(find_duplicates([])) == []
    assert rows(find_duplicates([write(tmp_path / "a.parquet", [])])) == [[]]


def test_documents_of_another_version_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"sha256": ["x"], "kind": ["file"], "rank": [0.0]}), tmp_path / "old.parquet")
    with pytest.raises(UserError, match="bands"):
        find_duplicates([tmp_path / "old.parquet"])


def test_tokens_are_those_of_a_plain_search() -> None:
    """Equal tokens have equal hashes wherever they stand, different ones different hashes."""
    text = "def f(x):  # comment\n    return x_1 + x.y != 'naïve' + \"f\"\n"
    found = code_tokens(text)
    shown = [found.raw[start:end].decode() for start, end in zip(found.starts, found.ends, strict=True)]
    assert " ".join(shown) == "def f ( x ) : return x_1 + x . y ! = ' na ve ' + \" f \""
    assert len(set(found.hashes.tolist())) == len(set(shown))
    assert all((found.hashes[i] == found.hashes[j]) == (shown[i] == shown[j]) for i in range(21) for j in range(21))
    words = word_tokens("The End, the END.")
    assert words.hashes[0] == words.hashes[2] and words.hashes[1] == words.hashes[3] and len(words.hashes) == 4
    runs = grams(words.hashes, 2)
    assert len(runs) == 3 and runs[0] == runs[2] != runs[1]
    assert len(grams(words.hashes, 5)) == 0
