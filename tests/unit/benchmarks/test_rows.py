"""Verdicts on rows: which piece of a row is read, how it is shown, and what the kept verdicts hold."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.corpus.rows.assemble import TRAIN_SCHEMA
from app.records import IGNORE
from app.runs import Run
from benchmarks import rows

VERDICTS = Path(rows.__file__).parent


class Letters:
    """A tokenizer of letters."""

    def decode(self, ids: list[int]) -> str:
        return "".join(map(chr, ids))


def test_what_is_learnt_is_marked_and_padding_left_out() -> None:
    ids = np.array([ord(letter) for letter in "ask:say"] + [0, 0], np.int32)
    labels = np.array([IGNORE] * 4 + [1] * 3 + [IGNORE] * 2, np.int32)
    assert rows._shown(ids, labels, Letters()) == "ask:⟦say⟧"


def test_a_piece_is_drawn_by_its_learnt_tokens_and_the_same_by_the_same_seed(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.train_shards.mkdir(parents=True)
    row = {"input_ids": [1] * 12, "position_ids": [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3]}
    row["labels"] = [IGNORE] * 4 + [IGNORE, 7, 7, 7] + [IGNORE] * 3 + [7]  # none, three and one of them are learnt
    pq.write_table(pa.Table.from_pylist([row] * 200, TRAIN_SCHEMA), run.train_shards / "00000.parquet")
    drawn = [name for name, *_ in rows._pieces(run, 1)]
    assert drawn == [name for name, *_ in rows._pieces(run, 1)] != [name for name, *_ in rows._pieces(run, 2)]
    assert len({name.rpartition(":")[0] for name in drawn}) == 200, "of every row one"
    of_piece = [sum(name.endswith(f":{piece}") for name in drawn) for piece in range(3)]
    assert of_piece[0] == 0 and 120 < of_piece[1] < 180


@pytest.mark.parametrize(("name", "number"), [("before", 100), ("after", 100), ("dropped", 50)])
def test_the_kept_verdicts_are_whole(name: str, number: int) -> None:
    read = [json.loads(line) for line in (VERDICTS / f"rows_{name}.jsonl").read_text().splitlines()]
    assert len({row["id"] for row in read}) == len(read) == number
    assert {row["verdict"] for row in read} == {"good", "poor"}
    assert all(row["kind"] for row in read if row["verdict"] == "poor")


def test_the_rows_read_after_are_others_than_those_before() -> None:
    places = [
        {tuple(json.loads(line)[key] for key in rows.PLACE) for line in (VERDICTS / name).read_text().splitlines()}
        for name in ("rows_before.jsonl", "rows_after.jsonl")
    ]
    assert not places[0] & places[1]
