"""What trainer and engine may take of a card on which they take turns: each beside what the other one keeps of it.

While the trainer learns, the engine sleeps and keeps its context and kernels; while the engine draws, the trainer's
frozen weights are in main memory (`app.training.parked`), and it keeps its context, the adapter and its moments.
`sft.vram_gib` and `generation.vram_gib` say what either may take of a card by itself.
"""

from typing import Any

from app.models.sizes import BYTES, GIB
from app.settings import GenerationSettings, Profile
from app.training.memory import CONTEXT_GIB, MOMENTS, RESERVED, shape_of

CARD_OF_TRAINER = 0.5
"""The share of a card that is reserved for training; the engine has the rest (`actors.generator`)."""
ASLEEP_GIB = 2.0
"""What vLLM keeps while it sleeps: 1.4 to 2.0 were seen on an H200, its context included (docs/log)."""

TOKENS_A_PASS = 4096
"""That a distillation's teacher scores at once, padding included."""


def take_turns(profile: Profile) -> bool:
    return profile.sft.use_gpu and profile.generation.use_gpu


def asleep_gib(profile: Profile) -> float:
    """What the engine keeps of the card while the trainer works."""
    return ASLEEP_GIB if profile.generation.engine == "vllm" else CONTEXT_GIB


def trainer_gib(profile: Profile) -> float:
    """What the trainer may reserve while the engine sleeps."""
    return max(0.1, profile.sft.vram_gib - asleep_gib(profile)) if take_turns(profile) else profile.sft.vram_gib


def idle_trainer_gib(profile: Profile, config: Any) -> float:
    """What the trainer keeps while its frozen weights are away. config: transformers', of the base model."""
    number = 4 + MOMENTS[profile.sft.optimiser] + BYTES[profile.model.dtype]  # gradients are gone after a step
    return CONTEXT_GIB + shape_of(config).adapter(profile.grm.lora_r) * number * RESERVED / GIB


def engine_settings(profile: Profile, config: Any) -> GenerationSettings:
    """The engine's settings beside an idle trainer."""
    if not take_turns(profile):
        return profile.generation
    left = profile.generation.vram_gib - idle_trainer_gib(profile, config)
    return profile.generation.model_copy(update={"vram_gib": left})
