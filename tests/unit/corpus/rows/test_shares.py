"""Shares count learnt tokens over the whole corpus, and what can't be met is said."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.corpus.recipes import Forms
from app.corpus.rows.samples import SAMPLE_SCHEMA
from app.corpus.rows.shares import Chosen, choose, quotas, shortfalls

DEFAULT = Forms().model_dump()
PLENTY = {
    "doc_to_code": 100_000, "code_to_doc": 900_000, "fill_in": 900_000, "fix_bug": 2_000, "multi_file": 900_000,
    "problem": 3_000, "tool_use": 900_000, "completion": 900_000, "file": 9_000_000,
}  # fmt: skip


def parts(material: dict[str, int], shares: dict[str, float]) -> dict[str, float]:
    taken = quotas(material, shares)
    return {form: amount / sum(taken.values()) for form, amount in taken.items()}


def test_a_share_is_its_part_of_all_learnt_tokens_and_1_is_everything() -> None:
    found = quotas(PLENTY, DEFAULT)
    for form, share in DEFAULT.items():
        if share == 1:
            assert found[form] == PLENTY[form]
        else:
            assert found[form] / sum(found.values()) == pytest.approx(share)


def test_material_that_is_short_is_taken_whole_and_the_others_keep_to_their_shares() -> None:
    found = parts(PLENTY | {"tool_use": 100, "fill_in": 5_000}, DEFAULT)
    assert found["tool_use"] < 0.01 and found["fill_in"] < DEFAULT["fill_in"]
    assert found["file"] == pytest.approx(DEFAULT["file"]) and found["completion"] == pytest.approx(0.05)
    assert all(found[form] <= share + 1e-9 for form, share in DEFAULT.items())


@pytest.mark.parametrize(
    ("material", "shares", "wanted"),
    [
        ({"file": 1000, "completion": 400}, {"file": 1, "completion": 1}, {"file": 1000, "completion": 400}),
        ({"file": 1000, "doc_to_code": 100}, {"file": 0.5, "doc_to_code": 0.5}, {"file": 100, "doc_to_code": 100}),
        ({"file": 1000, "doc_to_code": 100}, {"file": 0.1, "doc_to_code": 0.4}, {"file": 25, "doc_to_code": 100}),
        ({"file": 1000}, {"file": 0.02, "doc_to_code": 1.0}, {"file": 1000}),
        ({"file": 1000, "doc_to_code": 100}, {"file": 0.0, "doc_to_code": 1.0}, {"doc_to_code": 100}),
        ({}, {"file": 1.0}, {}),
    ],
)
def test_shares_without_a_whole_form_count_relative_to_each_other(
    material: dict[str, int], shares: dict[str, float], wanted: dict[str, float]
) -> None:
    assert quotas(material, shares) == pytest.approx(wanted)


def test_a_share_that_is_not_met_is_told_with_how_much_is_missing() -> None:
    (sentence,) = shortfalls({"doc_to_code": 900, "fill_in": 100}, {"doc_to_code": 1.0, "fill_in": 0.25})
    assert sentence.startswith("fill_in: 10.0% of the learnt tokens, 25.0% asked: 150 tokens short")
    assert not list(shortfalls({"doc_to_code": 75, "fill_in": 25}, {"doc_to_code": 1.0, "fill_in": 0.25}))
    assert "tool_use: 0.0%" in next(shortfalls({"doc_to_code": 10}, {"doc_to_code": 1.0, "tool_use": 0.1}))
    assert not list(shortfalls({}, {"doc_to_code": 1.0, "fill_in": 0.25})), "of nothing there are no shares"


def samples(folder: Path, number: int, rows: list[tuple[str, int, int]]) -> Path:
    blank: dict[str, Any] = dict.fromkeys(SAMPLE_SCHEMA.names)
    path = folder / f"{number}.parquet"
    made = [blank | {"form": form, "draw": draw, "learnt": size} for form, draw, size in rows]
    pq.write_table(pa.Table.from_pylist(made, SAMPLE_SCHEMA), path)
    return path


def taken(chosen: Chosen) -> list[list[int]]:
    return [rows.tolist() for rows in chosen.rows]


def test_the_choice_is_over_all_files_by_draw_and_a_file_is_cut_where_its_share_ends(tmp_path: Path) -> None:
    one = samples(tmp_path, 1, [("doc_to_code", 9, 700), ("file", 5, 400), ("fill_in", 3, 100), ("file", 1, 100)])
    two = samples(tmp_path, 2, [("fill_in", 2, 100), ("file", 2, 5000), ("fill_in", 1, 100)])
    chosen = choose([one, two], {"doc_to_code": 1.0, "fill_in": 0.1, "file": 0.2})
    assert taken(chosen) == [[0, 3], [1, 2]], "of fill_in the first by draw, of file two, the second cut"
    assert chosen.cuts == ({}, {1: 100}) and chosen.material == {"doc_to_code": 700, "fill_in": 300, "file": 5500}
    more = choose([one, two], {"doc_to_code": 1.0, "fill_in": 0.2, "file": 0.2})
    assert set(taken(chosen)[1]) <= set(taken(more)[1]), "a larger share keeps what a smaller one took"


def test_shards_without_samples_and_no_shards_at_all_are_no_error(tmp_path: Path) -> None:
    assert taken(choose([samples(tmp_path, 1, [])], DEFAULT)) == [[]]
    assert choose([], DEFAULT).rows == ()
