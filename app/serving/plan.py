"""What serving takes of the machine, from the model's config alone; it decides max_model_len.

The card's share is weights, adapters, working memory and what is left for the key-value cache. Sizes are counted on a
model without memory (torch's meta device), so nothing is downloaded or loaded for them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import UserError
from app.files.user_files import user_path
from app.models.sizes import BYTES, GIB, NF4_BYTES
from app.settings import ModelSettings, ServingSettings

WORKING_GIB = 1.0
"""What a card holds beside: CUDA context, graphs, activations of a step, logits of its rows. Assumed, not measured on
8 GiB."""
BLOCK = 128
"""Tokens: a multiple of every block size that vLLM takes by itself."""
MIN_MODEL_LEN = 512
"""With less an assistant for code is of no use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingPlan:
    """What serving takes of a card. Made by `plan_serving`; read by the engine. Example: 4.7 GiB of cache are 44,000
    tokens of Qwen3-1.7B."""

    weights_gib: float
    adapters_gib: float
    working_gib: float
    cache_gib: float
    cache_tokens: int
    max_model_len: int

    def __str__(self) -> str:
        return (
            f"weights {self.weights_gib:.2f} GiB, adapters {self.adapters_gib:.2f}, working memory "
            f"{self.working_gib:.2f}, cache {self.cache_gib:.2f} for {self.cache_tokens:,} tokens; prompt "
            f"and answer may have {self.max_model_len:,}"
        )


@dataclass(frozen=True, slots=True)
class Sizes:
    linear: int
    """Parameters of linear layers that a 4-bit format packs: all but embeddings and the head."""
    others: int
    linear_sides: int
    """Inputs and outputs of those layers added up: times the rank, the parameters of an adapter on all of them."""
    cache_per_token: int
    """Numbers a token leaves in the key-value cache."""
    positions: int


def plan_serving(folder: Path, model: ModelSettings, settings: ServingSettings) -> ServingPlan:
    """The plan of the model in a folder. Raises UserError when the memory holds no useful cache."""
    from transformers import AutoConfig

    plan = plan_of(AutoConfig.from_pretrained(folder), model, settings)
    if plan.cache_tokens < MIN_MODEL_LEN:
        raise UserError(
            f"no room is left to serve {model.name} ({plan}): raise serving.vram_gib or serving.kv_cache_bytes, or "
            "take serving.weights=bitsandbytes, fewer serving.max_loras, or a smaller model"
        )
    return plan


def plan_of(config: Any, model: ModelSettings, settings: ServingSettings) -> ServingPlan:
    """The plan of the model that transformers' config describes, whether it is of use or not."""
    sizes, width = sizes_of(config), BYTES[model.dtype]
    linear_width = {"plain": width, "bitsandbytes": NF4_BYTES, "checkpoint": NF4_BYTES}[settings.weights]
    weights = (sizes.linear * linear_width + sizes.others * width) / GIB
    per_token = sizes.cache_per_token * width
    if settings.speculation == "draft_model":
        draft_gib, draft_per_token = _draft_model(settings.draft_model, sizes.cache_per_token)
        weights, per_token = weights + draft_gib, per_token + draft_per_token * width
    adapters = settings.max_loras * settings.max_lora_rank * sizes.linear_sides * width / GIB
    working = WORKING_GIB if settings.use_gpu else 0.0
    cache = settings.kv_cache_bytes / GIB
    if settings.use_gpu:
        cache = settings.vram_gib * settings.gpu_memory_utilization - weights - adapters - working
    tokens = max(0, int(cache * GIB / (per_token * BLOCK)) - 1) * BLOCK  # vLLM keeps one block back
    return ServingPlan(
        weights_gib=weights,
        adapters_gib=adapters,
        working_gib=working,
        cache_gib=cache,
        cache_tokens=tokens,
        max_model_len=min(settings.max_model_len, sizes.positions, tokens),
    )


def sizes_of(config: Any) -> Sizes:
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    head = model.get_output_embeddings()
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    linear = sum(layer.weight.numel() for layer in layers)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Sizes(
        linear=linear,
        others=sum(weight.numel() for weight in model.parameters()) - linear,
        linear_sides=sum(layer.in_features + layer.out_features for layer in layers),
        cache_per_token=2 * config.num_hidden_layers * config.num_key_value_heads * head_dim,
        positions=config.max_position_embeddings,
    )


def _draft_model(name: str, targets: int) -> tuple[float, int]:
    """GiB of a draft model's weights, and numbers that a token leaves in its cache. One that is still to come from the
    Hub is taken for 1 GiB with the cache of the target, which Qwen3-0.6B's is for Qwen3-1.7B."""
    from transformers import AutoConfig

    folder = user_path(name)
    if not folder.is_dir():
        return 1.0, targets
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return size / GIB, sizes_of(AutoConfig.from_pretrained(folder)).cache_per_token
