"""What one individual found out serves all: verdicts, programs that passed, and how many problems they solve."""

import contextlib
import dataclasses
import itertools
import json
import random
import signal
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from app.errors import NothingToLearnError, UserError
from app.evolution.pool import DraftFile, PooledJudge, coverage, draft_files, pooled, summed, union_lessons
from app.generation.transformers_engine import TransformersEngine
from app.models.base import ensure_model, load_tokenizer
from app.overrides import with_overrides
from app.prompting.fences import fenced
from app.records import UNTRUSTED_TIERS, Problem, Prompt, Sampling, Status
from app.reward.drafts.asking import Asked, asked
from app.reward.drafts.drafting import judged_drafts
from app.reward.drafts.files import append, begin_lines, finish, lines_beside
from app.reward.drafts.solve_rates import rates
from app.reward.imitation.lessons import read_lessons
from app.reward.imitation.training import imitate_in_files
from app.reward.problems.find import load
from app.reward.records import JudgedDraft, Lesson, LessonKind
from app.running.arm_paths import ArmPaths
from app.sandbox.local import LocalJudges
from app.sandbox.tiers import confinement
from app.settings import SandboxSettings
from tests.conftest import ROOT
from tests.sums import sums
from tests.unit.reward.drawn_sums import Counting, LikesSums
from tests.unit.reward.made_drafts import (
    HOT,
    CountingJudge,
    ScriptedGenerator,
    group,
    judged,
    problem,
    prompt,
)

RIGHT, WRONG, BROKEN = "def f(x):\n    return sorted(x)", "def f(x):\n    return x", "def f(x:"
ENDLESS = "def f(x):\n    while True: pass"
A, B = problem("a").problem, problem("b").problem


@pytest.fixture(scope="module")
def sandbox() -> Iterator[LocalJudges]:
    settings = SandboxSettings(timeout_s=1, num_workers=2)
    with contextlib.closing(LocalJudges(settings, confinement())) as judges:
        yield judges


def statuses(judge: PooledJudge, *jobs: tuple[Problem, Sequence[str]]) -> list[list[Status]]:
    return [[verdict.status for verdict in verdicts] for verdicts in judge.judge_all(jobs)]


def test_a_program_that_anybody_had_judged_is_not_run_again_and_the_order_stays(
    tmp_path: Path, sandbox: LocalJudges
) -> None:
    first = PooledJudge(sandbox, tmp_path, "first")
    before = list(first.judge_all([(A, [RIGHT, WRONG]), (B, [BROKEN])]))
    assert (first.num_shared, first.num_judged) == (0, 3)
    second = PooledJudge(sandbox, tmp_path, "second")
    jobs = [(A, [WRONG, ENDLESS, RIGHT]), (A, [RIGHT]), (B, [RIGHT]), (B, [BROKEN]), (A, [])]
    found = list(second.judge_all(jobs))
    kinds = [[Status.WRONG_ANSWER, Status.TIMEOUT, Status.PASSED], [Status.PASSED], [Status.PASSED]]
    assert [[one.status for one in verdicts] for verdicts in found] == [*kinds, [Status.LOAD_ERROR], []]
    assert [found[0][0], found[0][2], found[3][0]] == [before[0][1], before[0][0], before[1][0]], "word for word"
    assert second.told() == "4 of 6 verdicts came from the pool"
    counting = CountingJudge()
    third = PooledJudge(counting, tmp_path, "third")
    assert [[one.status for one in verdicts] for verdicts in third.judge_all(jobs)][1:] == [
        *kinds[1:],
        [Status.LOAD_ERROR],
        [],
    ]
    assert counting.programs == [("a", ENDLESS)], "what ran out of time is tried again"


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("tier", ["A", "C+bwrap", *UNTRUSTED_TIERS])
def test_kept_is_what_counts_and_would_come_again(tmp_path: Path, status: Status, tier: str) -> None:
    class Says(CountingJudge):
        def judge_all(self, jobs):  # type: ignore[no-untyped-def]
            for verdicts in super().judge_all(jobs):
                yield [dataclasses.replace(verdict, tier=tier) for verdict in verdicts]

    one, other = (Says(lambda _: status) for _ in range(2))
    assert statuses(PooledJudge(one, tmp_path, "one"), (A, [RIGHT])) == [[status]]
    assert statuses(PooledJudge(other, tmp_path, "other"), (A, [RIGHT])) == [[status]]
    lasts = status in ("passed", "wrong_answer", "runtime_error", "load_error") and tier not in ("unsafe", "in_process")
    assert len(other.programs) == (0 if lasts else 1)


