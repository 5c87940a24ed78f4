"""Fitness orders individuals as it says, and what is not known gets no number."""

import math

import pytest

from app.evolution.fitness import fitness_of, kl_factor, speed_bonus
from app.evolution.records import Metrics
from app.stage_settings.evolve import FitnessSettings

DEFAULT = FitnessSettings()


def metrics(kl: float = 0.0, speeds: tuple[float, ...] = ()) -> Metrics:
    return Metrics(rates={"a": (2, 2), "b": (0, 2), "c": (1, 4)}, drafts=2, num_tokens=800, kl=kl, speeds=speeds)


def test_fitness_is_pass_at_1_of_problems_times_its_factors() -> None:
    found = fitness_of(metrics(kl=0.1, speeds=(1.3, 1.4)), FitnessSettings(beta=2.0))
    assert found is not None
    assert found.pass_at_1 == pytest.approx((1 + 0 + 0.25) / 3), "a problem counts once, whatever its drafts"
    assert (found.speed_bonus, found.kl_factor) == pytest.approx((1.02, math.exp(-0.2)))
    assert found.value == pytest.approx(1.25 / 3 * 1.02 * math.exp(-0.2))


def test_without_a_verdict_there_is_no_fitness_rather_than_one_of_0() -> None:
    assert fitness_of(Metrics(rates={}, drafts=2, num_tokens=800, kl=0.0), DEFAULT) is None


@pytest.mark.parametrize("kl", [math.nan, math.inf, -math.inf])
def test_a_kl_that_is_no_number_is_refused(kl: float) -> None:
    with pytest.raises(ValueError, match=f"KL of {kl} nats a token has no worth: the individual diverged"):
        metrics(kl=kl)


def test_the_linear_form_ends_at_0_and_both_fall_alike_at_first() -> None:
    linear = FitnessSettings(form="linear")
    assert [kl_factor(kl, linear) for kl in (0.0, 0.25, 1.0, 3.0)] == [1.0, 0.75, 0.0, 0.0]
    assert kl_factor(0.01, linear) == pytest.approx(kl_factor(0.01, DEFAULT), abs=1e-4)
    assert 0 < kl_factor(3.0, DEFAULT) < kl_factor(1.0, DEFAULT)
    assert kl_factor(-1e-9, DEFAULT) == kl_factor(-1e-9, linear) == 1.0, "rounding earns nothing"


def test_speed_that_differs_by_noise_earns_nothing() -> None:
    assert speed_bonus((), DEFAULT) == 1.0
    assert speed_bonus((0.82, 1.2, 1.24), DEFAULT) == 1.0
    assert speed_bonus((1.6, 1.2), DEFAULT) == 1.0, "every measurement has to reach a step"
    assert speed_bonus((1.6, 0.5), DEFAULT) == 1.0, "and on the same side"


def test_speed_counts_in_whole_steps_up_to_a_most() -> None:
    assert speed_bonus((1.25, 1.5), DEFAULT) == pytest.approx(1.02), "a step's edge belongs to it"
    assert speed_bonus((1.6, 1.3), DEFAULT) == pytest.approx(1.02), "the least that was measured"
    assert speed_bonus((1.25**2,), DEFAULT) == pytest.approx(1.04)
    assert speed_bonus((1 / 1.25,), DEFAULT) == pytest.approx(0.98)
    assert speed_bonus((50.0,), DEFAULT) == pytest.approx(1.08) and speed_bonus((0.01,), DEFAULT) == pytest.approx(0.92)
    assert speed_bonus((50.0,), FitnessSettings(speed_worth=0)) == 1.0


@pytest.mark.parametrize("speed", [0.0, -1.0, math.nan, math.inf])
def test_a_speed_that_can_not_be_is_refused(speed: float) -> None:
    with pytest.raises(ValueError, match="can't have been measured"):
        metrics(speeds=(1.0, speed))
