"""From easy to hard, at each individual's own pace: how often a problem comes up in a generation depends on how often
the untouched model and the individual itself have solved it.

1. **Rate.** A problem's solve rate is counted over the untouched model's drafts and the individual's own, where those
   of one generation count half as much as those of the next (`counts_now`): the older they are, the less their policy
   is the present one, but they are all that is known of a problem that was not drawn since.
2. **Band.** A problem whose rate is not between the genome's ends, both left out, is left out, until less than one
   draft of it is left: then it comes in at the end where it left, to be tried again. One that was never tried comes in
   at the hard end.
3. **Window.** Within the band the weight of a problem of rate p is p^(2c) (1-p)^(2-2c), highest at p = c. Where c is
   0.5 that is p(1-p), the variance of its verdicts, without which there is nothing to learn from them.
4. **Pace.** c falls from `EASY` to 1 - `EASY` as the share of the last generation's drafts that passed goes from 0 to
   1. So an individual starts with easy problems, gets harder ones when it solves these and easier ones when it fails,
   and comes to rest where it solves one of two.
5. **Mixture.** The weight is multiplied by what the genome gives to the problem's source.

Limit: of a problem outside the band nothing new is known before it comes in again: one that 16 drafts failed on is left
out for five generations.
"""

import math
from collections.abc import Sequence

from app.errors import NothingToLearnError
from app.evolution.records import Genome
from app.reward.drafts.solve_rates import Rates
from app.reward.problems.find import given_source
from app.reward.records import TrainingProblem

EASY = 0.75
"""Solve rate of the problems that come up most before an individual has learnt anything."""
FADING = 0.5
"""What drafts count a generation later."""
NEAREST = 1 / 32
"""To 0 and to 1 that a rate is taken for: the few drafts of a problem tell no nearer ones apart."""


def weights_of(
    problems: Sequence[TrainingProblem], genome: Genome, untouched: Rates, own: Sequence[Rates] = ()
) -> dict[str, float]:
    """How often each of the problems comes up relative to the others, by id (`app.reward.by_reward.grpo.order_of`); 0
    leaves it out.

    untouched: the untouched model's solve rates, none where they were not measured. own: of what the individual drew to
    learn from, and before it those whose weights it has: a generation each, the oldest first. Raises
    NothingToLearnError where all are 0, and ValueError for a problem of none of the genome's sources.
    """
    now, centre, by_source = counts_now(untouched, own), centre_of(own), source_weights(genome.mixture)
    low, high = genome.rate_low, genome.rate_high
    found = {}
    for one in problems:
        if one.given.source not in by_source:
            named = ", ".join(source for source, _ in genome.mixture)
            raise ValueError(f"the problem {one.given.id!r} is of {one.given.source!r}, and not of {named}")
        passed, counted = now.get(one.given.id, (0.0, 0.0))
        rate = passed / counted if counted else low
        is_in = low < rate < high or counted < 1
        weight = window(min(high, max(low, rate)), centre) if is_in else 0.0
        found[one.given.id] = weight * by_source[one.given.source]
    if not any(found.values()):
        raise NothingToLearnError(
            f"none of {len(problems)} problems has by now a solve rate above {low:g} and below {high:g}, so there is "
            "nothing to learn: give others by grm.problems, or a wider grm.rate_band"
        )
    return found


def counts_now(untouched: Rates, own: Sequence[Rates]) -> dict[str, tuple[float, float]]:
    """Drafts that passed and drafts that count, as an individual goes by them."""
    found: dict[str, tuple[float, float]] = {}
    for drawn in (untouched, *own):
        found = {name: (FADING * passed, FADING * counted) for name, (passed, counted) in found.items()}
        for name, (passed, counted) in drawn.items():
            before = found.get(name, (0.0, 0.0))
            found[name] = (before[0] + passed, before[1] + counted)
    return found


def centre_of(own: Sequence[Rates]) -> float:
    """The solve rate of the problems that come up most."""
    last = own[-1].values() if own else ()
    drafts = sum(counted for _, counted in last)
    success = sum(passed for passed, _ in last) / drafts if drafts else 0.0
    return EASY - (2 * EASY - 1) * success


def window(rate: float, centre: float) -> float:
    """1 for a problem at the centre, less on either side of it, never 0."""
    p = min(1 - NEAREST, max(NEAREST, rate))
    return math.pow(p / centre, 2 * centre) * math.pow((1 - p) / (1 - centre), 2 * (1 - centre))


def source_weights(mixture: Sequence[tuple[str, float]]) -> dict[str, float]:
    """The mixture by what problems say of their source (`Problem.source`). Two files of one kind can't be told apart by
    their problems, and give these the mean of their weights."""
    weights: dict[str, list[float]] = {}
    for source, weight in mixture:
        weights.setdefault(given_source(source), []).append(weight)
    return {given: math.fsum(held) / len(held) for given, held in weights.items()}
