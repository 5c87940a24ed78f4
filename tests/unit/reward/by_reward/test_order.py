"""How often problems come up in the endless order that a training draws them in."""

import itertools
import statistics
from collections.abc import Mapping

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.corpus.draws import by_hash
from app.reward.by_reward.grpo import order_of
from app.reward.drafts.asking import Asked
from tests.unit.reward.made_drafts import problem

EPOCHS = 40


def asked(count: int) -> list[Asked]:
    return [Asked(problem=problem(f"p{number}"), text="", prompt_ids=()) for number in range(count)]


def drawn(count: int, number: int, weights: Mapping[str, float] = {}, seed: int = 0, salt: str = "") -> list[str]:
    order = order_of(asked(count), seed, salt, weights)
    return [one.problem.given.id for one in itertools.islice(order, number)]


@pytest.mark.parametrize("weight", [None, 1.0, 0.3, 7.0])
def test_problems_that_are_all_alike_come_once_an_epoch_in_the_order_that_trainings_have_had(
    weight: float | None,
) -> None:
    """By a formula of its own: a training that was begun before there were weights goes on with its drafts."""
    names = [f"p{number}" for number in range(9)]
    weights = {} if weight is None else dict.fromkeys(names, weight)
    for seed, salt in ((0, "wave 0"), (3, "wave 1"), (7, "")):
        expected = [
            name
            for epoch in range(3)
            for name in sorted(names, key=lambda name: by_hash(f"{seed} {salt} {epoch} {name}"))  # noqa: B023
        ]
        assert drawn(9, 27, weights, seed, salt) == expected


@example(weights=[0.0, 5e-324], seed=0)
@example(weights=[1.5e308, 1.6e308], seed=0)
@given(st.lists(st.floats(0, 8), min_size=2, max_size=12).filter(any), st.integers(0, 99))
def test_a_problem_comes_as_often_as_its_weight_says(weights: list[float], seed: int) -> None:
    count, most = len(weights), max(weights)  # by the largest: the mean of what is nearly nothing is nothing
    mean = sum(weight / most for weight in weights) / count
    names = [f"p{number}" for number in range(count)]
    found = drawn(count, EPOCHS * count, dict(zip(names, weights, strict=True)), seed)
    for name, weight in zip(names, weights, strict=True):
        share = weight / most / mean
        assert abs(found.count(name) - EPOCHS * share) <= 2 * share + 2, "less than an epoch more or less"
        assert weight or name not in found


def test_a_whole_weight_comes_in_each_epoch_and_the_rest_in_some() -> None:
    weights = {"p0": 2.0, "p1": 1.5, "p2": 0.5, "p3": 0.0}  # the mean is 1
    for seed in range(20):
        found = drawn(4, 400, weights, seed)
        assert [found.count(name) for name in weights] == pytest.approx([200, 150, 50, 0], abs=2)
        gaps = [place for place, name in enumerate(found) if name == "p0"]
        assert max(after - before for before, after in itertools.pairwise(gaps)) <= 6, "twice in each epoch"


def test_weights_are_relative_and_1_where_nothing_is_said() -> None:
    assert drawn(5, 50, {"p1": 3.0}) == drawn(5, 50, {"p0": 0.2, "p1": 0.6, "p2": 0.2, "p3": 0.2, "p4": 0.2})


def test_an_order_can_be_taken_up_at_any_step() -> None:
    weights = {"p0": 3.7, "p1": 0.1, "p2": 0.0}
    whole = drawn(7, 120, weights, salt="wave 0")
    for start in (0, 1, 33, 100):
        order = order_of(asked(7), 0, "wave 0", weights)
        assert [one.problem.given.id for one in itertools.islice(order, start, start + 20)] == whole[start : start + 20]
    assert drawn(7, 120, weights, salt="wave 1") != whole != drawn(7, 120, weights, seed=1, salt="wave 0")


def test_what_comes_often_lies_apart_so_that_a_step_asks_different_problems() -> None:
    weights = {f"p{number}": 5.0 if number < 4 else 1.0 for number in range(60)}
    found = drawn(60, 6000, weights)
    steps = [found[start : start + 8] for start in range(0, 6000, 8)]
    doubled = statistics.fmean(len(step) - len(set(step)) for step in steps)
    assert doubled < 0.1, "in any order 0.19 of 8 would be merged"


@pytest.mark.parametrize("weights", [{"p0": -1.0}, {"p0": float("nan")}, {"p0": 0.0, "p1": 0.0}, {"p0": float("inf")}])
def test_weights_by_which_nothing_can_be_drawn_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="give finite ones of 0 or more, one above 0"):
        drawn(2, 1, weights)