def test_a_verdict_holds_for_its_problem_its_tests_its_program_and_its_limits_alone(tmp_path: Path) -> None:
    limits = {"timeout_s": 2}
    statuses(PooledJudge(CountingJudge(), tmp_path, "one", limits), (A, [RIGHT]))
    others = [
        (B, RIGHT),
        (dataclasses.replace(A, tests=A.tests + "\n"), RIGHT),
        (dataclasses.replace(A, entry_point="g"), RIGHT),
        (A, RIGHT + "\n"),
        (A, "\ud800"),
    ]
    counting = CountingJudge()
    statuses(PooledJudge(counting, tmp_path, "two", limits), *((one, [program]) for one, program in others))
    assert len(counting.programs) == len(others)
    statuses(PooledJudge(counting, tmp_path, "three", {"timeout_s": 3}), (A, [RIGHT]))
    assert len(counting.programs) == len(others) + 1
    statuses(PooledJudge(counting, tmp_path, "four", limits), (dataclasses.replace(A), [RIGHT]), (A, ["\ud800"]))
    assert len(counting.programs) == len(others) + 1


def test_a_verdict_from_the_pool_waits_for_no_later_job(tmp_path: Path) -> None:
    statuses(PooledJudge(CountingJudge(), tmp_path, "one"), (A, [RIGHT]))
    asked_for = list[int]()

    def slow() -> Iterator[tuple[Problem, list[str]]]:
        for number in range(3):
            asked_for.append(number)
            yield A, [RIGHT]

    found = PooledJudge(CountingJudge(), tmp_path, "two").judge_all(slow())
    assert next(found)[0].status == Status.PASSED and asked_for == [0]
    assert len(list(found)) == 2


def test_writers_have_files_of_their_own_and_see_what_was_there_when_they_started(tmp_path: Path) -> None:
    early, late = CountingJudge(), CountingJudge()
    one, two = (PooledJudge(early, tmp_path, name) for name in ("one", "two"))
    statuses(one, (A, [RIGHT]))
    statuses(two, (A, [RIGHT, WRONG]))
    assert len(early.programs) == 3, "two did not see what one found out meanwhile"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["verdicts-one.jsonl", "verdicts-two.jsonl"]
    statuses(PooledJudge(late, tmp_path, "three"), (A, [RIGHT, WRONG]))
    assert not late.programs and len(list(tmp_path.iterdir())) == 2


UNTIL_KILLED = """
import os, signal, sys
from pathlib import Path
from app.evolution.pool import PooledJudge
from app.records import Status
from tests.unit.reward.made_drafts import CountingJudge, problem

def at_the_third(program):
    if program == "3":
        os.kill(os.getpid(), signal.SIGKILL)
    return Status.PASSED

judge = PooledJudge(CountingJudge(at_the_third), Path(sys.argv[1]), "killed")
list(judge.judge_all((problem("a").problem, [str(number)]) for number in range(1, 9)))
"""


def test_a_writer_that_was_killed_leaves_what_it_found_out_and_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-c", UNTIL_KILLED, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    file = tmp_path / "verdicts-killed.jsonl"
    assert len(file.read_text().splitlines()) == 2
    with file.open("a") as torn:
        torn.write(file.read_text()[:70])
    counting = CountingJudge()
    statuses(PooledJudge(counting, tmp_path, "other"), (A, ["1", "2", "3"]))
    assert counting.programs == [("a", "3")], "a torn line is no verdict"
    statuses(PooledJudge(counting, tmp_path, "killed"), (A, ["4"]))
    assert [len(row) for row in map(json.loads, file.read_text().splitlines())] == [8, 8, 8]


