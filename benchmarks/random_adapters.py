"""LoRA adapters with random weights for all linear layers of a model, for tests of speed and of what gets mixed up."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

SHARE = 0.05
"""Standard deviation of what an adapter adds to a layer's output, for inputs of size 1: it changes what is said, and
leaves it language."""


def make_adapters(base: Path, folder: Path, ranks: Sequence[int]) -> dict[str, Path]:
    """Folders by name ("a8", "b16", ...), as PEFT saves them."""
    from peft import LoraConfig
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(base)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    head = model.get_output_embeddings()
    layers = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and m is not head}
    kinds = sorted({name.rpartition(".")[2] for name in layers})
    made = {}
    for number, rank in enumerate(ranks):
        draw = torch.Generator().manual_seed(number)
        tensors = {}
        for name, layer in layers.items():
            first = torch.randn(rank, layer.in_features, generator=draw) / math.sqrt(layer.in_features)
            second = torch.randn(layer.out_features, rank, generator=draw) * SHARE / (2 * math.sqrt(rank))
            tensors[f"base_model.model.{name}.lora_A.weight"] = first
            tensors[f"base_model.model.{name}.lora_B.weight"] = second
        made_in = folder / f"{chr(ord('a') + number)}{rank}"
        made_in.mkdir(parents=True, exist_ok=True)
        save_file(tensors, made_in / "adapter_model.safetensors")
        settings = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=kinds, task_type="CAUSAL_LM")
        settings.base_model_name_or_path = str(base)
        settings.save_pretrained(made_in)
        made[made_in.name] = made_in
    return made
