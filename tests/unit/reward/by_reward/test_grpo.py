"""Learning by reward, from a real model's own drafts: towards a known optimum, and exactly on after a kill."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from app.errors import UserError
from app.generation.transformers_engine import TransformersEngine
from app.models.adapters import WEIGHTS
from app.profiles import smoke
from app.records import Generator, Problem, Verdict
from app.reward.by_reward import learning
from app.reward.by_reward.grpo import training_settings
from app.reward.by_reward.learning import why_ended
from app.reward.by_reward.outlets import read_figures
from app.reward.drafts.files import read_drafts
from app.training.schedule import learning_rate_at
from tests.unit.reward.letters import (
    CPU,
    DRAFTS,
    LEAST,
    PROBLEMS,
    STEPS,
    EndedError,
    Ending,
    LikesVowels,
    RefusesAll,
    learn,
    profile_of,
    same,
    verdict,
    vowels,
)


def test_reward_rises_towards_a_known_optimum(engine: TransformersEngine, letters: Path, tmp_path: Path) -> None:
    rows = learn(tmp_path, engine, profile_of(letters, "grm.steps=12"))
    assert rows[0]["reward_mean"] < 0.5 < 0.8 < rows[-1]["reward_mean"]
    assert rows[0]["mismatch"] < 1e-3  # trainer and engine agree on what was drawn


class IsContentLater(LikesVowels):
    """From the second step on all drafts pass."""

    def __init__(self) -> None:
        super().__init__()
        self._steps = 0

    def judge_all(self, jobs: Iterable[tuple[Problem, Sequence[str]]]) -> Iterator[list[Verdict]]:
        self._steps += 1
        is_late = self._steps > 1
        for problem, programs in jobs:
            yield [verdict(problem, is_right=is_late or vowels(program) >= LEAST) for program in programs]


def test_a_training_ends_by_itself_where_all_drafts_pass(
    engine: TransformersEngine, letters: Path, tmp_path: Path
) -> None:
    assert len(learn(tmp_path, engine, profile_of(letters), IsContentLater())) == 1
    assert (tmp_path / "adapter" / WEIGHTS).exists()
    figures = read_figures(tmp_path / "metrics.jsonl")
    assert why_ended(figures, profile_of(letters).grm).startswith("no drafts of a problem differed")


def test_a_training_that_was_ended_goes_on_exactly_and_draws_only_what_is_missing(
    engine: TransformersEngine, letters: Path, tmp_path: Path
) -> None:
    undisturbed = learn(tmp_path / "whole", engine, profile_of(letters))
    ending = Ending(engine, after=3 * DRAFTS + 20)  # in the fourth step, after the checkpoint of the second
    with pytest.raises(EndedError):
        learn(tmp_path / "cut", ending, profile_of(letters))  # type: ignore[arg-type]
    rest = Ending(engine, after=1_000_000)
    resumed = learn(tmp_path / "cut", rest, profile_of(letters))  # type: ignore[arg-type]
    assert rest.drawn == DRAFTS * STEPS - ending.drawn
    assert same(resumed) == same(undisturbed)
    one, other = (tmp_path / name / "adapter" / WEIGHTS for name in ("whole", "cut"))
    assert one.read_bytes() == other.read_bytes()


def test_a_training_that_the_watch_stops_keeps_its_adapter_and_goes_no_further(
    engine: TransformersEngine, letters: Path, tmp_path: Path
) -> None:
    # Any length is too much, once there is a start.
    stopped = profile_of(letters, "grm.steps=9", "grm.most_length=0.01")
    assert len(learn(tmp_path, engine, stopped)) == 4
    (tmp_path / "adapter").rename(tmp_path / "first")
    figures = read_figures(tmp_path / "metrics.jsonl")
    assert why_ended(figures, stopped.grm).startswith("the drafts grew to")
    assert why_ended(figures[:3], profile_of(letters, "grm.steps=3").grm) == "all steps were taken"
    assert len(learn(tmp_path, engine, stopped)) == 4
    assert (tmp_path / "adapter" / WEIGHTS).read_bytes() == (tmp_path / "first" / WEIGHTS).read_bytes()


def test_what_sft_says_of_workers_and_ranks_is_not_of_a_training_by_reward() -> None:
    sft = smoke().sft.model_copy(update={"parallelism": "fsdp", "num_workers": 2, "rank_dropout": 0.2})
    found = training_settings(sft, smoke().grm)
    assert (found.parallelism, found.num_workers, found.rank_dropout) == ("ddp", 1, 0.0)


def test_the_warm_up_counts_steps_whatever_their_updates() -> None:
    """It is a function of the update's number, so it goes on where a training was ended."""
    grm = smoke().grm.model_copy(update={"steps": 100, "warmup_steps": 7, "updates_per_step": 3})
    settings = training_settings(smoke().sft, grm)
    rates = [learning_rate_at(update, 300, settings) / grm.learning_rate for update in range(300)]
    assert rates == pytest.approx([min(1.0, (update + 1) / 21) for update in range(300)])


def test_problems_that_nothing_can_be_learnt_from_are_told(
    engine: TransformersEngine, letters: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        UserError, match="16 groups were drawn in which all drafts failed or all passed, so there is nothing to learn"
    ):
        learning.learn(tmp_path, profile_of(letters), PROBLEMS, engine, RefusesAll(), CPU)
    drawn = [one.draft for path in sorted((tmp_path / "drafts").glob("*.parquet")) for one in read_drafts(path)]
    assert len({(draft.problem_id, draft.text) for draft in drawn}) > 200, "each of the 4 x 64 tries is a new one"


def test_a_step_learns_from_its_drafts_as_often_as_is_asked(
    engine: TransformersEngine, letters: Path, tmp_path: Path
) -> None:
    once = learn(tmp_path / "once", engine, profile_of(letters, "grm.steps=1"))
    often = learn(tmp_path / "often", engine, profile_of(letters, "grm.steps=1", "grm.updates_per_step=3"))
    assert [row["num_drafts"] for row in often] == [64]
    assert often[0]["learnt_tokens"] == 3 * once[0]["learnt_tokens"]
    assert often[0]["mismatch"] > 10 * once[0]["mismatch"]  # the trainer moves on, its drafts stay


def test_weights_say_which_problems_a_training_draws_and_it_goes_on_exactly(
    engine: TransformersEngine, letters: Path, tmp_path: Path
) -> None:
    weights = {"ada": 0.0, "bob": 2.0, "cyd": 1.0, "dan": 1.0}
    profile = profile_of(letters, "grm.prompts_per_step=2")

    def learnt(folder: Path, by: Generator) -> bytes:
        learning.learn(folder, profile, PROBLEMS, by, LikesVowels(), CPU, weights=weights)
        return (folder / "adapter" / WEIGHTS).read_bytes()

    whole = learnt(tmp_path / "whole", engine)
    files = sorted((tmp_path / "whole/drafts").glob("step-*.parquet"))
    steps = [{one.draft.problem_id for one in read_drafts(path)} for path in files]
    times = Counter(name for step in steps for name in step)
    assert len(steps) == STEPS and times["ada"] == 0 and times["bob"] == max(times.values()) and len(times) == 3
    with pytest.raises(EndedError):
        learnt(tmp_path / "cut", Ending(engine, after=sum(map(len, steps[:3])) * 16 + 5))  # type: ignore[arg-type]
    assert learnt(tmp_path / "cut", engine) == whole
