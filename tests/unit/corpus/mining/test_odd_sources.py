"""Mining answers for each file and function alone: odd ones are rejected with a reason, others become problems."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from app.corpus.clean.guard import GUARD, guard_of, signs_bytes
from app.corpus.mining import find
from app.corpus.mining.storage import mine_distribution
from app.corpus.shard_files import part
from app.files.json_files import write_atomic
from tests.unit.corpus.mining.test_mining import GOOD, distribution, found

SURROGATE = (
    GOOD.replace("an empty text gives", "half a pair \\ud800; an empty text gives")
    .replace("longest", "oldest")
    .replace("max(found", "min(found")
)
DEEP = "x = f" + "(\n)" * 20_000 + "\n"


def job_of(folder: Path, files: dict[str, str]) -> dict[str, Any]:
    work = folder / "work"
    guard = guard_of({})
    write_atomic(work / GUARD, signs_bytes(guard.signs, guard.facts()))
    fields = asdict(distribution(folder / "source", files))
    recipe = {"name": "t", "sources": [{"kind": "installed_python"}]}
    return {
        "index": 0, "work": str(work), "distribution": fields, "split": "train", "also_allow": [],
        "recipe": json.dumps(recipe), "identity": "one", "guard": str(work / GUARD), "guard_sha256": str(work),
    }  # fmt: skip


def rejected(job: dict[str, Any]) -> dict[str, str]:
    rows = pq.read_table(part(job["work"], "rejected_candidates", 0)).to_pylist()
    return {row["name"] or row["path"]: row["reason"] for row in rows}


def test_a_docstring_with_half_a_surrogate_pair_becomes_no_candidate_and_ends_nothing(tmp_path: Path) -> None:
    job = job_of(tmp_path, {"pkg/a.py": GOOD, "pkg/b.py": SURROGATE, "pkg/deep.py": DEEP, "pkg/test_deep.py": DEEP})
    counts = mine_distribution(job)["counts"]
    assert counts["self-contained"] == 2 and pq.read_metadata(part(job["work"], "candidates", 0)).num_rows == 1
    assert rejected(job)["oldest"].startswith("no problem: failed: UnicodeEncodeError")


def test_a_function_with_an_unforeseen_error_is_rejected_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = find._candidate

    def broken(function: Any, *given: Any) -> Any:
        if function.node.name == "oldest":
            raise KeyError("odd")
        return real(function, *given)

    monkeypatch.setattr(find, "_candidate", broken)
    mined = found(tmp_path, {"pkg/a.py": GOOD, "pkg/b.py": GOOD.replace("longest", "oldest")})
    assert [candidate.entry_point for candidate in mined.candidates] == ["longest"]
    assert "failed: KeyError ('odd')" in [rejection.reason for rejection in mined.rejections]


def test_a_distribution_that_can_not_be_looked_through_has_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(modules: Any) -> Any:
        raise RuntimeError("no package")

    monkeypatch.setattr(find, "Package", broken)
    job = job_of(tmp_path, {"pkg/a.py": GOOD})
    mine_distribution(job)
    assert list(rejected(job).values()) == ["no problem: failed: RuntimeError (no package)"]


@pytest.mark.parametrize("left_out", ["pkg: pkg/b.py", "pkg: pkg/b.py: oldest", "pkg: its modules together"])
def test_what_the_queue_left_out_is_not_touched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left_out: str
) -> None:
    monkeypatch.setattr(find, "at", lambda what: "hangs: too long" if what == left_out else "")
    mined = found(tmp_path, {"pkg/a.py": GOOD, "pkg/b.py": GOOD.replace("longest", "oldest")})
    assert "oldest" not in [candidate.entry_point for candidate in mined.candidates]
    assert "hangs: too long" in [rejection.reason for rejection in mined.rejections]


def test_a_test_file_that_the_queue_left_out_has_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left_out = "pkg: pkg/test_a.py"
    monkeypatch.setattr(find, "at", lambda what: "hangs: too long" if what == left_out else "")
    mined = found(tmp_path, {"pkg/a.py": GOOD, "pkg/test_a.py": "x = 1\n"})
    assert [(r.path, r.reason) for r in mined.rejections] == [("pkg/test_a.py", "hangs: too long")]
    assert mined.candidates
