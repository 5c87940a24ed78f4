"""A model's hyper-parameters and the names of its tensors, in a GGUF: what `app.models.gguf_layout` reads back.

Families: Qwen2, Qwen3, Llama. What a GGUF has no place for (windows of attention, biases that the family has not,
other rules for long texts) is refused, because llama.cpp would compute another model.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from app.errors import UserError
from app.models.gguf_layout import CLASSES, LLAMA3, ROPE_FREQS

PLAIN_ROPE = {"rope_type", "rope_theta", "factor", "original_max_position_embeddings"}
"""What a GGUF says of positions, and `LLAMA3`'s keys by a tensor."""


def check_family(config: Any) -> str:
    """The family. Raises UserError for a model that no GGUF of these families can hold."""
    family = config.model_type
    if family not in CLASSES:
        raise UserError(
            f"the base model is of the architecture {family!r}, and a GGUF is written of {', '.join(CLASSES)}: "
            "--merged writes it as safetensors"
        )
    layers = getattr(config, "layer_types", None) or []
    strange = {
        f"hidden_act={config.hidden_act!r}": config.hidden_act != "silu",
        "attention_bias": family != "qwen2" and getattr(config, "attention_bias", False),
        "mlp_bias": getattr(config, "mlp_bias", False),
        "sliding windows of attention": any(kind != "full_attention" for kind in layers),
    }
    if found := [what for what, is_there in strange.items() if is_there]:
        raise UserError(
            f"the base model has {found[0]}, for which a {family} GGUF has no place: --merged writes it as safetensors"
        )
    return str(family)


def hyper_parameters(config: Any) -> dict[str, int | float | str]:
    """By key of the metadata. Raises UserError as `check_family` does, and for an unknown rule of positions."""
    family, head = check_family(config), head_size(config)
    found: dict[str, int | float | str] = {
        "vocab_size": config.vocab_size,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": head,
        "attention.value_length": head,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "rope.dimension_count": head,
    }
    return {f"{family}.{key}": value for key, value in (found | _rope(config)).items()}


def head_size(config: Any) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def _rope(config: Any) -> dict[str, int | float | str]:
    rope = config.rope_parameters
    rule = rope.get("rope_type", "default")
    known = PLAIN_ROPE | (LLAMA3.keys() if rule == "llama3" else set())
    more = [f"{key}={value}" for key, value in rope.items() if key not in known and value is not None]
    if rule not in ("default", "linear", "yarn", "llama3") or more:
        raise UserError(
            f"the base model stretches positions by {', '.join([repr(rule), *more])}, which a GGUF can't say: --merged "
            "writes it as safetensors"
        )
    found: dict[str, int | float | str] = {"rope.freq_base": float(rope["rope_theta"])}
    if rule in ("linear", "yarn"):
        found |= {"rope.scaling.type": rule, "rope.scaling.factor": float(rope["factor"])}
    if rule == "yarn":
        found["rope.scaling.original_context_length"] = rope["original_max_position_embeddings"]
    return found


def rope_factors(config: Any) -> Mapping[str, np.ndarray]:
    """The tensor that tells how Llama 3 slows down each frequency, [head / 2]; nothing for other models."""
    rope, head = config.rope_parameters, head_size(config)
    if rope.get("rope_type") != "llama3":
        return {}
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    turns = rope["original_max_position_embeddings"] * rope["rope_theta"] ** (-np.arange(0, head, 2) / head) / math.tau
    share = np.clip((turns - low) / (high - low), 0, 1)
    return {ROPE_FREQS: (1 / ((1 - share) / rope["factor"] + share)).astype(np.float32)}


def gguf_names(config: Any, names: list[str]) -> dict[str, str]:
    """GGUF's name of each tensor of the model, a tied head left out. Raises UserError for one that has no place."""
    from gguf import get_tensor_name_map
    from gguf.constants import MODEL_ARCH

    table = get_tensor_name_map(MODEL_ARCH[check_family(config).upper()], config.num_hidden_layers)
    found = {}
    for name in names:
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        place = table.get_name(name, try_suffixes=(".weight", ".bias"))
        if place is None:
            raise UserError(
                f"the model has a tensor {name}, for which a {config.model_type} GGUF has no place: --merged writes it "
                "as safetensors"
            )
        found[name] = place
    return found


def in_ggml_order(name: str, values: np.ndarray, config: Any) -> np.ndarray:
    """Rows of Llama's queries and keys lie in pairs, one of each half of a head; others as they do in torch."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2], 0)
    if config.model_type != "llama" or not heads:
        return values
    halves = values.reshape(heads, 2, -1, values.shape[-1])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)
