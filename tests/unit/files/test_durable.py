"""What is renamed into its place is on the disk before."""

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from app.corpus.shard_files import write_table
from app.files.json_files import write_json
from app.reward.by_reward.keeping import make_whole
from app.training.ray_train import replace_folder


def fill(folder: Path) -> None:
    (folder / "inner").mkdir(parents=True, exist_ok=True)
    for name in ("a", "inner/b"):
        (folder / name).write_text(name)


def copied(place: Path) -> None:
    fill(place.parent / "source")
    replace_folder(place.parent / "source", place)


WRITERS: list[tuple[Callable[[Path], object], int]] = [
    (lambda place: make_whole(place, fill), 2),
    (copied, 2),
    (lambda place: write_table(place, pa.table({"a": [1]})), 1),
    (lambda place: write_json(place, {"a": 1}), 1),
]


@pytest.mark.parametrize(("write", "number"), WRITERS)
def test_each_file_is_on_the_disk_before_it_has_its_name(
    write: Callable[[Path], object], number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, flushed, fsync = tmp_path / "made", list[str](), os.fsync

    def noted(descriptor: int) -> None:
        flushed.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        assert not place.exists()
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    write(place)
    assert place.exists() and len(set(flushed)) == number
