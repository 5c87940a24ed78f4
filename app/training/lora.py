"""LoRA adapters (arXiv 2106.09685) by PEFT: attached, saved and loaded as standard PEFT folders."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from app.settings import ModelSettings, SftSettings

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


def attach(model: "PreTrainedModel", settings: SftSettings, seed: int) -> "PeftModel":
    """Freeze the base and put an adapter of rank lora_r on every linear layer but the output head.

    The base keeps its types: PEFT's preparation of a 4-bit base makes norms and embeddings float32, which takes 0.6 GiB
    for Qwen3-1.7B. Weights that are offloaded ask for gradient checkpointing, whatever its setting says.
    """
    from peft import LoraConfig, get_peft_model  # with transformers and bitsandbytes it takes five seconds to import

    torch.manual_seed(seed)
    if settings.gradient_checkpointing or settings.offload:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    config = LoraConfig(
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def load_for_training(
    folder: Path, model: ModelSettings, settings: SftSettings, seed: int, device: torch.device
) -> "PeftModel":
    """The base in `folder` with a new adapter, on the device but for what is to stay off it."""
    from app.models.base import load_model
    from app.training import parallel
    from app.training.experimental import offload

    place = torch.device("cpu") if parallel.loads_on_host(settings) else device
    adapted = attach(load_model(folder, model, place, quantize=True), settings, seed)
    return offload.offload(adapted, device) if settings.offload else adapted


def save(model: "PeftModel", folder: Path, adapter: dict[str, torch.Tensor] | None = None) -> None:
    """A PEFT folder: adapter_config.json and adapter_model.safetensors. adapter: its weights by their names in the
    model; the model's own, if nothing is said. The same adapter gives the same bytes."""
    config = model.peft_config["default"]
    if not isinstance(config.target_modules, str | None):  # a set, whose order is another in each process
        config.target_modules = sorted(config.target_modules)
    model.save_pretrained(folder, state_dict=adapter)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card


def restore(model: "PeftModel", folder: Path) -> None:
    """Load the adapter's weights from a PEFT folder into an attached one, which has to be of the same scale."""
    from peft import LoraConfig, load_peft_weights, set_peft_model_state_dict

    saved, ours = LoraConfig.from_pretrained(str(folder)), model.peft_config["default"]
    scales = saved.lora_alpha / saved.r, ours.lora_alpha / ours.r
    assert math.isclose(*scales), f"adapter {folder} has lora_alpha / r = {scales[0]}, and this model {scales[1]}"
    outcome = set_peft_model_state_dict(model, load_peft_weights(str(folder), device="cpu"))
    assert not outcome.unexpected_keys, f"adapter {folder} has keys this model lacks: {outcome.unexpected_keys[:3]}"
