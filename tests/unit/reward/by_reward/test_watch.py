"""A run is stopped for what is known to ruin a policy, and decides alike when it goes on from a checkpoint."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import pytest

from app.records import Status
from app.reward.by_reward.outlets import told as shown
from app.reward.by_reward.watch import StepFigures, Validation, Watch, step_figures
from app.settings import GrmSettings
from tests.unit.reward.made_drafts import group, judged

COSTS: dict[str, Any] = {
    "mismatch": 0.01,
    "clipped": 0.02,
    "training_tokens": 3000,
    "drafting_seconds": 2.0,
    "judging_seconds": 0.5,
    "training_seconds": 1.5,
    "learnt_tokens": 900,
    "learning_rate": 1e-4,
    "grad_norm": 0.5,
    "peak_gib": 6.5,
}


def step(number: int, entropy: float | None = 0.5, tokens: float = 100) -> StepFigures:
    made = step_figures(number, group("+-"), **COSTS)
    return dataclasses.replace(made, entropy=entropy, mean_tokens=tokens)


def run(entropies: Sequence[float | None] = (), lengths: Sequence[float] = ()) -> list[StepFigures]:
    of_entropy = [step(number, entropy=entropy) for number, entropy in enumerate(entropies, 1)]
    return of_entropy + [step(number, tokens=length) for number, length in enumerate(lengths, 1)]


def validation(number: int, *passed: bool) -> Validation:
    return Validation(step=number, rates={str(name): float(one) for name, one in enumerate(passed)})


def test_figures_are_of_all_drafts_of_a_step() -> None:
    drafts = [
        *group("+-", "a"),
        *group("++", "b"),
        *group("--", "c"),
        judged(Status.PASSED, name="d", tokens=12, logprob=-1.0, cut=True),
    ]
    found = step_figures(3, drafts, **COSTS)
    assert (found.step, found.reward_mean) == (3, 0.5)
    assert (found.share_with_variance, found.share_all_right, found.share_all_wrong) == (0.25, 0.25, 0.25)
    assert found.mean_tokens == 36 / 7 and found.share_truncated == 1 / 7
    assert found.entropy == pytest.approx((24 * 0.5 + 12 * 1.0) / 36), "each token counts, not each draft"
    assert (found.drafting_tokens_per_second, found.training_tokens_per_second) == (18, 2000)
    nothing = step_figures(1, [judged(Status.INFRA, tokens=0)], **COSTS)
    assert (nothing.reward_mean, nothing.entropy, nothing.share_with_variance) == (None, None, 0)
    assert shown(nothing).startswith("reward -, 0% of 1 groups"), "no reward is not a reward of 0"


@pytest.mark.parametrize(
    ("figures", "told"),
    [
        (run([0.5, 0.4, 0.6, 0.11]), ""),
        (run([0.5, 0.4, 0.6, 0.3, 0.09]), "entropy fell to 0.090 nats in step 5"),
        (run([0.5, 0.4, 0.09]), ""),  # the start itself
        (run([0.5, None, 0.5, None, 0.05]), "entropy fell to 0.050 nats in step 5"),
        (run([None, None, None, 0.05]), ""),
        (run(lengths=[100, 80, 120, 199]), ""),
        (run(lengths=[100, 80, 120, 150, 201]), "drafts grew to 201 tokens in step 5"),
        (run(lengths=[100, 80, 120, 201, 100]), "drafts grew to 201 tokens in step 4"),
        ([], ""),
    ],
)
def test_a_collapse_or_a_growth_stops_the_run(figures: list[StepFigures], told: str) -> None:
    reason = Watch(figures).reason
    assert reason == "" if told == "" else told in reason


def test_both_bounds_are_the_settings_own() -> None:
    grm = GrmSettings(least_entropy=0.5, most_length=3)
    assert "under 50% of its start" in Watch(run([0.5, 0.5, 0.5, 0.24]), settings=grm).reason
    assert Watch(run([0.5, 0.5, 0.5, 0.26]), settings=grm).reason == ""
    assert Watch(run(lengths=[100, 100, 100, 299]), settings=grm).reason == ""
    assert "over 3 times" in Watch(run(lengths=[100, 100, 100, 301]), settings=grm).reason


def test_validation_that_falls_by_more_than_chance_stops_the_run() -> None:
    start, best = validation(0, *[True] * 40 + [False] * 60), validation(10, *[True] * 50 + [False] * 50)
    noise = validation(20, *[True] * 45 + [False] * 53 + [True] * 2)
    worse = validation(30, *[True] * 40 + [False] * 60)
    assert Watch(validations=[start, best, noise]).reason == ""
    reason = Watch(validations=[start, best, noise, worse]).reason
    assert "validation fell from 50.0% in step 10 to 40.0% in step 30" in reason


def test_differences_are_paired() -> None:
    """Ten problems fewer are chance where thirty changed, and none where ten did."""
    before = validation(1, *[True] * 50 + [False] * 50)
    mixed = validation(2, *[False] * 30 + [True] * 20 + [True] * 20 + [False] * 30)
    plain = validation(2, *[False] * 10 + [True] * 40 + [False] * 50)
    assert mixed.mean == plain.mean == 0.4
    assert Watch(validations=[before, mixed]).reason == "" != Watch(validations=[before, plain]).reason


def test_the_best_checkpoint_is_the_earliest_that_solved_most() -> None:
    half, more = (True, False), (True, True)
    assert Watch().best_step is None
    assert Watch(validations=[validation(0, *half), validation(10, *half)]).best_step == 0
    held = [validation(0, *half), validation(10, *more), validation(20, *more), validation(30, *half)]
    assert Watch(validations=held).best_step == 10


def test_a_run_that_goes_on_decides_as_if_it_had_never_ended() -> None:
    figures = run([0.5, 0.4, 0.6, 0.3, 0.09])
    stored = [StepFigures(**json.loads(json.dumps(dataclasses.asdict(one)))) for one in figures]
    assert stored == figures
    for cut in range(5):
        watch = Watch(stored[:cut])
        said = []
        for one in stored[cut:]:
            watch.figures.append(one)
            said.append(watch.reason)
        assert [bool(one) for one in said] == [*[False] * (4 - cut), True] and said[-1] == Watch(figures).reason
