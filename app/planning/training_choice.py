"""The ways to train that a plan compares: every micro-batch that leaves the effective batch as it is, with 16-bit and
with 4-bit weights, each with the most that its layers can keep under the limit of memory. Needs no torch.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from app.models.sizes import GIB
from app.overrides import with_overrides
from app.settings import ModelSettings, Profile, SftSettings
from app.training.memory import Shape, StepMemory, choose_keep, plain_step_memory, step_memory
from app.training.saved_activations import Keep, plain_by_settings

FUSED = ("llama", "qwen2", "qwen3")
"""Types of models that are known to go the fused way; of others only the model itself tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One way to train. Made by `choice_of`; read by the plan."""

    profile: Profile
    options: tuple[str, ...] = field(compare=False)
    """`key=value` texts that make it of the profile that is planned."""
    keep: tuple[Keep, ...]
    """What each layer keeps; empty where layers go the plain way."""
    memory: StepMemory
    """The least that it can do with, where it doesn't fit."""

    @property
    def fits(self) -> bool:
        """Whether it takes no more of the card than sft.vram_gib."""
        return self.memory.total <= _limit(self.profile.sft)

    def words(self) -> str:
        model = self.profile.model
        base = {"none": model.dtype, "nf4": "NF4"}[model.quantization]
        return f"{'fused' if self.keep else 'plain'} layers, {base}, micro-batch {self.profile.sft.micro_batch}"


def _limit(sft: SftSettings) -> float:
    return sft.vram_gib * GIB if sft.use_gpu else float("inf")


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


def choice_of(shape: Shape, config: Any, profile: Profile, options: tuple[str, ...] = ()) -> Choice:
    """What the profile with the options asks for."""
    profile = with_overrides(profile, options)
    model, sft, seq_len = profile.model, profile.sft, profile.corpus.seq_len
    keep: list[Keep] = []
    if goes_fused(config, model, sft):
        keep = choose_keep(shape, model, sft, seq_len, _limit(sft)) or [Keep.INPUT] * shape.layers
        memory = step_memory(shape, model, sft, seq_len, keep)
    else:
        memory = plain_step_memory(shape, model, sft, seq_len)
    return Choice(profile=profile, options=options, keep=tuple(keep), memory=memory)


def choices(shape: Shape, config: Any, profile: Profile, seq_len: int, vram_gib: float) -> Iterator[Choice]:
    """Everything that is tried with rows of this length under this limit, whether it fits or not, with dropout given up
    where that lets layers go the fused way."""
    model, sft = profile.model, profile.sft
    can_fuse = goes_fused(config, model, sft.model_copy(update={"lora_dropout": 0.0}))
    rows, dropout = sft.micro_batch * sft.grad_accumulation, 0.0 if can_fuse else sft.lora_dropout
    is_free = model.dtype == "bfloat16" and not plain_by_settings(sft)  # packed weights can't move (`Profile`)
    for base in ("none", "nf4") if is_free else (model.quantization,):
        for micro_batch in (size for size in range(1, rows + 1) if rows % size == 0):
            same = f"corpus.seq_len={seq_len}", f"sft.vram_gib={vram_gib:g}", f"sft.lora_dropout={dropout:g}"
            batch = f"sft.micro_batch={micro_batch}", f"sft.grad_accumulation={rows // micro_batch}"
            yield choice_of(shape, config, profile, (f"model.quantization={base}", *batch, *same))


def set_options(profile: Profile, choice: Choice) -> str:
    """The `--set` options of the choice that change something of the profile."""
    return " ".join(f"--set {option}" for option in choice.options if with_overrides(profile, [option]) != profile)
