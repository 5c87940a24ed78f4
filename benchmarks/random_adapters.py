"""LoRA adapters with random weights for all linear layers of a model, for tests of speed and of what gets mixed up."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

SHARE = 0.05
"""Standard deviation of what an adapter adds to a layer's output, for inputs of size 1: it changes what is said, and
leaves it language."""


def make_adapters(base: Path, folder: Path, ranks: Sequence[int]) -> dict[str, Path]:
    """Folders by name ("a8", "b16", ...)."""
    made = {f"{chr(ord('a') + number)}{rank}": (number, rank) for number, rank in enumerate(ranks)}
    for name, (number, rank) in made.items():
        write_adapter(base, folder / name, seed=number, rank=rank)
    return {name: folder / name for name in made}


def write_adapter(base: Path, folder: Path, *, seed: int, rank: int = 16, share: float = SHARE) -> None:
    """Write one as PEFT does, which need not be there. share: what SHARE says."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base))
    head = model.get_output_embeddings()
    layers = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and m is not head}
    draw, tensors = torch.Generator().manual_seed(seed), {}
    for name, layer in layers.items():
        first = torch.randn(rank, layer.in_features, generator=draw) / math.sqrt(layer.in_features)
        second = torch.randn(layer.out_features, rank, generator=draw) * share / (2 * math.sqrt(rank))
        tensors[f"base_model.model.{name}.lora_A.weight"] = first
        tensors[f"base_model.model.{name}.lora_B.weight"] = second
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": str(base), "r": rank,
        "lora_alpha": 2 * rank, "lora_dropout": 0.0, "bias": "none", "fan_in_fan_out": False, "inference_mode": True,
        "target_modules": sorted({name.rpartition(".")[2] for name in layers}),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(config))
