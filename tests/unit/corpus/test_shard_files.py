"""Shards that are not what was built are told with their file before anything starts."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.corpus.shard_files import check_rows, read_whole, write_table
from app.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(2):
        rows = {"input_ids": [list(range(row, row + 500)) for row in range(20)]}
        write_table(tmp_path / f"part-0000{number}.parquet", pa.table(rows))
    return tmp_path


def test_whole_shards_pass(folder: Path) -> None:
    check_rows(folder, 40)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-10]), r"part-00001\.parquet can't be read \("),
        (lambda path: path.write_bytes(b""), r"part-00001\.parquet can't be read \("),
        (Path.unlink, "holds 20 rows of the 40 that were built"),
    ],
)
def test_a_shard_that_is_cut_off_or_gone_is_named(folder: Path, damage: Callable[[Path], None], words: str) -> None:
    damage(folder / "part-00001.parquet")
    with pytest.raises(UserError, match=f"{words}.*: restore it, or remove .* to build the corpus anew"):
        check_rows(folder, 40)


def test_damage_in_the_middle_is_told_when_it_is_read(folder: Path) -> None:
    path = folder / "part-00000.parquet"
    data = bytearray(path.read_bytes())
    data[8 : len(data) // 2] = bytes(255 - byte for byte in data[8 : len(data) // 2])
    path.write_bytes(data)
    check_rows(folder, 40)
    with pytest.raises(UserError, match="holds a damaged file"), read_whole(folder):
        pq.ParquetFile(path).read()


def test_another_error_stays_what_it_is(folder: Path) -> None:
    with pytest.raises(FileNotFoundError), read_whole(folder):
        (folder / "nowhere").read_bytes()
