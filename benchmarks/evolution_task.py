"""A task of learning whose optimum is known: how an individual learns, what it solves, and what is measured of that.

Learning is the noisy quadratic (Schaul, Zhang and LeCun 2013, arXiv 1206.1106): a step at the rate a makes (1 - a)^2 L
+ a^2 of an expected squared distance L to the best weights, in units in which the gradient's variance is 1. So each L
has its best rate, which falls as L does, and too high a rate takes back what was learnt. A generation is `STEPS` steps
at one rate. Whatever the rate, less before a generation is never more after it; therefore the best rate in each
generation is the best schedule, as in dynamic programming, and nothing that an individual can do exceeds it.

Ability is the logarithm of what was left of L; a problem is solved by a draft with the chance that Rasch's model (1960)
gives for ability and difficulty. All individuals have the same problems. A draft's verdict is drawn by hash, of the
seed, the individual's place, the generation and the draft's number: methods that come to the same individual in the
same place measure the same.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np

from app.corpus.draws import bits, uniform
from app.evolution.records import Metrics
from tune_spaces.alpha_evolve import SPACE, Range

Number = TypeVar("Number", float, np.ndarray)
STEPS = 16
"""Of a generation. With them the best rate falls 2.6 times after the first generation and 1.7 times after the second,
and the best of constant rates comes to 91 % of the best schedule's ability."""
START = 1.0
"""What an untrained individual's L is."""
HARDNESS = 0.6, 2.0
"""Mean and standard deviation of the problems' difficulties, in logits: an untrained individual, at 0, solves 40 %."""


def after(left: Number, rate: Number) -> Number:
    """What a generation leaves of L."""
    for _ in range(STEPS):
        left = (1 - rate) ** 2 * left + rate**2
    return left


def best_rate(left: float) -> float:
    """The rate after which least is left, by ternary search: there is one minimum."""
    low, high = math.log(1e-5), 0.0
    for _ in range(100):
        first, second = low + (high - low) / 3, high - (high - low) / 3
        if after(left, math.exp(first)) < after(left, math.exp(second)):
            high = second
        else:
            low = first
    return math.exp((low + high) / 2)


@cache
def best_schedule(generations: int) -> tuple[float, ...]:
    """The best rate of each generation."""
    rates: list[float] = []
    left = START
    for _ in range(generations):
        rates.append(best_rate(left))
        left = after(left, rates[-1])
    return tuple(rates)


def after_all(rates: Sequence[float]) -> float:
    left = START
    for rate in rates:
        left = after(left, rate)
    return left


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Problems and the scale of the learning rate, drawn by the seed."""

    seed: int
    reach: float
    """Logits of ability that the best schedule gains."""
    num_problems: int = 150
    generations: int = 3

    @property
    def unit(self) -> float:
        """The learning rate, as the genome has it, at which the model's rate is 1: drawn so that all rates of the best
        schedule lie in what evolution searches."""
        schedule, space = best_schedule(self.generations), searched()
        least, most = math.log(space.low / min(schedule)), math.log(space.high / max(schedule))
        return math.exp(least + (most - least) * uniform(f"{self.seed}:unit"))

    def trained(self, left: float, learning_rate: float) -> float:
        """What a generation at the genome's learning rate leaves."""
        return after(left, learning_rate / self.unit)

    def chances(self, left: float) -> np.ndarray:
        """That a draft solves a problem, float64 [problems]."""
        mean, deviation = HARDNESS
        difficulties = np.random.default_rng(bits(f"{self.seed}:difficulty")).normal(mean, deviation, self.num_problems)
        best = after_all(best_schedule(self.generations))
        ability = self.reach * math.log(START / left) / math.log(START / best)
        return 1 / (1 + np.exp(difficulties - ability))

    def pass_rate(self, left: float) -> float:
        """The true one."""
        return float(self.chances(left).mean())

    def optimum(self) -> float:
        """The best true pass rate that these generations can reach."""
        return self.pass_rate(after_all(best_schedule(self.generations)))

    def measured(self, left: float, place: int, generation: int, samples: Sequence[int]) -> Metrics:
        """Drafts of these numbers, judged; one token each."""
        drawn = np.stack([self._uniform(f"{place}:{generation}:{sample}") for sample in samples])
        passed = (drawn < self.chances(left)).sum(axis=0).tolist()
        rates = {f"p{number}": (count, len(samples)) for number, count in enumerate(passed)}
        return Metrics(rates=rates, drafts=len(samples), num_tokens=drawn.size, kl=0.0)

    def _uniform(self, key: str) -> np.ndarray:
        return np.random.default_rng(bits(f"{self.seed}:verdict:{key}")).random(self.num_problems)


def searched() -> Range:
    """Learning rates that evolution may have."""
    space = SPACE["learning_rate"]
    assert isinstance(space, Range)
    return space


def drawn_rates(seed: int, number: int) -> list[float]:
    """Learning rates drawn from all that evolution may have, evenly by their logarithms."""
    space = searched()
    ratio = space.high / space.low
    return [float(f"{space.low * ratio ** uniform(f'{seed}:rate:{one}'):.3g}") for one in range(number)]
