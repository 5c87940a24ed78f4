"""Settings of evolution (`app.evolution`): which genes mutate, what an individual is worth, and how it is chosen."""

from typing import Literal

from pydantic import Field, model_validator

from app.stage_settings.base import Settings

Gene = Literal[
    "learning_rate",
    "lora_r",
    "seq_len",
    "temperature",
    "clip_low",
    "clip_high",
    "kl",
    "rate_low",
    "rate_high",
    "mixture",
    "num_drafts",
]
"""A field of `app.evolution.records.Genome`."""


class FitnessSettings(Settings):
    """pass@1 x speed bonus x what is left of it for the KL (`app.evolution.fitness`)."""

    form: Literal["exponential", "linear"] = "exponential"
    """exponential: exp(-beta x KL); linear: 1 - KL, and 0 from 1 nat on."""
    beta: float = Field(default=1.0, ge=0, le=100)
    """At 1, a small KL costs the same in both forms."""
    speed_step: float = Field(default=0.25, gt=0, le=10)
    """How much faster than the base is one step: far more than two measurements of one adapter differ."""
    speed_worth: float = Field(default=0.02, ge=0, lt=0.1)
    """What a step adds, as a share of pass@1; 0: speed counts nothing."""
    most_speed_steps: int = Field(default=4, ge=0, le=10)
    """That count, of a faster or of a slower one."""


class EvolveSettings(Settings):
    """Population, mutation and selection. Individuals learn as `grm` says, but for their genomes."""

    when: Literal["auto", "always", "never"] = "auto"
    """auto: the pipeline has this stage for an instruct model, as self-reward. Whatever this says, an adapter that does
    harm is not kept (`app.evaluation.gate`)."""
    start: Literal["auto", "base"] = "auto"
    """auto: the population begins with the adapter that self-reward left, where the run has one of the rank grm.lora_r;
    otherwise, and with base, it begins with the trunk."""
    rates: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Multiples of grm.learning_rate of which a short rung finds the best before the trunk; none or one: no rung."""
    rung_tokens: int = Field(default=300_000, ge=1)
    """Drawn and learnt with each of these rates."""
    trunk_tokens: int = Field(default=1_500_000, ge=0)
    """Drawn and learnt by one individual, of which the whole population is made, with its moments; 0: no trunk."""
    generations: int = Field(default=3, ge=1, le=100)
    generation_tokens: int = Field(default=600_000, ge=1)
    """Drawn and learnt by each individual in a generation, which ends with the step that comes nearest to it."""
    prompts_per_step: int | None = Field(default=None, ge=1, le=4096)
    """Groups that an individual's step learns from; None: as many as grm says."""
    imitation: bool = True
    """Each generation ends with one candidate more: the base, which imitates what all individuals have solved."""
    slots: int | None = Field(default=None, ge=1, le=64)
    """Individuals that train at the same time; None: as many as fit on the card beside the engine, or one without."""
    validation: tuple[str, ...] = ()
    """Sources of the problems by which individuals are measured, written as in grm.problems, whose held-out halves are
    taken; none: those of grm.problems."""
    validation_problems: int = Field(default=256, ge=1, le=10_000)
    """At most, drawn by hash."""
    population: int = Field(default=4, ge=1, le=64)
    """1: one long training by the same rules, with nobody to be replaced by."""
    survivors: int = Field(default=2, ge=1, le=63)
    """Individuals, the best ones, that others may become clones of."""
    genes: tuple[Gene, ...] = Field(
        default=("learning_rate", "temperature", "clip_low", "clip_high", "rate_low", "rate_high"), min_length=1
    )
    """That mutate; the others keep what `grm` says. A child of another lora_r loses its moments."""
    fitness: FitnessSettings = FitnessSettings()
    better_by: float = Field(default=1.5, ge=0, le=10)
    """Standard errors of the paired difference by which the donor has to be better than who is replaced."""
    drafts: int = Field(default=2, ge=1, le=64)
    """By which every individual is judged at first, for each problem."""
    most_drafts: int = Field(default=8, ge=1, le=64)
    """For each problem, where individuals are close."""
    selection_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of a generation's tokens that selection may draw, at most."""

    @model_validator(mode="after")
    def _selection_selects(self) -> "EvolveSettings":
        if self.survivors >= self.population > 1:
            what = f"evolve.survivors={self.survivors} leaves none of evolve.population={self.population} to replace"
            raise ValueError(f"{what}: give fewer")
        if self.most_drafts < self.drafts:
            raise ValueError(
                f"evolve.most_drafts={self.most_drafts} is less than evolve.drafts={self.drafts}: raise it"
            )
        return self
