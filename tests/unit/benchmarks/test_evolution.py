"""The task on which populations are compared has the optimum and the noise that it says, and runs are told truly."""

import itertools
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.evolution.records import Metrics
from app.evolution.selection_drafts import Draw
from app.stage_settings.evolve import EvolveSettings
from benchmarks.evolution import told
from benchmarks.evolution_methods import selected
from benchmarks.evolution_task import START, Task, after, after_all, best_schedule, drawn_rates, searched

TASK = Task(seed=3, reach=1.0)
BEST = [rate * TASK.unit for rate in best_schedule(TASK.generations)]
"""Learning rates of the best schedule."""


def left_after(learning_rates: list[float]) -> float:
    left = START
    for rate in learning_rates:
        left = TASK.trained(left, rate)
    return left


@given(st.lists(st.floats(1e-6, 1.9).map(lambda rate: rate * TASK.unit), min_size=1, max_size=TASK.generations))
def test_no_schedule_exceeds_the_optimum(learning_rates: list[float]) -> None:
    assert TASK.pass_rate(left_after(learning_rates)) <= TASK.optimum() + 1e-9


def test_the_optimum_is_that_of_all_schedules_of_a_fine_grid() -> None:
    """Without the argument that the best rate in each generation makes the best schedule."""
    grid, left = np.geomspace(0.01, 0.3, 80), np.array([START])
    for _ in range(3):
        left = after(left[:, None], grid).reshape(-1)
    least = left.min()
    assert len(left) == 80**3 and after_all(best_schedule(3)) <= least <= 1.01 * after_all(best_schedule(3))


def test_the_best_schedule_has_no_regret_and_lies_in_what_evolution_searches() -> None:
    rows = [
        {"place": 0, "generation": number + 1, "came_from": 0, "left": left_after(BEST[: number + 1])}
        for number in range(3)
    ]
    assert told(rows, 0, TASK)["regret"] == pytest.approx(0, abs=1e-12)
    for seed in range(50):
        unit = Task(seed=seed, reach=1.0).unit
        assert all(rate * unit in searched() for rate in best_schedule(3))
        assert all(rate in searched() for rate in drawn_rates(seed, 12))


def test_the_best_rate_falls_and_one_too_high_takes_back_what_was_learnt() -> None:
    first, second, third = best_schedule(3)
    assert first > 2 * second > 2 * third
    assert after(after_all([first, second]), 0.5) > after_all([first, second])


def test_verdicts_are_binomial_about_the_true_chances() -> None:
    places, left = range(2000), left_after(BEST[:1])
    chances = TASK.chances(left)
    passed = np.array(
        [[count for count, _ in TASK.measured(left, place, 1, (0, 1)).rates.values()] for place in places]
    )
    assert passed.shape == (2000, 150)
    errors = (passed.mean(axis=0) / 2 - chances) / np.sqrt(chances * (1 - chances) / (2 * len(places)))
    assert abs(errors).max() < 5 and errors.std() == pytest.approx(1, abs=0.2)
    scores = passed.mean(axis=1) / 2
    assert scores.var() == pytest.approx((chances * (1 - chances)).sum() / 2 / 150**2, rel=0.15)


def test_individuals_share_difficulties_and_no_noise() -> None:
    left = left_after(BEST[:1])
    many = {
        key: np.array([passed for passed, _ in TASK.measured(left, *key, range(40)).rates.values()])
        for key in ((0, 1), (1, 1), (0, 2))
    }
    chances = TASK.chances(left)
    residues = [(passed / 40 - chances) / np.sqrt(chances * (1 - chances) / 40) for passed in many.values()]
    assert all(np.corrcoef(passed, chances)[0, 1] > 0.9 for passed in many.values())
    for one, other in itertools.combinations(residues, 2):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.35


def test_a_verdict_belongs_to_its_draft_whatever_else_is_drawn() -> None:
    both, first, second = (TASK.measured(0.3, 2, 1, samples) for samples in ((0, 1), (0,), (1,)))
    assert {p: (first.rates[p][0] + second.rates[p][0], 2) for p in first.rates} == both.rates
    assert first.rates != second.rates and both.num_tokens == 300


def test_who_was_replaced_by_whom_is_told_by_what_is_true() -> None:
    def row(place: int, generation: int, left: float, came_from: int | None = None) -> dict[str, float]:
        came_from = place if came_from is None else came_from
        return {"place": place, "generation": generation, "came_from": came_from, "left": left}

    first = [row(0, 1, 0.5), row(1, 1, 0.4), row(2, 1, 0.6), row(3, 1, 0.4)]
    second = [row(0, 2, 0.3), row(1, 2, 0.2, came_from=2), row(2, 2, 0.1, came_from=1), row(3, 2, 0.3, came_from=1)]
    found = told([*first, *second], 1, TASK)
    assert (found["better"], found["equal"], found["worse"]) == (1, 1, 1)
    assert found["chosen_from"] == 4 and not found["is_best"]
    assert found["regret"] == pytest.approx(TASK.optimum() - TASK.pass_rate(0.2))
    assert told([*first, *second], 2, TASK)["is_best"]


@pytest.mark.parametrize("seed", range(10))
def test_drafts_of_close_ones_stay_within_what_the_others_draw(seed: int) -> None:
    lefts = {str(place): 0.2 + 0.05 * place for place in range(4)}
    drawn = []

    def judged(draw: Draw) -> Metrics:
        metrics = TASK.measured(lefts[draw.name], int(draw.name), seed, draw.samples)
        drawn.append(metrics.num_tokens)
        return metrics

    first = {name: judged(Draw(name=name, problems=(), samples=(0,))) for name in lefts}
    settings = EvolveSettings(drafts=1, most_drafts=8)
    order = selected(first, settings, judged, budget=1200)
    assert sorted(name for name, _ in order) == ["0", "1", "2", "3"]
    assert [donor for _, donor in order[:2]] == ["", ""] and sum(drawn) <= 1200
    assert len(drawn) > 4 or all(donor for _, donor in order[2:]), "who is undecided gets more"


def test_an_untrained_individual_solves_what_the_task_says() -> None:
    rates = [Task(seed=seed, reach=1.0).pass_rate(START) for seed in range(200)]
    assert statistics.fmean(rates) == pytest.approx(0.4, abs=0.01)
