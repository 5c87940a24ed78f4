"""The fitness of an individual: pass@1 x speed bonus x a factor for its distance from the base model.

pass@1 is of validation problems, never of a test suite. The factor is exp(-beta x KL), or the linear 1 - KL, clamped at
0, since two negative fitnesses would be in the wrong order. Speed counts in whole steps that all repeated measurements
have reached, so that adapters of one shape, equally fast but for noise, get the same bonus. Two whose true speed lies
at the edge of a step can still differ by one; for that reason a step is worth little.
"""

import math
from collections.abc import Sequence

from app.evolution.records import Fitness, Metrics
from app.stage_settings.evolve import FitnessSettings


def fitness_of(metrics: Metrics, settings: FitnessSettings) -> Fitness | None:
    """None where no verdict counts: nothing is known of such an individual, which is another thing than 0."""
    if not metrics.rates:
        return None
    solved = math.fsum(passed / counted for passed, counted in metrics.rates.values())
    return Fitness(
        pass_at_1=solved / len(metrics.rates),
        speed_bonus=speed_bonus(metrics.speeds, settings),
        kl_factor=kl_factor(metrics.kl, settings),
    )


def kl_factor(kl: float, settings: FitnessSettings) -> float:
    """From 1 to 0. kl: nats a token; an estimate that rounding left below 0 counts as 0."""
    kl = max(0.0, kl)
    return math.exp(-settings.beta * kl) if settings.form == "exponential" else max(0.0, 1.0 - kl)


def speed_bonus(speeds: Sequence[float], settings: FitnessSettings) -> float:
    """1 plus the worth of the steps that all measurements reach on the same side of the base's speed.

    speeds: times the base's."""
    steps = [_steps(speed, settings.speed_step) for speed in speeds]
    reached = min(steps, key=abs, default=0) if not steps or min(steps) * max(steps) > 0 else 0
    most = settings.most_speed_steps
    return 1.0 + settings.speed_worth * max(-most, min(most, reached))


def _steps(speed: float, step: float) -> int:
    """Whole steps, each the same ratio, towards 1."""
    exact = math.log(speed) / math.log1p(step)
    return int(exact + math.copysign(1e-9, exact))
