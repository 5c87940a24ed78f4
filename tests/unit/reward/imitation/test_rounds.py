"""Rounds of imitation of a real model's drafts: each trains the base on the drafts of all, and goes on exactly."""

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from app.errors import UserError
from app.generation.transformers_engine import TransformersEngine
from app.models.adapters import WEIGHTS
from app.models.base import ensure_model, load_tokenizer
from app.overrides import with_overrides
from app.records import Problem, Status
from app.reward.drafts.asking import Asked, asked
from app.reward.drafts.files import read_drafts
from app.reward.imitation.lessons import read_lessons
from app.reward.imitation.rounds import RoundFigures, learn_by_imitation
from app.reward.imitation.training import imitate_in_files
from app.reward.problems.find import load
from app.reward.records import LessonKind
from app.running.arm_paths import ArmPaths
from app.running.deadlines import NEVER, Deadline
from app.settings import Profile
from tests.sums import sums
from tests.unit.reward.drawn_sums import Counting, EndedError, LikesSums

CPU = torch.device("cpu")
ONE_STEP = ("grm.imitate.epochs=1", "grm.imitate.batch=64")
"""Where it does not matter what is learnt."""


@dataclass(frozen=True)
class Toy:
    profile: Profile
    problems: list[Asked]
    engine: TransformersEngine

    def learn(
        self,
        folder: Path,
        *settings: str,
        ends_at: int = -1,
        given: Path | None = None,
        deadline: Deadline = NEVER,
    ) -> tuple[list[RoundFigures], Counter[str]]:
        profile = with_overrides(self.profile, list(settings))
        engine = Counting(self.engine, ends_at)
        figures = learn_by_imitation(
            ArmPaths(folder),
            profile,
            self.problems,
            engine,  # type: ignore[arg-type]
            LikesSums(),
            lambda at: imitate_in_files(at, profile, CPU),
            given=read_drafts(given) if given else (),
            deadline=deadline,
        )
        return figures, engine.drawn


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    profile = with_overrides(
        sums(tmp_path_factory.mktemp("sums")),
        ["grm.arm=rft", "grm.imitate.drafts=16", "grm.imitate.batch=4", "grm.imitate.learning_rate=0.005"],
    )
    problems = asked(load(profile.grm.problems), load_tokenizer(ensure_model(profile.model)), profile.grm)
    return Toy(profile, problems, TransformersEngine(profile.model, profile.generation))


@pytest.fixture(scope="module")
def two(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[RoundFigures]]:
    """Two rounds that nothing disturbed."""
    folder = tmp_path_factory.mktemp("two")
    return folder, toy.learn(folder)[0]


def test_a_round_draws_by_the_one_before_and_learns_from_the_drafts_of_all(
    toy: Toy, two: tuple[Path, list[RoundFigures]]
) -> None:
    folder, (first, second) = two
    lessons = read_lessons(folder / "lessons.parquet")
    right = [one for one in lessons if one.kind == LessonKind.RIGHT]
    assert {one.round for one in right} == {1, 2}
    assert {one.round for one in read_lessons(folder / "round-1/lessons.parquet")} == {0, 1}
    assert max(Counter(one.problem_id for one in right).values()) <= 4 and "toy/never" not in {
        one.problem_id for one in right
    }
    assert len({(one.problem_id, *one.learnt_ids) for one in right}) == len(right)
    assert [one.drafts for one in (first, second)] == [80, 80] and first.lessons != second.lessons
    assert sum(second.by_solve_rate.values()) == len(right) and second.problems == 4
    (adapter,) = {one.draft.adapter for one in read_drafts(folder / "drafts/round-2.parquet")}
    assert adapter == str(folder / "round-1/adapter")
    solved = [sum(one.reward == 1 for one in read_drafts(folder / f"drafts/round-{n}.parquet")) for n in (1, 2)]
    assert solved[0] < solved[1], "what is imitated becomes more likely"
    replayed = sum(one.kind == LessonKind.REPLAY for one in lessons)
    assert 1 <= replayed == second.lessons["replay"] <= min(round(len(right) / 3), 5), (
        "those that pass: all ask by heads"
    )


