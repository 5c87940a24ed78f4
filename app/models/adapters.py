"""LoRA adapters on their base model, for the engines: does one fit, and the two merged.

Whether it fits is decided from the headers of the safetensors files before anything loads. Every tensor of an adapter
is looked at, whatever its configuration says: LoRA pairs and whole weights are compared with the base's, and what would
be merged into another model than the one that was trained is refused, above all what changes a weight that the base
uses twice, as its embedding and as its head (huggingface/peft#2018).
"""

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.errors import UserError
from app.files.json_files import read_json
from app.models.base import load_model
from app.settings import ModelSettings

if TYPE_CHECKING:
    import torch

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
PREFIX = "base_model.model."
_PARTS = re.compile(
    r"(?P<module>.+?)\.(?P<kind>lora_A\.weight|lora_B\.weight|lora_A\.bias|lora_B\.bias|lora_embedding_A|lora_embedding_B"
    r"|lora_magnitude_vector(?:\.weight)?|token_adapter\.trainable_tokens_delta|(?:base_layer\.)?(?:weight|bias))"
)
_PAIRS = {"lora_A.weight": "A", "lora_B.weight": "B", "lora_embedding_A": "A", "lora_embedding_B": "B"}
_BIASES = {"bias", "base_layer.bias", "lora_B.bias"}
_TOKENS = "token_adapter.trainable_tokens_delta"
Shape = list[int]


def check_adapter(adapter: Path, base: Path) -> None:
    """Raise UserError unless `adapter` is a PEFT folder that can be merged into the model folder `base`."""
    config, modules = lora_modules(adapter)
    if config.get("alora_invocation_tokens"):
        raise UserError(
            f"adapter {str(adapter)!r} works behind its invocation tokens only (alora_invocation_tokens), so it can't "
            "be merged: train a plain LoRA adapter"
        )
    there = {name: shape for file in sorted(base.glob("*.safetensors")) for name, shape in tensor_shapes(file).items()}
    shared = _shared_size(base)
    for module, kinds in modules.items():
        wanted = _base_size(module, there)
        _check_shared(adapter, module, kinds, is_shared=shared in wanted, is_stored=f"{module}.weight" in there)
        _check_sizes(adapter, module, kinds, wanted, f"({config['base_model_name_or_path']}) than {base}")
        if kinds.keys() & _BIASES and f"{module}.bias" not in there:
            raise UserError(
                f"adapter {str(adapter)!r} has a bias for {module}, where the base has none to merge it into: train it "
                "without (bias='none', lora_bias=False)"
            )


def adapter_version(adapter: str) -> tuple[str, tuple[int, ...]]:
    """The folder and the state of its two files: another value after any change of what it holds."""
    files = [Path(adapter, name) for name in (CONFIG, WEIGHTS)] if adapter else []
    states = [file.stat() for file in files if file.is_file()]
    return adapter, tuple(part for state in states for part in (state.st_ino, state.st_size, state.st_mtime_ns))


def check_rank(adapter: Path, largest: int, setting: str) -> None:
    """Raise UserError for an adapter of a higher rank than an engine was started for, by `setting`."""
    config = _config(adapter)
    rank = max([config["r"], *config.get("rank_pattern", {}).values()])
    if rank > largest:
        raise UserError(
            f"adapter {str(adapter)!r} has rank {rank}, and this engine takes {largest}: raise {setting}, or truncate "
            "the adapter"
        )


def lora_modules(adapter: Path) -> tuple[dict[str, Any], dict[str, dict[str, Shape]]]:
    """An adapter's configuration, and the shapes of its tensors by module and kind ("lora_A.weight").

    Raises UserError unless it is a PEFT folder of LoRA weights in safetensors.
    """
    if not (adapter / CONFIG).is_file():
        raise UserError(f"adapter {str(adapter)!r} is no PEFT folder: it has no {CONFIG}")
    if not (adapter / WEIGHTS).is_file():
        raise UserError(f"adapter {str(adapter)!r} has no {WEIGHTS}: save it as safetensors, pickles are not read")
    config = _config(adapter)
    modules = _modules(adapter)
    if not any(_PAIRS.keys() & kinds.keys() for kinds in modules.values()):
        raise UserError(f"adapter {str(adapter)!r} holds no LoRA weights: adapters of another kind are not supported")
    return config, modules


def check_servable(adapter: Path) -> None:
    """Raise UserError for an adapter that can't be applied beside its base, as vLLM does on a card and in the server.

    That is one with more than LoRA pairs of linear layers.
    """
    for module, kinds in _modules(adapter).items():
        if others := sorted(kinds.keys() - {"lora_A.weight", "lora_B.weight"}):
            raise UserError(
                f"adapter {str(adapter)!r} holds {module}.{others[0]}, which can't be served beside the base: train a "
                "LoRA adapter of linear layers alone, or serve the merged model"
            )


