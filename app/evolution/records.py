"""The records of evolution: what an individual is, how it was measured, and what that is worth, each apart from the
others. Where it comes from says `app.evolution.lineage`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Value = int | float | str
"""A gene's, as Tune carries it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Genome:
    """How an individual learns: the fields of `app.stage_settings.grm.GrmSettings` that evolution varies. Made by
    `tune_spaces.alpha_evolve`; read by whoever trains the individual, and by the report.

    Example: Genome(learning_rate=7e-5, lora_r=32, seq_len=2048, temperature=1.0, clip_low=0.2, clip_high=0.28, kl=0.0,
                    rate_low=0.0, rate_high=0.9, mixture=(("ours", 1.0), ("mbpp", 1.0)), num_drafts=16)
    """

    learning_rate: float
    lora_r: int
    seq_len: int
    temperature: float
    clip_low: float
    clip_high: float
    kl: float
    rate_low: float
    """With rate_high the band of difficulty: solve rates between which, both left out, problems are learnt from."""
    rate_high: float
    mixture: tuple[tuple[str, float], ...]
    """By source, as grm.problems has them in its order, how often its problems come up, relative to their number: all 1
    is what training without evolution does."""
    num_drafts: int
    """In a group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """One gene that a child has otherwise than its parent.

    Example: Mutation(gene="temperature", before=1.0, after=0.93)
    """

    gene: str
    before: Value
    after: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """An individual as it was measured in one generation, all individuals on the same problems and with the same
    sampling, whatever their genomes say. Read by `app.evolution.fitness` and `app.evolution.selection`.

    Example: Metrics(rates={"MBPP/601": (1, 2)}, drafts=2, num_tokens=310, kl=0.02, speeds=(1.03, 0.98))
    """

    rates: Mapping[str, tuple[int, int]]
    """By problem how many drafts passed, and how many count (`app.reward.drafts.solve_rates.rates`). A problem of which
    no draft counts is left out."""
    drafts: int
    """Asked for of every problem; their numbers are 0 to drafts - 1."""
    num_tokens: int
    """Drawn in all of them."""
    kl: float
    """Nats a token from the base."""
    speeds: tuple[float, ...] = ()
    """Tokens a second over those of the base, of repeated measurements; none where speed was not measured."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.kl):
            raise ValueError(
                f"a KL of {self.kl} nats a token has no worth: the individual diverged, take it for a failed one"
            )
        if wrong := [speed for speed in self.speeds if not (math.isfinite(speed) and speed > 0)]:
            raise ValueError(f"{wrong[0]} times the base's speed can't have been measured: leave it out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitness:
    """What an individual's metrics are worth. Made by `app.evolution.fitness`."""

    pass_at_1: float
    """Mean over problems of the share of drafts that passed."""
    speed_bonus: float
    kl_factor: float
    """From 1, at the base, down to 0."""

    @property
    def factor(self) -> float:
        """What a solved problem is worth."""
        return self.speed_bonus * self.kl_factor

    @property
    def value(self) -> float:
        return self.pass_at_1 * self.factor


@dataclass(frozen=True, slots=True, kw_only=True)
class Lived:
    """What one individual did in one generation, or what one imitation of the pool came to. Made by
    `app.evolution.trial`; kept as evolve/individuals/ID/GENERATION/lived.json, which selection and report read.

    Example: Lived(id="5f0c1_00003.2", generation=2, config={"learning_rate": 7e-5, ...}, metrics=Metrics(...), steps=5,
                   drafts=2560, drawn_tokens=301_000, learnt_tokens=190_000, drafting_seconds=31.0, judging_seconds=4.0,
                   training_seconds=24.0, measuring_seconds=12.0, peak_gib=5.2, reward=0.48, why_ended="...")
    """

    id: str
    generation: int
    config: Mapping[str, Value]
    """The genome as Tune carries it (`tune_spaces.alpha_evolve.config_of`)."""
    metrics: Metrics
    """As of the first drafts that selection asked for; more of them, where it was close, are in `Boundary`."""
    steps: int
    drafts: int
    """Drawn to learn from."""
    drawn_tokens: int
    """Of these drafts."""
    learnt_tokens: int
    """That entered the loss."""
    drafting_seconds: float
    judging_seconds: float
    training_seconds: float
    measuring_seconds: float
    peak_gib: float
    """Of the trainer: the card's memory, without one the process' resident memory; 0 where no step was taken."""
    reward: float | None
    """Mean of the last step; None for an imitation."""
    why_ended: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How many problems a pool of drafts solves, beside as many drafts of one individual. Made by
    `app.evolution.pool`."""

    generation: int
    problems: int
    """That two individuals or more drew drafts of."""
    drafts_a_problem: float
    pool: float
    """Share of the problems that one of the pool's drafts solves, expected over which ones are taken."""
    one_policy: float
    """The same of one individual's drafts, on the average."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Two individuals on the same problems: the first minus the second, in fitness.

    Example: Compared(first="a.1", second="b.1", difference=0.021, errors=1.7, probability=0.95)
    """

    first: str
    second: str
    difference: float
    errors: float
    """In standard errors."""
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Boundary:
    """How the end of a generation was decided. Made by `app.evolution.boundary`; kept as
    evolve/boundaries/GENERATION.json, which the report reads."""

    generation: int
    values: Mapping[str, float]
    """Fitness by id, the best first, after all drafts that selection asked for."""
    pass_at_1: Mapping[str, float]
    num_drafts: Mapping[str, int]
    """Of a problem, by which each was judged in the end."""
    num_problems: int
    unmeasured: Sequence[str]
    imitation: str
    """Id of the candidate that imitates the pool; empty where there is none."""
    donors: Mapping[str, str]
    """By the id of who is replaced."""
    close: Sequence[Compared]
    """Each that is not among the survivors with the donor that came nearest."""
    undecided: int
    """Pairs for which the tokens of selection did not suffice."""
    probability: float
    """That the whole order is right."""
    survivors_probability: float
    selection_tokens: int
    """Drawn to measure all candidates."""
    budget_tokens: int
    coverage: Coverage | None
    seconds: float
