"""Who goes on and who is replaced, so that the noise of the verdicts does not decide it.

Individuals are compared problem by problem, on the drafts of all of them: that they find the same problems hard is then
no noise. A problem is worth the share of its drafts that passed, times the individual's factor for speed and KL
(`app.evolution.fitness`). One is replaced only by a donor that is better by `evolve.better_by` standard errors; without
such a donor it keeps its weights. `app.evolution.selection_drafts` says which drafts that takes.

Not covered: the factors are taken as exact, and 1.5 errors are those of one look at a pair named beforehand, which the
best and the worst are not. Among four equals of 256 problems and 2 drafts, a clone takes a place in half of the
generations (simulated), and a little oftener once close ones got more drafts. That costs variety and no pass@1.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.corpus.draws import bits
from app.errors import UserError
from app.evaluation.statistics import errors_apart, normal_share_below
from app.evolution.fitness import fitness_of
from app.evolution.records import Metrics
from app.stage_settings.evolve import EvolveSettings

LEAST_MEASURED = 0.5
"""Share of the problems of the best measured individual that another needs: with fewer, all would be compared on few
problems for its sake."""
NUM_RESAMPLES = 2000

Measured = Mapping[str, Metrics]
"""By the individual's name; of equals the one that comes first is taken for the better one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two individuals on the problems that both have."""

    ahead: str
    behind: str
    num_problems: int
    difference: float
    """In fitness, ahead minus behind."""
    errors: float
    """The same in its standard errors (`app.evaluation.statistics.errors_apart`)."""

    @property
    def probability(self) -> float:
        """That ahead is truly the better one, by the normal approximation; 0.5 for equals. Too high for a pair that was
        picked because it is far apart: `Ranking` has a chance that allows for that."""
        return normal_share_below(self.errors)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Made by `ranked`."""

    names: tuple[str, ...]
    """The best first."""
    num_survivors: int
    unmeasured: tuple[str, ...]
    """Too few of their problems have a verdict. Nothing is said of them: they are neither donors nor replaced here."""
    num_problems: int
    """That all of names have."""
    probability: float
    """That the whole order is right (`_chances`): about 1/24 for four equals."""
    survivors_probability: float
    """That the survivors are the right ones, in any order: about 1/6 for two of four equals."""

    @property
    def survivors(self) -> tuple[str, ...]:
        return self.names[: self.num_survivors]

    @property
    def others(self) -> tuple[str, ...]:
        return self.names[self.num_survivors :]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """What becomes of one that is not among the survivors."""

    name: str
    donor: str
    """Whose mutated clone takes its place; empty: none is better enough, and it goes on as it is."""
    pair: Pair
    """It and the donor, or the survivor that came nearest to being one."""


def ranked(measured: Measured, settings: EvolveSettings, *, seed: int = 0) -> Ranking:
    """By fitness on the problems that all have. Raises UserError where they have none."""
    most = max((len(one.rates) for one in measured.values()), default=0)
    named = [name for name, one in measured.items() if one.rates and len(one.rates) >= LEAST_MEASURED * most]
    common = [problem for problem in measured[named[0]].rates if _all_have(measured, named, problem)] if named else []
    if not common:
        raise UserError(
            f"{len(measured)} individuals have no problem with a verdict in common, so that none is better than "
            "another: judge their drafts of the same problems, where programs are confined (docs/security.md)"
        )
    values = {name: _values(measured[name], settings) for name in named}
    rows = {name: [values[name][problem] for problem in common] for name in named}
    names = sorted(named, key=lambda name: -math.fsum(rows[name]))
    num_survivors = min(settings.survivors, len(names))
    whole, survivors = _chances([rows[name] for name in names], num_survivors, seed)
    return Ranking(
        names=tuple(names),
        num_survivors=num_survivors,
        unmeasured=tuple(name for name in measured if name not in named),
        num_problems=len(common),
        probability=whole,
        survivors_probability=survivors,
    )


def pair_of(measured: Measured, ahead: str, behind: str, settings: EvolveSettings) -> Pair | None:
    """None where they have no problem in common. ahead may turn out to be the worse one."""
    first, second = _values(measured[ahead], settings), _values(measured[behind], settings)
    differences = [first[problem] - second[problem] for problem in first if problem in second]
    if not differences:
        return None
    return Pair(
        ahead=ahead,
        behind=behind,
        num_problems=len(differences),
        difference=math.fsum(differences) / len(differences),
        errors=errors_apart(differences),
    )


def replacements(measured: Measured, ranking: Ranking, settings: EvolveSettings) -> tuple[Replacement, ...]:
    """For each that is not among the survivors, the best of them first, a donor or none.

    The survivors take turns as donors, so that they all leave clones; where the one whose turn it is isn't better
    enough, the others are asked, the best first."""
    found = []
    for place, name in enumerate(ranking.others):
        turn = ranking.survivors[place % ranking.num_survivors]
        pairs = pairs_against(measured, name, (turn, *(one for one in ranking.survivors if one != turn)), settings)
        good = next((pair for pair in pairs if pair.errors >= settings.better_by), None)
        nearest = good or max(pairs, key=lambda pair: pair.errors)
        found.append(Replacement(name=name, donor=good.ahead if good else "", pair=nearest))
    return tuple(found)


def pairs_against(measured: Measured, name: str, donors: Sequence[str], settings: EvolveSettings) -> list[Pair]:
    """Each donor with the one that it might replace, in the donors' order."""
    pairs = (pair_of(measured, donor, name, settings) for donor in donors)
    return [pair for pair in pairs if pair is not None]


def _all_have(measured: Measured, names: Sequence[str], problem: str) -> bool:
    return all(problem in measured[name].rates for name in names)


def _values(metrics: Metrics, settings: EvolveSettings) -> dict[str, float]:
    """By problem; their mean is the fitness."""
    fitness = fitness_of(metrics, settings.fitness)
    factor = fitness.factor if fitness else 0.0
    return {problem: factor * passed / counted for problem, (passed, counted) in metrics.rates.items()}


def _chances(rows: Sequence[Sequence[float]], num_survivors: int, seed: int) -> tuple[float, float]:
    """How likely the order is right, and how likely the survivors are the right ones.

    rows: the values of each individual, the best first. Their means are drawn by the bootstrap over problems, with a
    problem more for each individual that it alone solves: otherwise a few problems that agree would be certain
    (`difference_interval` does so for two). The best of equals would look better than they are; so what is measured of
    the individuals' spread is shrunk by the share of it that noise explains (empirical Bayes)."""
    import numpy as np

    if len(rows) == 1:
        return 1.0, 1.0
    values = np.hstack([np.array(rows), np.eye(len(rows))]).T
    random = np.random.default_rng(bits(f"{seed}:order"))
    counts = random.multinomial(len(values), [1 / len(values)] * len(values), size=NUM_RESAMPLES)
    means = values.mean(axis=0)
    noise = counts @ values / len(values) - means
    noise -= noise.mean(axis=1, keepdims=True)
    explained = (noise**2).sum(axis=1).mean() / (len(rows) - 1)
    spread = means.var(ddof=1)
    real = max(0.0, 1 - explained / spread) if spread else 0.0
    drawn = real * means + math.sqrt(real) * noise + 1e-9 * random.random(noise.shape)  # equals come in any order
    whole = (drawn[:, :-1] > drawn[:, 1:]).all(axis=1)
    worst_survivor = drawn[:, :num_survivors].min(axis=1)
    survivors = (drawn[:, num_survivors:] < worst_survivor[:, None]).all(axis=1)
    return float(whole.mean()), float(survivors.mean())