def load_merged(folder: Path, settings: ModelSettings, device: "torch.device", adapter: str) -> Any:
    """The base model of `folder`, with the adapter merged into its weights where one is given, ready to be asked."""
    model = load_model(folder, settings, device)
    if adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    return model.eval()


def _config(adapter: Path) -> dict[str, Any]:
    file = adapter / CONFIG
    try:
        config = json.loads(file.read_text())
        config["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is no PEFT configuration ({type(error).__name__}: {error}): save it again") from None
    return config


def _modules(adapter: Path) -> dict[str, dict[str, Shape]]:
    """Shapes of an adapter's tensors by module and kind."""
    modules: dict[str, dict[str, Shape]] = defaultdict(dict)
    for name, shape in tensor_shapes(adapter / WEIGHTS).items():
        parts = _PARTS.fullmatch(name.removeprefix(PREFIX))
        if parts is None:
            raise UserError(
                f"adapter {str(adapter)!r} holds {name}, which is no part of a LoRA adapter: adapters of another kind "
                "are not supported"
            )
        modules[parts["module"]][parts["kind"]] = shape
    return modules


def _shared_size(base: Path) -> int | None:
    """Rows of the weight that is both embedding and head; None for a base whose head is its own."""
    told = read_json(base / "config.json")
    is_flat = not any(isinstance(value, dict) for key, value in told.items() if key.endswith(("_config", "coder")))
    if is_flat and {"tie_word_embeddings", "vocab_size"} <= told.keys():
        return told["vocab_size"] if told["tie_word_embeddings"] else None
    from transformers import AutoConfig  # knows what the file leaves out; it loads every model's class, for seconds

    config = AutoConfig.from_pretrained(base)
    text = config.get_text_config(decoder=True)
    return text.vocab_size if config.tie_word_embeddings or text.tie_word_embeddings else None


def _check_shared(adapter: Path, module: str, kinds: dict[str, Shape], *, is_shared: bool, is_stored: bool) -> None:
    """What changes a weight that is used twice changed it in one of its uses when it was trained. PEFT itself puts new
    rows for single tokens into both."""
    if is_shared and not (is_stored and kinds.keys() == {_TOKENS}):
        raise UserError(
            f"adapter {str(adapter)!r} changes {module}, a weight that its base uses twice, for embedding and head "
            "(tie_word_embeddings), so that merged it would be another model: train it without lm_head and embed_tokens"
        )


def _check_sizes(adapter: Path, module: str, kinds: dict[str, Shape], wanted: Shape, bases: str) -> None:
    """bases: the adapter's and this one, for the sentence."""
    pair = {_PAIRS[kind]: shape for kind, shape in kinds.items() if kind in _PAIRS}
    found = [kinds[kind] for kind in ("weight", "base_layer.weight") if kind in kinds]
    if pair:
        if any(len(shape) != 2 for shape in pair.values()) or pair.keys() != {"A", "B"}:
            raise UserError(f"adapter {str(adapter)!r} is damaged: {module} has no pair of matrices: save it again")
        ranks = {pair["A"][0], pair["B"][1]}
        if len(ranks) > 1:
            raise UserError(f"adapter {str(adapter)!r} is damaged: {module} has two ranks, {ranks}: save it again")
        found.append([pair["B"][0], pair["A"][1]])
    if not wanted and not found:
        found = [[]]
    for size in found:
        if sorted(size) != sorted(wanted) or not wanted:  # sorted: a Conv1D layer stores its weight the other way round
            raise UserError(
                f"adapter {str(adapter)!r} was made for another base model {bases}: its layer {module} is "
                f"{_words(size)}, the base's {_words(wanted)}: choose the adapter's own base with "
                "--set model.name=..., or an adapter of this one"
            )


def tensor_shapes(file: Path) -> dict[str, Shape]:
    """By name, out of the header of a safetensors file. Raises UserError for a file that is none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as tensors:  # only the header is read, for which torch isn't loaded
            return {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"{file} can't be read ({error}): fetch or save it again") from None


def _words(size: Shape) -> str:
    return " x ".join(map(str, size)) or "missing"


def _base_size(module: str, there: dict[str, Shape]) -> Shape:
    """Size of the base's weight of that module; [] if it has none. Some checkpoints leave the first name out."""
    names = [f"{module}.weight", f"{module.partition('.')[2]}.weight"]
    if module == "lm_head":  # tied to the embedding, it is not stored
        names.append("model.embed_tokens.weight")
    return next((there[name] for name in names if name in there), [])
