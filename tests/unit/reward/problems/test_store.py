"""Hardened problems are stored once and come back the same."""

import dataclasses
from pathlib import Path

import pytest

from app.errors import UserError
from app.records import ProblemStyle
from app.reward.problems.hardening import Hardened
from app.reward.problems.store import HardeningCounts, counts_of, made_once, read, write
from app.sandbox.tiers import confinement
from app.settings import SandboxSettings
from tests.unit.reward.made_drafts import problem
from tests.unit.reward.sources import SORTED, mbpp_problem

PLAIN = problem("a")
ADDED = Hardened(
    problem=dataclasses.replace(
        PLAIN,
        problem=dataclasses.replace(PLAIN.given, tests=PLAIN.given.tests + "    assert candidate('é') == ['é']\n"),
        reference="def f(x): return sorted(x)",
        constraints="1 <= x.length",
        second="f = sorted",
    ),
    added=("assert candidate('é') == ['é']",),
    dropped=(("the reference raises", 2), ("two solutions disagree", 1)),
)
AS_GIVEN = Hardened(problem=problem("b"), why_not="its reference raises on a given input: ValueError: f('')")
ASSERTED = dataclasses.replace(
    AS_GIVEN,
    problem=dataclasses.replace(
        problem("c"), given=dataclasses.replace(PLAIN.given, id="c", style=ProblemStyle.ASSERTIONS, licence="CC0-1.0")
    ),
)


def test_problems_come_back_the_same_and_the_file_is_the_same_each_time(tmp_path: Path) -> None:
    asserted = dataclasses.replace(
        ASSERTED, problem=dataclasses.replace(ASSERTED.problem, problem=ASSERTED.problem.given)
    )
    held = [ADDED, AS_GIVEN, asserted]
    first, second = tmp_path / "problems" / "a.parquet", tmp_path / "problems" / "b.parquet"
    counts = write(first, iter(held))
    write(second, held)
    assert read(first) == held
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in first.parent.iterdir()) == ["a.parquet", "b.parquet"]
    assert counts == counts_of(held)
    assert counts == HardeningCounts(
        problems=3,
        with_added=1,
        inputs_added=1,
        dropped={"the reference raises": 2, "two solutions disagree": 1},
        not_hardened={"its reference raises on a given input": 2},
    )


def test_what_is_made_is_not_made_again_but_other_problems_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.reward.problems.store.PART", 1)
    settings, confined = SandboxSettings(num_workers=1), confinement()
    first = list(made_once(tmp_path, [mbpp_problem(SORTED), PLAIN], settings, confined))
    assert first[0].added and first[1].why_not == "it has no reference"
    stamps = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    (tmp_path / "part-00001.parquet").write_bytes(b"PAR1 cut off")
    assert list(made_once(tmp_path, [mbpp_problem(SORTED), PLAIN], settings, confined)) == first
    assert (tmp_path / "part-00000.parquet").stat().st_mtime_ns == stamps["part-00000.parquet"]
    others = list(made_once(tmp_path, [problem("b"), PLAIN], settings, confined))
    assert [one.problem.given.id for one in others] == ["b", "a"]
    assert (tmp_path / "part-00000.parquet").stat().st_mtime_ns != stamps["part-00000.parquet"]


def test_a_file_that_holds_no_problems_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"is no file of hardened problems .*: take it away"):
        read(path)
