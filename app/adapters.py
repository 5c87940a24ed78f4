"""LoRA adapters on their base model, for the engines: does one fit, and the two merged.

Whether it fits is decided from the headers of the safetensors files before anything loads. Limits: LoRA weights
(`lora_A`, `lora_B`) are compared with the base's linear layers; what else an adapter may hold is left to PEFT.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.errors import UserError
from app.models import load_model
from app.settings import ModelSettings

if TYPE_CHECKING:
    import torch

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


def check_adapter(adapter: Path, base: Path) -> None:
    """Raise UserError unless `adapter` is a PEFT folder whose LoRA layers fit those of the model folder `base`."""
    if not (adapter / "adapter_config.json").is_file():
        raise UserError(f"adapter {str(adapter)!r} is no PEFT folder: it has no adapter_config.json")
    if not (adapter / WEIGHTS).is_file():
        raise UserError(f"adapter {str(adapter)!r} has no {WEIGHTS}: save it as safetensors, pickles are not read")
    layers: dict[str, list[int]] = {}  # module -> [out, in]
    ranks: dict[str, set[int]] = {}
    for name, shape in _shapes(adapter / WEIGHTS).items():
        module, _, matrix = name.removeprefix("base_model.model.").partition(".lora_")
        if matrix in ("A.weight", "B.weight") and len(shape) == 2:
            layers.setdefault(module, [0, 0])[matrix == "A.weight"] = shape[matrix == "A.weight"]
            ranks.setdefault(module, set()).add(shape[matrix == "B.weight"])
    if not layers:
        raise UserError(f"adapter {str(adapter)!r} holds no LoRA weights: adapters of another kind are not supported")
    there = {name: shape for file in sorted(base.glob("*.safetensors")) for name, shape in _shapes(file).items()}
    made_for = _made_for(adapter / "adapter_config.json")
    for module, size in layers.items():
        if len(ranks[module]) > 1:
            raise UserError(
                f"adapter {str(adapter)!r} is damaged: {module} has two ranks, {ranks[module]}: save it again"
            )
        wanted = _base_size(module, there)
        if sorted(size) != sorted(wanted):  # sorted: a Conv1D layer stores its weight the other way round
            raise UserError(
                f"adapter {str(adapter)!r} was made for another base model ({made_for}) than {base}: its layer "
                f"{module} is {_words(size)}, the base's {_words(wanted)}: choose the adapter's own base with "
                "--set model.name=..., or an adapter of this one"
            )


def load_merged(folder: Path, settings: ModelSettings, device: "torch.device", adapter: str) -> Any:
    """The base model of `folder`, with the adapter merged into its weights where one is given, ready to be asked."""
    model = load_model(folder, settings, device)
    if adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    return model.eval()


def _made_for(config: Path) -> str | None:
    try:
        return json.loads(config.read_text())["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{config} is no PEFT configuration ({type(error).__name__}: {error}): save it again") from None


def _shapes(file: Path) -> dict[str, list[int]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as tensors:
            return {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"{file} can't be read ({error}): fetch or save it again") from None


def _words(size: list[int]) -> str:
    return " x ".join(map(str, size)) or "missing"


def _base_size(module: str, there: dict[str, list[int]]) -> list[int]:
    """Size of the base's weight of that module; [] if it has none. Some checkpoints leave the first name out."""
    names = [f"{module}.weight", f"{module.partition('.')[2]}.weight"]
    if module == "lm_head":  # tied to the embedding, it is not stored
        names.append("model.embed_tokens.weight")
    return next((there[name] for name in names if name in there), [])