@pytest.mark.parametrize("change", [{"status": "fine"}, {"key": "xyz"}, {"detail": 3}])
def test_a_broken_line_is_named_with_the_way_out(tmp_path: Path, change: dict[str, object]) -> None:
    statuses(PooledJudge(CountingJudge(), tmp_path, "one"), (A, [RIGHT]), (A, [WRONG]))
    file = tmp_path / "verdicts-one.jsonl"
    first, second = file.read_text().splitlines()
    file.write_text(f"{first}\n{json.dumps(json.loads(second) | change)}\n")
    with pytest.raises(UserError, match=r"verdicts-one\.jsonl, line 2 is no verdict .*: take that line out, or"):
        PooledJudge(CountingJudge(), tmp_path, "two")


def test_two_individuals_that_draw_the_same_programs_run_each_once(tmp_path: Path, sandbox: LocalJudges) -> None:
    names = ("a", "b")
    problems, prompts = [problem(name) for name in names], [prompt(name, 4) for name in names]

    def draw(individual: str) -> tuple[list[JudgedDraft], PooledJudge]:
        judge = PooledJudge(sandbox, tmp_path / "pool", individual)
        generator = ScriptedGenerator(lambda name, sample: fenced((RIGHT, WRONG, RIGHT, f"{WRONG}[:]")[sample]))
        (tmp_path / individual).mkdir()
        return judged_drafts(tmp_path / individual / "d.parquet", problems, prompts, HOT, generator, judge), judge

    (one, first), (two, second) = draw("one"), draw("two")
    assert one == two and (first.num_judged, second.num_judged, second.num_shared) == (6, 0, 6)


