"""What the phases of a plan are planned from, and what each of them comes to.

The speed of training is this machine's where it was measured (`app.planning.calibration`); all others are projections
by `app.planning.speed`, and without a card figures of two cores.
"""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from app.errors import UserError
from app.models.config import config_of
from app.models.sizes import BYTES, GIB
from app.planning import speed
from app.planning.calibration import measured_speed, processor
from app.planning.cards import Card, find_card, present_card, reference_card
from app.planning.corpus_size import CorpusSize, size_of
from app.planning.training_choice import Choice, choice_of
from app.settings import GenerationSettings, Profile
from app.training.memory import Shape, shape_of

MAX_VRAM_GIB, MAX_RAM_GIB, MAX_CORPUS_RAM_GIB = 8.0, 32.0, 6e9 / GIB
"""What the project allows itself; a card with more may be filled (`Inputs.limit_gib`)."""
RAY_GIB, CORPUS_WORKER_GIB = 1.46, 0.4
"""Main memory: a build of any size took 2.26 GiB with two workers (docs/log); of it a worker is taken for 0.4."""
TORCH_GIB = {True: 3.0, False: 1.0}
"""A process that holds torch, with a card's libraries and without; taken for this, not measured."""
SFT_START_S, EVALUATE_START_S = 50.0, 60.0
"""Ray, the model's weights, their first use; evaluation does it for each candidate. 50 s of the laptop's 515
(docs/log)."""
CORES_TRAIN, CORES_DRAFT = 88 * 0.717e9, {"vllm": 155.6 * 134.5e6, "transformers": 69.2 * 134.5e6}
"""What two cores do with SmolLM2-135M in float32: operations a second of training by plain layers, at 88 tokens/s
(docs/log, 2026-11-27), and parameters a second of drafting 16 answers at once, at 155.6 and 69.2 tokens/s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What phases are planned from. Made by `inputs_of`."""

    profile: Profile
    config: Any
    """transformers' config of the base model."""
    note: str
    """Where it comes from, if not from the model itself."""
    shape: Shape
    card: Card | None
    """The card, with the memory of the one that is here, if there is one. None: this profile uses no card."""
    device: str
    """The card's name as the driver has it, or the processor's."""
    corpus: CorpusSize | None
    choice: Choice
    """The training as it is set."""

    @property
    def weights_gib(self) -> float:
        return (self.shape.linear + self.shape.others) * BYTES[self.profile.model.dtype] / GIB

    @property
    def days(self) -> float:
        """That all phases together may take."""
        return self.profile.schedule.days

    @property
    def limit_gib(self) -> float:
        """What a phase may take of the card: 8, or for a profile with a larger card what that one has; never more than
        there is."""
        return min(max(MAX_VRAM_GIB, reference_card(self.profile).gib), self.card.gib) if self.card else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One phase. Made by the functions in PHASES; printed by `app.planning.text`."""

    name: str
    peak_ram_gib: float
    """Main memory of all processes."""
    disk_gib: float = 0.0
    """What stays on the disk."""
    hours: float = 0.0
    detail: dict[str, float] = field(default_factory=dict)
    """What it takes of the card at most, GiB by what takes them, with the CUDA context."""
    how: str = ""
    """The work that its hours are for."""
    problem: str = ""
    """What can't run, and what to change; empty where all can."""
    notes: tuple[str, ...] = ()
    """Sentences about what else it needs."""
    less_vram: str = ""
    less_ram: str = "take fewer sft.num_workers or a smaller model"
    """What to change where it takes more than there is."""

    @property
    def peak_vram_gib(self) -> float:
        return sum(self.detail.values())


def inputs_of(profile: Profile, run: Path | None, *, sizes_corpus: bool = True) -> Inputs:
    """What the phases are planned from. sizes_corpus: where there is no run, look through the recipe's sources, which
    takes seconds. Raises UserError for a model or recipe that can't be planned with."""
    corpus = size_of(profile, run) if run else None  # first: a run without one is told before seconds of imports
    config, note = config_of(profile.model)
    try:
        shape = shape_of(config)
    except (AttributeError, TypeError) as error:
        raise UserError(
            f"model {profile.model.name} can't be planned for ({error}): plans are made for Llama-like decoders, such "
            "as Qwen2, Qwen3 and SmolLM2"
        ) from None
    card, device = None, processor()
    if profile.sft.use_gpu or profile.generation.use_gpu or profile.serving.use_gpu:
        card = reference_card(profile)
        device = card.name
        if present := present_card():
            device = present[0]
            card = replace(find_card(device) or card, gib=present[1])
    return Inputs(
        profile=profile,
        config=config,
        note=note,
        shape=shape,
        card=card,
        device=device,
        corpus=size_of(profile, None) if sizes_corpus and not run else corpus,
        choice=choice_of(shape, config, profile),
    )


def training_speed(choice: Choice, inputs: Inputs) -> tuple[float, bool]:
    """Tokens a second of one worker, and whether that was measured on this device."""
    card = inputs.card if choice.profile.sft.use_gpu else None
    measured = measured_speed(inputs.shape, choice, inputs.device if card else processor())
    if measured is not None:
        return measured, True
    if card:
        return speed.training_speed(card, inputs.shape, choice), False
    return CORES_TRAIN / speed.flops_of(inputs.shape, choice), False


def rounded_down(value: float) -> float:
    """The value, rounded down to hundredths."""
    return math.floor(value * 100 + 1e-6) / 100


def drafting_of(inputs: Inputs, engine: GenerationSettings, new_tokens: int) -> tuple[dict[str, float], float]:
    """The card's memory that the engine takes for drafts of new_tokens, GiB by purpose (empty without a card), and how
    many tokens a second it draws, all drafts together."""
    if inputs.card and engine.use_gpu:
        given = inputs.shape, inputs.profile.model, engine, new_tokens
        return speed.drafting_memory(*given), speed.drafting_speed(inputs.card, *given)
    return {}, CORES_DRAFT[engine.engine] / (inputs.shape.linear + inputs.shape.others)