def test_a_round_trains_the_base_and_not_the_adapter_before_it(
    toy: Toy, two: tuple[Path, list[RoundFigures]], tmp_path: Path
) -> None:
    folder, _ = two
    alone = ArmPaths(tmp_path)
    shutil.copy(folder / "lessons.parquet", alone.lessons)
    imitate_in_files(alone, toy.profile, CPU)
    assert (alone.adapter / WEIGHTS).read_bytes() == (folder / "adapter" / WEIGHTS).read_bytes()


def test_what_was_ended_goes_on_exactly_and_draws_only_what_is_missing(
    toy: Toy, two: tuple[Path, list[RoundFigures]], tmp_path: Path
) -> None:
    folder, whole = two
    with pytest.raises(EndedError):
        toy.learn(tmp_path, ends_at=80 + 5 + 30)  # in the second round, after the drafts and answers of the first
    figures, drawn = toy.learn(tmp_path)
    assert drawn == {"drawn round-1": 50}
    assert [(one.lessons, one.loss_first, one.loss_last) for one in figures] == [
        (one.lessons, one.loss_first, one.loss_last) for one in whole
    ]
    assert (tmp_path / "adapter" / WEIGHTS).read_bytes() == (folder / "adapter" / WEIGHTS).read_bytes()
    assert not toy.learn(tmp_path)[1], "all is there"


def test_past_the_deadline_no_further_round_begins_and_the_last_ones_adapter_is_kept(toy: Toy, tmp_path: Path) -> None:
    figures, _ = toy.learn(tmp_path, *ONE_STEP, deadline=Deadline(at=0.0))
    at, first = ArmPaths(tmp_path), ArmPaths(tmp_path).round(1)
    assert len(figures) == 1 and at.cut.exists()
    assert (at.adapter / WEIGHTS).read_bytes() == (first.adapter / WEIGHTS).read_bytes()
    again, drawn = toy.learn(tmp_path, *ONE_STEP)
    assert again == figures and not drawn, "what was cut stays so"


def test_drafts_that_are_there_are_not_drawn_again(
    toy: Toy, two: tuple[Path, list[RoundFigures]], tmp_path: Path
) -> None:
    given = two[0] / "drafts/round-1.parquet"
    settings = ("grm.imitate.rounds=1", "grm.imitate.replay_share=0", *ONE_STEP)
    figures, drawn = toy.learn(tmp_path / "same", *settings, given=given)
    assert not drawn and figures[0].drafts == 80
    more, drawn = toy.learn(tmp_path / "more", *settings, "grm.imitate.drafts=18", given=given)
    assert drawn == {"drawn ": 10} and more[0].drafts == 90
    few, drawn = toy.learn(tmp_path / "few", *settings, "grm.imitate.prompts=3", given=given)
    assert few[0].drafts == 48 and not drawn


def test_prefix_tuning_takes_one_round_of_one_draft_a_problem(
    toy: Toy, two: tuple[Path, list[RoundFigures]], tmp_path: Path
) -> None:
    settings = ("grm.arm=upft", "grm.imitate.whole_share=0.2", "grm.imitate.prefix_tokens=2", *ONE_STEP)
    figures, drawn = toy.learn(tmp_path, *settings)
    assert drawn == {"drawn ": 5} and len(figures) == 1
    lessons = read_lessons(tmp_path / "lessons.parquet")
    assert sorted(one.problem_id[-1] for one in lessons) == ["a", "b", "c", "d", "r"]
    assert sum(one.kind == LessonKind.WHOLE for one in lessons) <= 1
    assert all(len(one.learnt_ids) <= 2 for one in lessons if one.kind == LessonKind.BEGINNING)
    _, drawn = toy.learn(tmp_path / "given", *settings, given=two[0] / "drafts/round-1.parquet")
    assert not drawn


class RefusesAll(LikesSums):
    def _status(self, problem: Problem, program: str) -> Status:
        return Status.WRONG_ANSWER


def test_drafts_of_which_none_is_right_are_told(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none of 80 drafts of 5 problems passed its tests, so there is nothing to imi"):
        learn_by_imitation(ArmPaths(tmp_path), toy.profile, toy.problems, toy.engine, RefusesAll(), lambda at: None)
