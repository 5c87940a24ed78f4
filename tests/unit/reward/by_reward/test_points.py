"""Learning from a judge that gives parts of a point, as that of tool calls does."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from app.generation.transformers_engine import TransformersEngine
from app.records import Problem, Verdict
from app.reward.drafts.files import read_drafts
from tests.unit.reward.letters import LikesVowels, learn, profile_of, verdict, vowels


class CountsVowels(LikesVowels):
    """The share of vowels is what a draft is worth; none ever passes."""

    def judge_all(self, jobs: Iterable[tuple[Problem, Sequence[str]]]) -> Iterator[list[Verdict]]:
        for problem, programs in jobs:
            yield [
                replace(verdict(problem, is_right=False), points=min(1.0, vowels(program) / 2)) for program in programs
            ]


def test_a_part_of_a_point_is_learnt_from_and_kept_with_the_draft(
    engine: TransformersEngine, letters: Path, tmp_path: Path
) -> None:
    rows = learn(tmp_path, engine, profile_of(letters), CountsVowels())
    drawn = read_drafts(tmp_path / "drafts" / "step-00001-0.parquet")
    rewards = [one.reward for one in drawn if one.reward is not None]
    assert len(set(rewards)) > 5 and max(rewards) < 1
    assert rows[0]["reward_mean"] == pytest.approx(sum(rewards) / len(rewards))
    assert rows[0]["share_with_variance"] == 1 and rows[0]["share_all_wrong"] == 0
    assert rows[-1]["reward_mean"] > 1.15 * rows[0]["reward_mean"]
