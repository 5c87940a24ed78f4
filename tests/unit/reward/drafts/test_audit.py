"""A second judge on fresh inputs finds drafts that passed weak tests, and says of which it can't tell."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.corpus.mining.records import NoProblemError
from app.files.json_files import read_json_lines, write_json_lines
from app.records import Status
from app.reward.drafts import files as draft_files
from app.reward.drafts.audit import MOST, Audit, Passed, audit, counted, drawn, passed_in, read_lines, told
from app.reward.problems.hardening import fresh, harden
from app.reward.records import JudgedDraft, TrainingProblem
from app.sandbox.supervisor import Supervisor
from app.sandbox.tiers import confinement
from app.settings import SandboxSettings
from tests.unit.reward.made_drafts import judged, problem
from tests.unit.reward.sources import mbpp_problem, mbpp_row

SETTINGS = SandboxSettings(timeout_s=5, num_workers=1)
WEAK = mbpp_problem(
    mbpp_row(
        700,
        "Add one.",
        "def f(n):\n    return n + 1",
        ["assert f(8) == 9", "assert f(3) == 4", "assert f(5) == 6"],
    )
)
RIGHT, COPY = "def f(n):\n    return n + 1", "def f(n):\n    'Docs.'\n    return n + 1"
WRONG = "def f(n):\n    return {8: 9, 3: 4, 5: 6}.get(n, 0)"
BY_CHANCE = mbpp_problem(
    mbpp_row(
        701,
        "Add one.",
        "import random\ndef f(n):\n    return n + 1 if n in (8, 3) else random.random()",
        ["assert f(8) == 9", "assert f(3) == 4"],
    )
)
ALONE = problem("alone")


@pytest.fixture(scope="module")
def supervisor() -> Iterator[Supervisor]:
    with Supervisor(SETTINGS) as made:
        yield made


def drafts(path: Path, *rows: JudgedDraft) -> Path:
    lines = draft_files.lines_beside(path)
    draft_files.begin_lines(lines, {})
    for row in rows:
        draft_files.append(lines, row, "")
    draft_files.finish(path, {}, [(row.draft.problem_id, row.draft.sample) for row in rows])
    return path


def passing(one: TrainingProblem, sample: int, program: str) -> JudgedDraft:
    return judged(Status.PASSED, name=one.given.id, sample=sample, program=program)


def run_audit(folder: Path, files: dict[str, Path]) -> Audit:
    problems = [WEAK, BY_CHANCE, ALONE]
    return audit(folder / "audit.jsonl", files, problems, SETTINGS, confinement(), seed=0)


def test_a_false_pass_of_weak_tests_is_found_and_what_can_t_be_audited_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [passing(WEAK, number, program) for number, program in enumerate((RIGHT, WRONG, COPY))]
    others = [passing(BY_CHANCE, 0, RIGHT), passing(ALONE, 0, "def f(x): return sorted(x)")]
    cut = judged(Status.PASSED, name=WEAK.given.id, sample=8, program=WRONG, cut=True)
    failed = judged(Status.WRONG_ANSWER, name=WEAK.given.id, sample=9, program=WRONG)
    path = drafts(tmp_path / "drafts.parquet", *rows, *others, cut, failed)
    found = run_audit(tmp_path, {"arms/grpo/drafts/step-00001-0.parquet": path})
    assert (found.passing, found.audited, found.problems, found.false_passes) == (5, 3, 1, 1)
    assert found.by_source == {"mbpp": (3, 1)} and found.rate is not None
    assert found.rate.value == pytest.approx(1 / 3)
    assert found.not_audited == {"it has no reference": 1, "no input is left that its tests do not have": 1}
    false = [one for one in read_lines(tmp_path / "audit.jsonl") if one.is_false]
    assert [(one.sample, one.status, one.program) for one in false] == [(1, "wrong_answer", WRONG)]
    assert false[0].inputs >= 10 and false[0].file == "arms/grpo/drafts/step-00001-0.parquet"
    said = "audit: 1 of 3 passing drafts, of 1 problems, fail on fresh inputs: 33.3% false passes a problem"
    assert said in capsys.readouterr().err


def test_an_audit_goes_on_where_it_was_ended_and_begins_anew_for_other_drafts(tmp_path: Path) -> None:
    first = {"a": drafts(tmp_path / "a.parquet", passing(WEAK, 0, RIGHT), passing(WEAK, 1, WRONG))}
    found = run_audit(tmp_path, first)
    lines = tmp_path / "audit.jsonl"
    rows = read_json_lines(lines)
    rows[2]["detail"] = "kept"
    write_json_lines(lines, [rows[0], rows[2]])
    with lines.open("a") as file:
        file.write('{"problem_id": "MB')
    assert run_audit(tmp_path, first) == found
    again = read_json_lines(lines)
    assert again[1]["detail"] == "kept" and {row["sample"] for row in again[1:]} == {0, 1}
    second = first | {"b": drafts(tmp_path / "b.parquet", passing(WEAK, 0, WRONG))}
    assert run_audit(tmp_path, second).false_passes == 2
    assert all(row["detail"] != "kept" for row in read_json_lines(lines)[1:])


def test_no_fresh_input_is_one_of_the_training(supervisor: Supervisor) -> None:
    held = harden(WEAK, supervisor).problem
    asked, number = fresh(held, supervisor, "audit")
    trained = {line.partition(" == ")[0] for line in held.problem.tests.splitlines()}
    given = {line.partition(" == ")[0] for line in held.given.tests.splitlines()}
    tested = {line.partition(" == ")[0] for line in asked.tests.splitlines()}
    assert given < tested and number == len(tested - given) >= 3
    assert not (tested - given) & trained


def test_a_reference_that_depends_on_chance_audits_nothing(supervisor: Supervisor) -> None:
    with pytest.raises(NoProblemError, match="no input is left"):
        fresh(BY_CHANCE, supervisor, "audit")


def test_the_sample_is_bounded_and_drawn_by_hash() -> None:
    many = [Passed(problem_id=f"p{n % 7}", file="a", sample=n, program="", shape="") for n in range(3 * MOST)]
    chosen = drawn(many, seed=0)
    assert len(chosen) == MOST and chosen == drawn(many[::-1], seed=0) != drawn(many, seed=1)
    assert len({one.problem_id for one in chosen}) == 7


def test_a_draft_that_could_have_been_forged_is_not_among_the_passing_ones(tmp_path: Path) -> None:
    forged = dataclasses.replace(passing(WEAK, 1, WRONG))
    forged = dataclasses.replace(forged, verdict=dataclasses.replace(forged.verdict, tier="in_process"))
    path = drafts(tmp_path / "d.parquet", passing(WEAK, 0, RIGHT), forged)
    assert [one.sample for one in passed_in(path, "d")] == [0]


def test_an_audit_of_nothing_says_so() -> None:
    assert told(counted([], 0)) == "no draft passed, so there is none to judge again"
