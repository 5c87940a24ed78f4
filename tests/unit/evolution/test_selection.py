"""Noise does not decide who goes on: the order, its probability and replacements, against known answers."""

import itertools
import math

import numpy as np
import pytest

from app.errors import UserError
from app.evaluation.statistics import normal_share_below
from app.evolution.fitness import fitness_of
from app.evolution.records import Metrics
from app.evolution.selection import pair_of, ranked, replacements
from app.stage_settings.evolve import EvolveSettings
from tests.unit.evolution.made_metrics import first_of, solving

SETTINGS = EvolveSettings()
NOTHING = Metrics(rates={}, drafts=2, num_tokens=900, kl=0.0)


def donors(measured: dict[str, Metrics], settings: EvolveSettings = SETTINGS) -> dict[str, str]:
    return {one.name: one.donor for one in replacements(measured, ranked(measured, settings), settings)}


def test_equals_keep_their_order_and_none_is_replaced() -> None:
    measured = {name: first_of(40) for name in "dbca"}
    found = ranked(measured, SETTINGS)
    assert found.names == tuple("dbca") and found.survivors == ("d", "b")
    assert found.probability == pytest.approx(1 / 24, abs=0.03)
    assert found.survivors_probability == pytest.approx(1 / 6, abs=0.05)
    assert donors(measured) == {"c": "", "a": ""}
    pair = pair_of(measured, "d", "a", SETTINGS)
    assert pair is not None and (pair.difference, pair.errors, pair.probability) == (0, 0, 0.5)


def test_the_clearly_better_ones_survive_and_take_turns_as_donors() -> None:
    measured = {"bad": first_of(10), "best": first_of(72), "good": first_of(70), "worst": first_of(8)}
    found = ranked(measured, SETTINGS)
    assert found.names == ("best", "good", "bad", "worst") and found.survivors_probability > 0.99
    assert found.probability < 1, "who of the two good ones is better is not known"
    assert donors(measured) == {"bad": "best", "worst": "good"}


def test_one_that_is_better_by_less_than_the_errors_asked_for_replaces_nobody() -> None:
    """Two of 100 problems more are sqrt(2) or so errors, which is more than 1 and less than 1.5."""
    measured = {"a": first_of(42), "b": first_of(40)}
    one = EvolveSettings(population=2, survivors=1)
    pair = pair_of(measured, "a", "b", one)
    differences = np.array([1.0] * 3 + [-1.0] + [0.0] * 98)
    assert pair is not None and pair.difference == pytest.approx(0.02)
    assert pair.errors == pytest.approx(differences.mean() / (differences.std(ddof=1) / math.sqrt(102)))
    assert donors(measured, one) == {"b": ""}
    assert donors(measured, one.model_copy(update={"better_by": 0.9})) == {"b": "a"}


def test_pairing_shows_what_the_scores_alone_do_not() -> None:
    """The same two scores: of the same problems and ten more, or of others."""
    nested = {"a": first_of(50), "b": first_of(40)}
    crossed = {"a": first_of(50), "b": solving([0] * 50 + [2] * 40 + [0] * 10)}
    one = EvolveSettings(population=2, survivors=1)
    assert donors(nested, one) == {"b": "a"} and donors(crossed, one) == {"b": ""}


def test_few_problems_that_all_agree_are_not_taken_for_certain() -> None:
    measured = {"a": solving([2, 2]), "b": solving([0, 0])}
    found = ranked(measured, EvolveSettings(population=2, survivors=1))
    assert found.probability < 0.9 and found.probability == found.survivors_probability
    assert donors(measured, EvolveSettings(population=2, survivors=1)) == {"b": ""}


def test_a_donor_whose_turn_it_is_but_is_not_better_gives_way_to_one_that_is() -> None:
    measured = {"best": first_of(80), "second": first_of(51), "third": first_of(50), "last": first_of(49)}
    assert donors(measured) == {"third": "best", "last": "best"}


def test_one_without_verdicts_is_named_apart_and_is_no_0() -> None:
    measured = {"a": first_of(60), "gone": NOTHING, "b": first_of(0), "few": solving([2] * 49)}
    found = ranked(measured, SETTINGS)
    assert (found.names, found.unmeasured, found.num_problems) == (("a", "b"), ("gone", "few"), 100)
    assert found.others == () and found.probability > 0.99
    with pytest.raises(UserError, match="2 individuals have no problem with a verdict in common"):
        ranked({"a": NOTHING, "b": NOTHING}, SETTINGS)
    with pytest.raises(UserError, match="0 individuals"):
        ranked({}, SETTINGS)


def test_individuals_are_ordered_on_the_problems_that_all_have() -> None:
    """b has lost its hard problems, which would raise its score."""
    a, b = first_of(50), first_of(48)
    easy = Metrics(rates=dict(itertools.islice(b.rates.items(), 60)), drafts=2, num_tokens=100, kl=0.0)
    for measured in ({"b": easy, "a": a}, {"a": a, "b": easy}):
        found = ranked(measured, SETTINGS)
        assert found.names == ("a", "b") and found.num_problems == 60


def test_what_is_paired_is_fitness_so_that_its_factors_decide_too() -> None:
    measured = {"far": first_of(60, kl=1.0), "near": first_of(50)}
    one = EvolveSettings(population=2, survivors=1)
    assert ranked(measured, one).names == ("near", "far") and donors(measured, one) == {"far": "near"}
    pair = pair_of(measured, "near", "far", one)
    near, far = (fitness_of(measured[name], one.fitness) for name in ("near", "far"))
    assert pair and near and far and pair.difference == pytest.approx(near.value - far.value)


def test_the_chance_of_two_is_the_normal_one_without_what_noise_explains() -> None:
    """Noise explains 1 of z squared, so that a spread of z errors is shrunk to 1 - 1 / z**2 of itself."""
    measured = {"a": first_of(45), "b": solving([0] * 14 + [2] * 26 + [0] * 60)}
    pair = pair_of(measured, "a", "b", SETTINGS)
    found = ranked(measured, EvolveSettings(population=2, survivors=1))
    assert pair and found.probability == pytest.approx(normal_share_below(math.sqrt(pair.errors**2 - 1)), abs=0.02)
    assert found == ranked(measured, EvolveSettings(population=2, survivors=1)), "drawn by hash"


def test_the_best_of_equals_are_not_thought_better_because_noise_made_them_the_best() -> None:
    """Without the shrinking the mean is 0.5; two of four equals are the right ones in one of six cases."""
    random, chances = np.random.default_rng(0), []
    for _ in range(60):
        hard = random.beta(0.5, 0.6, size=60)
        measured = {name: solving(random.binomial(2, hard).tolist()) for name in "abcd"}
        chances.append(ranked(measured, SETTINGS).survivors_probability)
    assert 0.15 < np.mean(chances) < 0.36
