"""Mining answers for each file and function alone: odd ones are rejected with a reason, others become problems."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from app.corpus.mining import Call, find
from app.corpus.mining.storage import CANDIDATE_SCHEMA, MineJob, candidate_of, candidate_row, mine_distribution
from app.corpus.shard_files import write_rows
from tests.unit.corpus.builds import build_in
from tests.unit.corpus.mining.test_mining import GOOD, TESTED, TESTS, distribution, found

SURROGATE = (
    GOOD.replace("an empty text gives", "half a pair \\ud800; an empty text gives")
    .replace("longest", "oldest")
    .replace("max(found", "min(found")
)
DEEP = "x = f" + "(\n)" * 20_000 + "\n"


def job_of(folder: Path, files: dict[str, str]) -> MineJob:
    build = build_in(folder)
    return MineJob(
        index=0, identity="one", build=build, distribution=distribution(folder / "source", files), split="train"
    )


def rejected(job: MineJob) -> dict[str, str]:
    rows = pq.read_table(job.part("rejected_candidates")).to_pylist()
    return {row["name"] or row["path"]: row["reason"] for row in rows}


def test_a_docstring_with_half_a_surrogate_pair_becomes_no_candidate_and_ends_nothing(tmp_path: Path) -> None:
    job = job_of(tmp_path, {"pkg/a.py": GOOD, "pkg/b.py": SURROGATE, "pkg/deep.py": DEEP, "pkg/test_deep.py": DEEP})
    counts = mine_distribution(job)
    assert counts["self-contained"] == 2 and pq.read_metadata(job.part("candidates")).num_rows == 1
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


@pytest.mark.parametrize("reason", ["hangs: it took longer than 6 s, 3 times", "crashes: its worker died 3 times"])
def test_what_the_queue_left_out_is_counted_as_what_it_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    monkeypatch.setattr(find, "at", lambda what: reason if what.endswith("oldest") else "")
    files = {"pkg/a.py": GOOD.replace("longest", "oldest"), "pkg/b.py": SURROGATE.replace("oldest", "eldest")}
    job = job_of(tmp_path, files)
    mine_distribution(job)
    assert rejected(job)["oldest"] == reason
    assert rejected(job)["eldest"].startswith("no problem: failed: UnicodeEncodeError")


def test_a_test_file_that_the_queue_left_out_has_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left_out = "pkg: pkg/test_a.py"
    monkeypatch.setattr(find, "at", lambda what: "hangs: too long" if what == left_out else "")
    mined = found(tmp_path, {"pkg/a.py": GOOD, "pkg/test_a.py": "x = 1\n"})
    assert [(r.origin.path, r.reason) for r in mined.rejections] == [("pkg/test_a.py", "hangs: too long")]
    assert mined.candidates


ODD_VALUES: tuple[Any, ...] = (
    None, True, 1, -(2**70), -0.0, 1e300, -2j, "\ud800 \u00e9\n", b"\x00\xff", (), ((1,), [2, (3, [])]), {3, 1, 2},
    frozenset(("b",)), {"k": {(1, "t"): {1.5}}, 2: None}, {"b": 1, "a": 2},
)  # fmt: skip


def test_a_candidate_comes_back_from_its_columns_as_it_was(tmp_path: Path) -> None:
    (plain,) = found(tmp_path, {"pkg/a.py": GOOD}).candidates
    odd = Call(args=ODD_VALUES, kwargs=(("x", [1]), ("y", {"t": (2,)}), ("x", set())), claim="f('\ud800') == 1")
    candidate = replace(plain, calls=(*plain.calls, odd), undecorated=True)
    write_rows(tmp_path / "held.parquet", [candidate_row(candidate)], CANDIDATE_SCHEMA)
    (back,) = map(candidate_of, pq.read_table(tmp_path / "held.parquet").to_pylist())
    assert back == candidate and repr(back.calls) == repr(candidate.calls), "types, orders and signs of zero too"


def test_a_function_called_with_something_nested_too_deeply_is_rejected_alone(tmp_path: Path) -> None:
    other = GOOD.replace("longest", "oldest").replace("max(found", "min(found")
    deep = other.replace('"""', f'"""Of deep lists.\n\n    >>> oldest({"[" * 60}{"]" * 60})\n    0\n\n    ', 1)
    job = job_of(tmp_path, {"pkg/a.py": GOOD, "pkg/b.py": deep})
    mine_distribution(job)
    assert rejected(job)["oldest"] == "no problem: failed: TooLargeError (nested deeper than 50)"
    assert pq.read_metadata(job.part("candidates")).num_rows == 1


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_test_file_under_another_licence_gives_no_calls_however_its_lines_end(
    tmp_path: Path, ends: str, mark: str
) -> None:
    def seeds(head: str) -> int:
        text = f"{mark}{head}{TESTS}".replace("\n", ends)
        files = {"pkg/numbers.py": TESTED, "pkg/tests/test_numbers.py": text}
        return found(tmp_path, files).counts["seeds"]

    assert seeds("# License: MIT\n\n# by all of us\n") and not seeds("# Tests.\n\n# License: GPL-3.0-only\n")
