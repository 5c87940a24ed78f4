"""The search space of evolution: what the genes of an individual may be, and how a child's differ from its parent's.

Every draw is by hash, of the seed, the generation, the individual and the number of the try: a population that is made
again, after a crash or on another machine, is the same. A child that is nearly one of the living would spend a
generation on what is known already; so it is drawn again, and after `TRIES` the most distant one is taken and marked.

A run's own settings always lie in its space (`space_of`): the first individual learns by them. How a child of another
rank comes by its parent's weights is not said here.
"""

import dataclasses
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from app.corpus.draws import Draws
from app.errors import UserError
from app.evolution.records import Genome, Mutation, Value
from app.stage_settings.evolve import EvolveSettings, Gene
from app.stage_settings.grm import GrmSettings

NEAR = 0.05
"""Distance in the unit cube up to which two genomes are taken for the same."""
TRIES = 32
LEAST_BAND = 0.25
"""Width of the solve rates learnt from, unless the parent's are narrower: few problems lie in less."""
LEAST_MOVE = 0.25
"""Share of a range's step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Numbers from low to high. A mutation moves by a quarter of step to a whole one, either way; a step of a
    logarithmic range is a factor."""

    low: float
    high: float
    step: float
    is_log: bool = False

    def __str__(self) -> str:
        return f"{self.low} to {self.high}"

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def holding(self, value: float) -> "Range":
        return replace(self, low=min(self.low, value), high=max(self.high, value))

    def place(self, value: float) -> float:
        """0 at the low end, 1 at the high one."""
        low, high, at = map(math.log, (self.low, self.high, value)) if self.is_log else (self.low, self.high, value)
        return (at - low) / (high - low)

    def moved(self, value: float, draws: Draws) -> float:
        """Rounded to three digits, inside the range."""
        share = draws.one_of((-1, 1)) * (LEAST_MOVE + (1 - LEAST_MOVE) * draws.below(2**32) / 2**32)
        after = value * self.step**share if self.is_log else value + self.step * share
        return max(self.low, min(self.high, float(f"{after:.3g}")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Some numbers in their order. A mutation moves to a neighbour."""

    values: tuple[float, ...]

    def __str__(self) -> str:
        return f"one of {', '.join(map(str, self.values))}"

    def __contains__(self, value: float) -> bool:
        return value in self.values

    def holding(self, value: float) -> "Choice":
        return Choice(values=tuple(sorted({*self.values, value})))

    def place(self, value: float) -> float:
        return self.values.index(value) / max(1, len(self.values) - 1)

    def moved(self, value: float, draws: Draws) -> float:
        at = self.values.index(value)
        beside = [*self.values[max(0, at - 1) : at], *self.values[at + 1 : at + 2]]
        return draws.one_of(beside) if beside else value


Space = Mapping[str, Range | Choice]
"""By gene; of the mixture, what a source's weight may be."""
SPACE: Space = {
    "learning_rate": Range(low=1e-5, high=3e-4, step=2, is_log=True),
    "lora_r": Choice(values=(4, 8, 16, 32)),
    "seq_len": Choice(values=(512, 1024, 2048, 4096)),
    "temperature": Range(low=0.6, high=1.2, step=0.1),
    "clip_low": Range(low=0.1, high=0.3, step=0.06),
    "clip_high": Range(low=0.15, high=0.5, step=0.1),
    "kl": Choice(values=(0.0, 1e-4, 1e-3, 1e-2)),
    "rate_low": Range(low=0.0, high=0.5, step=0.2),
    "rate_high": Range(low=0.3, high=1.0, step=0.2),
    "mixture": Range(low=0.25, high=4.0, step=2, is_log=True),
    "num_drafts": Choice(values=(4, 8, 16, 32)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """Made by `mutated`."""

    genome: Genome
    mutations: tuple[Mutation, ...]
    """All that differs from the parent; none where no gene that may mutate has another value."""
    is_new: bool
    """False: all tries were near one of the living, and this one is the most distant of them."""
    tries: int


def default_genome(grm: GrmSettings) -> Genome:
    """With which training learns as it does without evolution."""
    same = {name: getattr(grm, name) for name in _SAME}
    mixture = tuple((source, 1.0) for source in dict.fromkeys(grm.problems))
    return Genome(**same, rate_low=grm.rate_band[0], rate_high=grm.rate_band[1], mixture=mixture)


def space_of(grm: GrmSettings) -> Space:
    """`SPACE`, widened to hold what grm says, without the choices that grm's other settings exclude: rows too short
    for a draft, or ranks that have no whole alpha."""
    plain, space = default_genome(grm), dict(SPACE)
    for gene, held in SPACE.items():
        if gene == "mixture":
            continue
        held = held.holding(getattr(plain, gene))
        if isinstance(held, Choice):
            others: dict[float, dict[str, Any]] = {value: {gene: value} for value in held.values}
            held = Choice(values=tuple(value for value, one in others.items() if _fits(replace(plain, **one), grm)))
        space[gene] = held
    return space


def first_population(grm: GrmSettings, settings: EvolveSettings, seed: int) -> list[Child]:
    """The default genome, and mutations of it that differ from each other."""
    space = space_of(grm)
    plain = Child(genome=default_genome(grm), mutations=(), is_new=True, tries=1)
    found = [plain]
    for individual in range(1, settings.population):
        living = [one.genome for one in found]
        found.append(mutated(plain.genome, seed, individual, 0, genes=settings.genes, living=living, space=space))
    return found


def mutated(
    genome: Genome,
    seed: int,
    individual: int,
    generation: int,
    *,
    genes: Collection[Gene],
    living: Sequence[Genome] = (),
    space: Space = SPACE,
) -> Child:
    """A child of the genome: each of the genes moves or stays, at least one moves where one can.

    living: the genomes that it may not be near, its parent's as well if that lives on. Raises UserError for a parent
    outside the space."""
    if outside := genes_outside(genome, space):
        told = f"{outside[0]}={config_of(genome)[outside[0]]}"
        raise UserError(f"{told} is not what evolution searches ({space[outside[0]]}): take the space of the run's grm")
    movable = [gene for gene in space if gene in genes]
    best: tuple[float, Genome] | None = None
    for number in range(1, TRIES + 1):
        draws = Draws(f"mutation:{seed}:{generation}:{individual}:{number}")
        child = _moved(genome, movable, space, draws)
        if child == genome or _band(child) < min(LEAST_BAND, _band(genome)) - 1e-9:
            continue
        away = min((distance(child, other, space) for other in living), default=math.inf)
        if best is None or away > best[0]:
            best = (away, child)
        if away > NEAR:
            break
    away, child = best or (0.0, genome)
    return Child(genome=child, mutations=mutations(genome, child), is_new=away > NEAR, tries=number)


def genes_outside(genome: Genome, space: Space) -> list[str]:
    """Genes that have a value which the space does not hold."""
    weights = [weight for _, weight in genome.mixture]
    values = {gene: weights if gene == "mixture" else [getattr(genome, gene)] for gene in space}
    return [gene for gene, held in space.items() if not all(value in held for value in values[gene])]


def mutations(before: Genome, after: Genome) -> tuple[Mutation, ...]:
    """The genes in which they differ."""
    old, new = config_of(before), config_of(after)
    return tuple(Mutation(gene=gene, before=old[gene], after=new[gene]) for gene in new if old[gene] != new[gene])


def distance(one: Genome, other: Genome, space: Space) -> float:
    """In the cube in which every gene goes from 0 to 1; of a mixture, each source's share."""
    return math.dist(_place(one, space), _place(other, space))


def settings_of(genome: Genome, grm: GrmSettings) -> GrmSettings:
    """grm with the genome's values. alpha/r stays, and with it what a rank's weights are multiplied by; the drafts of a
    step stay, in fewer groups or more. The mixture's weights have no place in GrmSettings: drafting asks the genome.

    Raises UserError for a genome that these settings can't have."""
    if (sources := tuple(source for source, _ in genome.mixture)) != tuple(dict.fromkeys(grm.problems)):
        raise UserError(f"the genome mixes {', '.join(sources)}, and grm.problems is {', '.join(grm.problems)}")
    alpha = genome.lora_r * grm.lora_alpha / grm.lora_r
    changed: dict[str, Any] = {name: getattr(genome, name) for name in _SAME} | {
        "rate_band": (genome.rate_low, genome.rate_high),
        "lora_alpha": alpha,
        "prompts_per_step": max(1, round(grm.prompts_per_step * grm.num_drafts / genome.num_drafts)),
    }
    try:
        return GrmSettings.model_validate(grm.model_dump() | changed)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        told = f"grm.{where}={first['input']}: {first['msg']}" if where else str(first["ctx"]["error"])
        raise UserError(f"no training can have this genome, {told}") from None


def config_of(genome: Genome) -> dict[str, Value]:
    """The flat dict that Tune carries; the mixture is in it as JSON."""
    held = {field.name: getattr(genome, field.name) for field in dataclasses.fields(genome)}
    return held | {"mixture": json.dumps(dict(genome.mixture))}


def genome_of(config: Mapping[str, Any]) -> Genome:
    """Back from there; other keys are passed over. Raises UserError for a key that is missing or is no such value."""
    held: dict[str, Any] = {}
    for field in dataclasses.fields(Genome):
        try:
            value = config[field.name]
            held[field.name] = _mixture(value) if field.name == "mixture" else _number(value, field.type is int)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            told = config.get(field.name, "missing")
            raise UserError(f"{field.name}={told!r} in a trial's config is no gene ({type(error).__name__})") from None
    return Genome(**held)


def _mixture(text: str) -> tuple[tuple[str, float], ...]:
    return tuple((source, _number(weight, False)) for source, weight in json.loads(text).items())


def _number(value: Any, is_whole: bool) -> float:
    number = int(value) if is_whole else float(value)
    if number != value or not math.isfinite(number):
        raise ValueError(value)
    return number


def _fits(genome: Genome, grm: GrmSettings) -> bool:
    try:
        settings_of(genome, grm)
    except UserError:
        return False
    return True


def _moved(genome: Genome, genes: Sequence[str], space: Space, draws: Draws) -> Genome:
    chosen = [gene for gene in genes if draws.below(2)]
    changed: dict[str, Any] = {}
    for gene in chosen:
        if gene != "mixture":
            changed[gene] = space[gene].moved(getattr(genome, gene), draws)
        elif len(genome.mixture) > 1:
            weights = list(genome.mixture)
            at = draws.below(len(weights))
            weights[at] = (weights[at][0], space[gene].moved(weights[at][1], draws))
            changed[gene] = tuple(weights)
    return replace(genome, **changed)


def _band(genome: Genome) -> float:
    return genome.rate_high - genome.rate_low


def _place(genome: Genome, space: Space) -> list[float]:
    total = math.fsum(weight for _, weight in genome.mixture)
    single = [held.place(getattr(genome, gene)) for gene, held in space.items() if gene != "mixture"]
    return single + [weight / total for _, weight in genome.mixture]


_SAME = ("learning_rate", "lora_r", "seq_len", "temperature", "clip_low", "clip_high", "kl", "num_drafts")
"""Genes of the same name in GrmSettings."""
