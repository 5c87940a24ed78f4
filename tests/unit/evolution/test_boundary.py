"""The end of a generation: whose child takes whose place, and what the imitation of the pool may do."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from app.errors import UserError
from app.evolution.boundary import decide
from app.evolution.measuring import Ruler
from app.evolution.records import Lived, Metrics
from app.evolution.trial import STATE, Surroundings, is_spent
from app.profiles import smoke
from app.records import Generator, Judge, Sampling
from app.reward.by_reward.watch import StepFigures
from app.runs import Run
from app.stage_settings.evolve import EvolveSettings

PROBLEMS = [f"p{number}" for number in range(100)]
SETTINGS = EvolveSettings(generation_tokens=1, drafts=2)
"""Selection can pay for no further drafts, so that no engine is asked."""


def lived(name: str, solved: int, problems: int = 100) -> Lived:
    """An individual that solves so many of the problems, always the first ones."""
    rates = {problem: (2 * (number < solved), 2) for number, problem in enumerate(PROBLEMS[:problems])}
    return Lived(
        id=name, generation=1, config={}, metrics=Metrics(rates=rates, drafts=2, num_tokens=100, kl=0.0), steps=1,
        drafts=8, drawn_tokens=80, learnt_tokens=40, drafting_seconds=0.0, judging_seconds=0.0, training_seconds=0.0,
        measuring_seconds=0.0, peak_gib=0.0, reward=0.5, why_ended="",
    )  # fmt: skip


def around() -> Surroundings:
    profile = smoke().model_copy(update={"evolve": SETTINGS})
    nobody: Any = None
    sampling = Sampling(max_new_tokens=8)
    ruler = Ruler(problems=(), samples=(0, 1), sampling=sampling, times_speed=False, scores_kl=False)
    return Surroundings(
        profile=profile, problems=(), untouched={}, ruler=ruler,
        generator=cast(Generator, nobody), judge=cast(Judge, nobody), pool=Path(), facts={}, engine_sleeps=False,
    )  # fmt: skip


def decided(run: Run, solved: Mapping[str, int], imitation: int | None) -> tuple[dict[str, str], list[str]]:
    """Donors, and the individuals' order."""
    made = None if imitation is None else lived("imitation.1", imitation)
    found = decide(run, 1, [lived(name, number) for name, number in solved.items()], around(), lambda _: made)
    return dict(found.boundary.donors), list(found.order)


FOUR = {"a": 60, "b": 59, "c": 40, "d": 30}


def test_the_worse_ones_become_children_of_the_better_ones_in_turn(tmp_path: Path) -> None:
    assert decided(Run(tmp_path), FOUR, None) == ({"c": "a", "d": "b"}, ["a", "b", "c", "d"])


def test_one_that_is_not_clearly_worse_keeps_its_place(tmp_path: Path) -> None:
    assert decided(Run(tmp_path), {"a": 60, "b": 60, "c": 59, "d": 30}, None)[0] == {"d": "b"}


@pytest.mark.parametrize(("solved", "donor"), [(61, "imitation.1"), (60, "b"), (20, "b")])
def test_an_imitation_ahead_of_all_is_the_worst_ones_donor_and_no_other_is(
    tmp_path: Path, solved: int, donor: str
) -> None:
    donors, order = decided(Run(tmp_path), FOUR, solved)
    assert donors == {"c": "a", "d": donor} and order == ["a", "b", "c", "d"], "it takes no place"


def test_an_imitation_replaces_nobody_that_is_not_clearly_worse(tmp_path: Path) -> None:
    assert decided(Run(tmp_path), dict.fromkeys("abcd", 60), 61)[0] == {}


def test_one_of_which_too_little_is_known_is_neither_donor_nor_replaced(tmp_path: Path) -> None:
    individuals = [lived("a", 60), lived("b", 60), lived("c", 30), lived("d", 3, problems=3)]
    found = decide(Run(tmp_path), 1, individuals, around(), lambda _: None)
    assert found.boundary.unmeasured == ("d",) and "d" not in found.boundary.donors
    assert found.order == ["a", "b", "c", "d"], "it solved all that it has a verdict of"
    assert found.boundary.num_problems == 100


def test_one_alone_is_replaced_by_nobody_and_an_imitation_may_be_the_choice(tmp_path: Path) -> None:
    found = decide(Run(tmp_path), 1, [lived("a", 30)], around(), lambda _: lived("imitation.1", 60))
    assert list(found.boundary.values) == ["imitation.1", "a"] and found.order == ["a"]
    assert not found.boundary.donors


def test_what_was_decided_holds(tmp_path: Path) -> None:
    run = Run(tmp_path)
    first = decided(run, FOUR, 61)

    def never(generation: int) -> Lived:
        raise AssertionError("nothing is imitated again")

    again = decide(run, 1, [lived(name, 50) for name in FOUR], around(), never)
    assert (dict(again.boundary.donors), list(again.order)) == first
    with pytest.raises(UserError, match="another population"):
        decide(run, 1, [lived("e", 50)], around(), never)


def test_states_that_nobody_goes_on_from_are_removed(tmp_path: Path) -> None:
    """Rungs and trunk, which Tune has no copies of, are begun with again where the stage is started again."""
    run = Run(tmp_path)
    states = [run.individual("a", generation).folder / STATE for generation in (0, 1, 2)]
    for state in states:
        state.mkdir(parents=True)
    for generation in (1, 2):
        decide(run, generation, [lived(name, number) for name, number in FOUR.items()], around(), lambda _: None)
    assert [state.exists() for state in states] == [True, False, True]


def test_speed_counts_for_all_or_for_nobody(tmp_path: Path) -> None:
    """A restart may have kept it from being measured of some."""
    individuals = [lived(name, 60) for name in "abcd"]
    fast = replace(individuals[3], metrics=replace(individuals[3].metrics, speeds=(1.6, 1.6)))
    found = decide(Run(tmp_path), 1, [*individuals[:3], fast], around(), lambda _: None)
    assert len(set(found.boundary.values.values())) == 1


def test_a_generation_ends_at_the_step_that_comes_nearest_to_its_tokens() -> None:
    def steps(number: int) -> list[StepFigures]:
        one = {name: 0 for name in StepFigures.__dataclass_fields__}
        return [StepFigures(**one | {"num_tokens": 300, "learnt_tokens": 100})] * number

    assert [is_spent(steps(number), 999) for number in (0, 1, 2, 3)] == [False, False, True, True]
    assert not is_spent(steps(2), 1001), "a third step misses the tokens by less"
