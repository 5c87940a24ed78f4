"""The corpus tasks on real files, without Ray: forms, masks, rejections, and going on where a kill left off."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from app.corpus.recipes import Recipe
from app.corpus.shards import BENCHMARKS, Shard, extract_shard, pack_shard
from app.evaluation import humaneval
from app.profiles import smoke
from app.records import IGNORE
from app.runs import write_atomic

SOURCE = '''"""Tools for triangles, kept here for the tests of the corpus build and nothing else."""


def area(base, height):
    """Return the area of a triangle with this base and height."""
    return base * height / 2


def perimeter(a, b, c):
    """Return the perimeter of a triangle with these three sides."""
    return a + b + c
'''


@pytest.fixture
def job(tmp_path: Path, smoke_model: Path) -> dict[str, Any]:
    task = humaneval.load()[0]
    files = {
        "shapes.py": SOURCE,
        "leak.py": SOURCE + "\n\n" + task.problem.prompt + task.canonical_solution,
        "bad.py": "def",
        "gone.py": None,
    }
    for name, text in files.items():
        if text is not None:
            (tmp_path / name).write_text(text)
    count = len(files)
    shard = Shard(
        index=3,
        distributions=["shapes"] * count,
        versions=["1"] * count,
        licences=["MIT"] * count,
        paths=list(files),
        locations=[str(tmp_path / name) for name in files],
        archives=[""] * count,
    )
    recipe = Recipe.model_validate(
        {"name": "t", "sources": [{"kind": "installed_python"}], "forms": {"file": 1.0, "completion": 1.0}}
    )
    options = {"recipe": recipe.model_dump_json(), "work": str(tmp_path / "work"), "train": str(tmp_path / "train")}
    benchmarks = [asdict(task.benchmark_text) for task in humaneval.load()]
    write_atomic(tmp_path / "work" / BENCHMARKS, json.dumps(benchmarks))
    return asdict(shard) | options | {"model": smoke().model.model_dump_json(), "seq_len": 256, "seed": 0}


def test_documents_and_rejections_of_a_shard(job: dict[str, Any]) -> None:
    extract_shard(job)
    kept = pq.read_table(Path(job["work"]) / "documents/part-00003.parquet").to_pylist()
    rejected = pq.read_table(Path(job["work"]) / "rejected/part-00003.parquet").to_pylist()
    assert [(row["path"], row["name"]) for row in kept if row["path"] == "shapes.py"] == [
        ("shapes.py", ""),
        ("shapes.py", "area"),
        ("shapes.py", "perimeter"),
    ]
    leaked = {(row["path"], row["name"]) for row in rejected if row["reason"].startswith("benchmark")}
    assert ("leak.py", "") in leaked and ("leak.py", "has_close_elements") in leaked
    assert not any("has_close_elements" in row["text"] for row in kept)
    reasons = {row["path"]: row["reason"] for row in rejected}
    assert "too short" in reasons["bad.py"] and "unreadable" in reasons["gone.py"], (
        "one odd file does not end the build"
    )


def test_chat_learns_its_completion_only_and_the_rest_everything(job: dict[str, Any], smoke_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smoke_model)
    extract_shard(job)
    counts = pack_shard(job | {"keep": [1]})  # the function `area`, as chat and as completion
    rows = pq.read_table(Path(job["train"]) / "part-00003.parquet").to_pylist()
    learnt = "".join(tokenizer.decode([label for label in row["labels"] if label != IGNORE]) for row in rows)
    shown = "".join(tokenizer.decode(row["input_ids"]) for row in rows)
    assert "Complete the following Python function" in shown and "Complete the following" not in learnt
    assert learnt.count("return base * height / 2") == 2 and learnt.count("<|im_end|>") == 2
    assert counts["tokens_by_form"].keys() == {"chat", "completion"}


def test_a_finished_shard_is_not_done_again(job: dict[str, Any]) -> None:
    extract_shard(job)
    first = pack_shard(job | {"keep": [0, 1, 2]})
    path = Path(job["train"]) / "part-00003.parquet"
    before = path.stat().st_mtime_ns
    extract_shard(job)
    again = pack_shard(job | {"keep": [0, 1, 2]})
    assert path.stat().st_mtime_ns == before and again == {
        **first,
        **{k: dict(v) for k, v in first.items() if isinstance(v, dict)},
    }


def test_a_function_longer_than_a_row_is_rejected_not_cut(job: dict[str, Any]) -> None:
    extract_shard(job)
    pack_shard(job | {"keep": [1], "seq_len": 24})
    rejected = pq.read_table(Path(job["work"]) / "too_long/part-00003.parquet").to_pylist()
    assert [row["what"] for row in rejected] == ["chat form", "completion form"]
    assert pq.read_table(Path(job["train"]) / "part-00003.parquet").num_rows == 0