def write_file(path: Path, drafts: Sequence[JudgedDraft]) -> None:
    """As drafting leaves it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = lines_beside(path)
    begin_lines(lines, {})
    for one in drafts:
        append(lines, one, "")
    finish(path, {}, [(one.draft.problem_id, one.draft.sample) for one in drafts])


def right(name: str, *numbers: int) -> list[JudgedDraft]:
    """Right drafts, each number a program of its own."""
    return [
        judged(Status.PASSED, name=name, sample=sample, program=f"def f(x): return {number}")
        for sample, number in enumerate(numbers)
    ]


def test_the_pool_is_what_all_individuals_drew_to_learn_from_up_to_a_generation(tmp_path: Path) -> None:
    for place in (
        "x.1/1/drafts/step-00001-0.parquet",
        "x.1/1/drafts/step-00001-1.parquet",
        "x.1/1/drafts-kl/step-00003-0.parquet",
        "x.1/1/drafts/validation-00005.parquet",
        "x.1/1/measured/step-00001-0.parquet",
        "x.1/2/drafts/step-00001-0.parquet",
        "y.1/1/drafts/step-00001-0.parquet",
        "y.1/3/drafts/step-00001-0.parquet",
        "pool-2/2/drafts/replay.parquet",
    ):
        write_file(tmp_path / place, right("a", 1))
    (tmp_path / "y.1/2/drafts").mkdir(parents=True)
    (tmp_path / "y.1/2/drafts/step-00001-0.jsonl").write_text("half")
    found = [(one.individual, one.generation, one.path.parent.name) for one in draft_files(tmp_path, 2)]
    first = [("x.1", 1, "drafts"), ("x.1", 1, "drafts"), ("x.1", 1, "drafts-kl"), ("y.1", 1, "drafts")]
    assert found == [*first, ("x.1", 2, "drafts")] and draft_files(tmp_path, 1) == draft_files(tmp_path, 2)[:4]


def test_a_program_is_in_the_pool_once_and_belongs_to_who_found_it_first(tmp_path: Path) -> None:
    again = judged(Status.PASSED, sample=4, program='def f(x):\n    """Again."""\n    return 2  # as before')
    write_file(tmp_path / "1.parquet", [*right("a", 1, 2), *right("b", 5), *right("held-out", 6)])
    write_file(tmp_path / "2.parquet", [*right("a", 1, 3)[:2], again])
    places = ((1, "x", 1), (2, "y", 1), (2, "x", 2))
    files = [DraftFile(path=tmp_path / f"{n}.parquet", individual=who, generation=when) for n, who, when in places]
    pool = pooled(files, {"a", "b"})
    found = {(one.judged.draft.problem_id, one.judged.program[-1]): one.individual for one in pool.drafts}
    assert found == {("a", "1"): "x", ("a", "2"): "x", ("a", "3"): "y", ("b", "5"): "x"}
    assert (pool.num_passed, len(pool.drafts)) == (9, 4) and pool.rates == {"a": (8, 8), "b": (1, 1)}


def test_only_what_passed_and_may_be_learnt_is_imitated_and_all_that_counts_tells_the_rates(tmp_path: Path) -> None:
    write_file(tmp_path / "1.parquet", group("+-?!/+"))
    pool = pooled([DraftFile(path=tmp_path / "1.parquet")], {"a"})
    assert [one.judged.draft.sample for one in pool.drafts] == [0, 5] and pool.rates == {"a": (3, 4)}
    assert pool.drafts[0].judged.draft.token_ids and not pool.drafts[0].judged.draft.token_logprobs


def test_what_is_held_of_a_problem_is_bounded_and_depends_on_no_order(tmp_path: Path) -> None:
    files = []
    for number in range(6):
        write_file(tmp_path / f"{number}.parquet", right("a", *range(3 * number, 3 * number + 6)))
        files.append(DraftFile(path=tmp_path / f"{number}.parquet", individual=str(number), generation=1))

    def programs(order: list[DraftFile], most: int) -> set[str]:
        found = [one.judged.program for one in pooled(order, {"a"}, most).drafts]
        assert len(found) == len(set(found))
        return set(found)

    kept = programs(files, 5)
    assert len(kept) == 5 and len(programs(files, 99)) == 21
    for seed in range(5):
        assert programs(random.Random(seed).sample(files, 6), 5) == kept


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.tuples(st.integers(0, 9), st.integers(9, 20))), max_size=4))
def test_rates_of_several_files_are_those_of_all_their_drafts(found: list[dict[str, tuple[int, int]]]) -> None:
    drafts = [
        one
        for held in found
        for name, (passed, counted) in held.items()
        for one in group("+" * passed + "-" * (counted - passed), name)
    ]
    assert summed(found) == rates(drafts) and list(summed(found)) == list(rates(drafts))


COUNTS = st.integers(1, 5).flatmap(lambda drafts: st.tuples(st.integers(0, drafts), st.just(drafts)))
SOME = st.dictionaries(st.sampled_from("abcd"), COUNTS, min_size=1)


@given(st.lists(SOME, min_size=1, max_size=3))
def test_coverage_is_what_is_solved_over_all_choices_of_as_many_drafts(own: list[dict[str, tuple[int, int]]]) -> None:
    """By enumeration: the share of the choices of k drafts that hold one that passed."""

    def solved(passed: int, counted: int, k: int) -> float:
        drafts = [True] * passed + [False] * (counted - passed)
        return statistics.fmean(map(any, itertools.combinations(drafts, k)))

    found = coverage(2, {str(number): one for number, one in enumerate(own)})
    drawn = [[one[name] for one in own if name in one] for name in "abcd"]
    shared = [group for group in drawn if len(group) > 1]
    if not shared:
        assert found is None
        return
    least = [min(counted for _, counted in group) for group in shared]
    assert found is not None and (found.generation, found.problems) == (2, len(shared))
    assert found.drafts_a_problem == pytest.approx(statistics.fmean(least))
    both = [tuple(map(sum, zip(*group, strict=True))) for group in shared]
    assert found.pool == pytest.approx(statistics.fmean(solved(*one, k) for one, k in zip(both, least, strict=True)))
    alone = [statistics.fmean(solved(*one, k) for one in group) for group, k in zip(shared, least, strict=True)]
    assert found.one_policy == pytest.approx(statistics.fmean(alone))


def test_a_pool_is_no_better_for_having_drawn_more_of_the_same() -> None:
    found = coverage(1, {"many": {"a": (120, 1920), "b": (0, 960)}, "few": {"a": (1, 16), "b": (0, 16), "c": (16, 16)}})
    assert found is not None and found.problems == 2 and found.drafts_a_problem == 16
    assert found.pool == pytest.approx((1 - (15 / 16) ** 16) / 2, abs=5e-3)
    assert coverage(1, {"alone": {"a": (3, 16)}}) is None


def test_a_pool_of_those_who_solve_different_problems_solves_more_than_one_of_them() -> None:
    found = coverage(1, {"left": {"a": (8, 16), "b": (0, 16)}, "right": {"a": (0, 16), "b": (8, 16)}})
    assert found is not None and found.pool > 0.95 and found.one_policy == 0.5


def write_drawn(path: Path, engine: Counting, problems: Sequence[Asked], seed: int, samples: int = 16) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    prompts = [Prompt(id=one.problem.given.id, text=one.text, samples=tuple(range(samples))) for one in problems]
    sampling = Sampling(max_new_tokens=64, temperature=1.0, seed=seed)
    judged_drafts(path, [one.problem for one in problems], prompts, sampling, engine, LikesSums())  # type: ignore[arg-type]


def test_a_candidate_is_trained_on_the_right_programs_of_all(tmp_path: Path) -> None:
    profile = with_overrides(sums(tmp_path / "sums"), ["grm.arm=rft", "grm.imitate.epochs=1", "grm.imitate.batch=64"])
    problems = asked(load(profile.grm.problems), load_tokenizer(ensure_model(profile.model)), profile.grm)
    engine = Counting(TransformersEngine(profile.model, profile.generation))
    for seed, (individual, generation) in enumerate((("x.1", 1), ("y.1", 1), ("x.1", 2)), 1):
        write_drawn(tmp_path / f"{individual}/{generation}/drafts/step-00001-0.parquet", engine, problems, seed)
    pool = pooled(draft_files(tmp_path, 2), {one.problem.given.id for one in problems})
    at, answers = ArmPaths(tmp_path / "pool-2/2"), tmp_path / "replay/answers.parquet"
    answers.parent.mkdir()

    def made() -> list[Lesson]:
        judge = LikesSums()
        return union_lessons(at.lessons, pool, profile, problems, {"toy/a": (10, 10)}, engine, judge, answers=answers)  # type: ignore[arg-type]

    lessons = made()
    learnt = [one for one in lessons if one.kind == LessonKind.RIGHT]
    times = Counter(one.problem_id for one in learnt)
    assert times["toy/a"] == 1, "the untouched model solves it"
    assert max(times.values()) > 1 and "toy/never" not in times and {one.round for one in learnt} == {1, 2}
    assert len({(one.problem_id, *one.learnt_ids) for one in learnt}) == len(learnt)
    replays = [one for one in lessons if one.kind == LessonKind.REPLAY]
    assert 1 <= len(replays) <= round(len(learnt) / 3) and answers.exists()
    before = engine.drawn.total()
    assert made() == lessons == read_lessons(at.lessons) and engine.drawn.total() == before
    imitate_in_files(at, profile, torch.device("cpu"))
    assert at.adapter.is_dir()
    nothing = dataclasses.replace(pool, drafts=())
    with pytest.raises(NothingToLearnError, match="none of the pool's drafts of 5 problems passed its tests"):
        union_lessons(tmp_path / "n", nothing, profile, problems, {}, engine, LikesSums(), answers=answers)  # type: ignore[arg-type]
