"""Which micro-batch, base and keeping make training fastest under a limit of memory, from the model's config alone.

Tried are all micro-batches that leave the effective batch as it is, with 16-bit and with 4-bit weights, each with the
most that its layers can keep. Needs no torch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from app.models.sizes import GIB
from app.planning.speed import fused_flops, plain_flops
from app.settings import ModelSettings, Profile, SftSettings
from app.training.memory import Shape, StepMemory, choose_keep, plain_step_memory, step_memory
from app.training.saved_activations import Keep, plain_by_settings

BASES = ("none", "nf4")
FUSED = ("llama", "qwen2", "qwen3")
"""Types of models that are known to go the fused way; of others only the model itself tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One way to train. Made by `choice_of`; read by the plan."""

    model: ModelSettings
    sft: SftSettings
    seq_len: int
    keep: tuple[Keep, ...]
    """What each layer keeps; empty where layers go the plain way."""
    memory: StepMemory
    fits: bool
    """Under sft.vram_gib."""

    def words(self) -> str:
        base = {"none": self.model.dtype, "nf4": "NF4"}[self.model.quantization]
        levels = [(self.keep.count(level), level.name.lower()) for level in Keep if level in self.keep]
        kept = ", ".join(f"{count} layers keep {name}" for count, name in levels)
        if not self.keep:
            kept = "layers' inputs kept" if self.sft.gradient_checkpointing or self.sft.offload else "all kept"
        return f"{'fused' if self.keep else 'plain'} layers, {base}, micro-batch {self.sft.micro_batch}, {kept}"


def goes_fused(config: Any, model: ModelSettings, sft: SftSettings) -> bool:
    """Whether layers are the fused ones, by config and settings; `app.training.fused` asks the model."""
    return not (
        plain_by_settings(sft)
        or sft.lora_dropout > 0
        or config.model_type not in FUSED
        or getattr(config, "hidden_act", "silu") != "silu"
        or getattr(config, "use_sliding_window", False)
        or (sft.use_gpu and model.dtype == "float32")
    )


def choices(shape: Shape, profile: Profile, can_fuse: bool) -> Iterator[Choice]:
    """Everything that is tried, whether it fits or not, with the effective batch of the profile. can_fuse: without
    dropout."""
    sft = profile.sft.model_copy(update={"lora_dropout": 0.0}) if can_fuse else profile.sft
    rows = sft.micro_batch * sft.grad_accumulation
    stay = not plain_by_settings(sft)  # packed weights can't move (`Profile`)
    for base in BASES if profile.model.dtype == "bfloat16" and stay else (profile.model.quantization,):
        model = profile.model.model_copy(update={"quantization": base})
        for micro_batch in (size for size in range(1, rows + 1) if rows % size == 0):
            changed = sft.model_copy(update={"micro_batch": micro_batch, "grad_accumulation": rows // micro_batch})
            yield choice_of(shape, model, changed, profile.corpus.seq_len, can_fuse)


def choice_of(shape: Shape, model: ModelSettings, sft: SftSettings, seq_len: int, is_fused: bool) -> Choice:
    """What the settings ask for; one that doesn't fit has the least memory that it can do with."""
    limit = sft.vram_gib * GIB if sft.use_gpu else float("inf")
    keep: list[Keep] = []
    if is_fused:
        keep = choose_keep(shape, model, sft, seq_len, limit) or [Keep.INPUT] * shape.layers
        memory = step_memory(shape, model, sft, seq_len, keep)
    else:
        memory = plain_step_memory(shape, model, sft, seq_len)
    fits = memory.total <= limit
    return Choice(model=model, sft=sft, seq_len=seq_len, keep=tuple(keep), memory=memory, fits=fits)


def flops_of(choice: Choice, shape: Shape) -> float:
    """Operations a token."""
    if choice.keep:
        return fused_flops(shape, choice.sft.lora_r, choice.keep)
    return plain_flops(shape, choice.sft, choice.seq_len)


def set_options(profile: Profile, choice: Choice) -> str:
    """The `--set` options that turn the profile into the choice."""
    before = {"model": profile.model, "sft": profile.sft}
    found = [
        f"--set {part}.{key}={f'{value:g}' if isinstance(value, float) else value}"
        for part, settings in (("model", choice.model), ("sft", choice.sft))
        for key, value in settings.model_dump().items()
        if value != getattr(before[part], key)
    ]
    if choice.seq_len != profile.corpus.seq_len:
        found.append(f"--set corpus.seq_len={choice.seq_len}")
    return " ".join(found)
