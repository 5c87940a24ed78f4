"""Base and adapter as one model in float32, and the folder that transformers and vLLM load.

What is merged into what: the adapter into the base's weights as they are stored (bfloat16 on the Hub), taken to float32
without loss. So it is served and validated too. Of a run that trained over NF4 it is not the 4-bit copy of the base.

A weight of a bfloat16 base lies on bfloat16's grid, so an adapter that moves it by less than half a step is lost where
the sum is rounded back to bfloat16. Therefore weights are stored in float32 unless asked otherwise, and `share_kept`
tells what another type leaves of the adapter.
"""

import functools
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.errors import UserError
from app.files.json_files import read_json, write_json
from app.models.adapters import check_adapter
from app.models.base import load_model
from app.progress import say
from app.settings import ModelSettings

if TYPE_CHECKING:
    import torch

TOLERANCE = 1e-3
"""By how much a log-probability of the merged model may differ from that of base and adapter side by side, both in
float32. Measured: 1e-5 to 1e-4 (docs/export.md)."""
PROBE = "def mean(values: list[float]) -> float:\n    return sum(values) / len(values)\n\n\nclass Node:\n    pass\n"
"""What both are asked to tell it."""
SHARD = "2GB"
CONFIG = "config.json"
BESIDE_WEIGHTS = (
    "tokenizer*", "vocab.*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "chat_template*",
    "additional_chat_templates", "generation_config.json", "*.model",
)  # fmt: skip
"""Files of a model folder that go with the weights."""


def merged_model(base: Path, settings: ModelSettings, adapter: Path | None, tokenizer: Any) -> tuple[Any, float]:
    """The model in float32 on the CPU, and by how much its log-probabilities differ at most from the adapter's over
    PROBE; 0.0 without an adapter.

    Raises UserError for an adapter that does not fit the base, or with numbers that are not finite; and where the
    difference is over TOLERANCE.
    """
    import torch

    plain = settings.model_copy(update={"dtype": "float32", "quantization": "none"})
    model, differs = None, 0.0
    if adapter is None:
        model = load_model(base, plain, torch.device("cpu")).eval()
    else:
        from peft import PeftModel

        check_adapter(adapter, base)
        beside = PeftModel.from_pretrained(load_model(base, plain, torch.device("cpu")), str(adapter)).eval()
        apart = _log_probabilities(beside, tokenizer)
        model = beside.merge_and_unload().eval()
        differs = float((_log_probabilities(model, tokenizer) - apart).abs().max())
    for name, weight in model.named_parameters():
        if not bool(torch.isfinite(weight).all()):
            raise UserError(f"{adapter or base} makes {name} numbers that are not finite: train or fetch it again")
    if not differs <= TOLERANCE:
        raise UserError(
            f"the adapter {adapter} merged differs by {differs:.2g} nats from itself beside its base, more than "
            f"{TOLERANCE:g}: serve it as an adapter"
        )
    return model, differs


def _log_probabilities(model: Any, tokenizer: Any) -> "torch.Tensor":
    """[tokens of PROBE, vocabulary]"""
    import torch

    ids = torch.tensor([tokenizer(PROBE, add_special_tokens=False).input_ids])
    with torch.inference_mode():
        return model(ids).logits[0].float().log_softmax(-1)


def write_merged(model: Any, base: Path, folder: Path, dtype: str) -> None:
    """Write weights, config and tokenizer, for transformers 4 too. Changes the model's own dtype."""
    import torch

    say(f"  merged weights in {dtype}")
    model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size=SHARD)
    for pattern in BESIDE_WEIGHTS:
        for path in base.glob(pattern):
            if path.is_dir():
                shutil.copytree(path, folder / path.name, dirs_exist_ok=True)
            else:
                shutil.copyfile(path, folder / path.name)
    _in_older_words(folder)


def _in_older_words(folder: Path) -> None:
    """Name the positions' base and the tokenizer's class as transformers 4 does too.

    Without these names that takes positions by a base of 10,000 and says nothing of it, and refuses the tokenizer.
    Version 5 reads the same out of either.
    """
    config = read_json(folder / CONFIG)
    rope = dict(config.get("rope_parameters") or {})
    if "rope_theta" in rope:
        config["rope_theta"] = rope.pop("rope_theta")
        if rope.get("rope_type", "default") != "default":
            config["rope_scaling"] = rope
        write_json(folder / CONFIG, config)
    named = folder / "tokenizer_config.json"
    if named.exists() and (held := read_json(named)).get("tokenizer_class") == "TokenizersBackend":
        write_json(named, held | {"tokenizer_class": "PreTrainedTokenizerFast"})


def share_kept(dtype: str, model: Any, base: Path) -> float | None:
    """Which part of what the adapter adds is still there when weights are stored in this dtype of torch's; None where
    nothing was changed.

    Over all numbers, (r(W + D) - r(W)) . D / (D . D), where W is the base, D what the adapter adds and r the rounding.
    """
    import torch

    stored, kind = dict(_stored(base)), getattr(torch, dtype)
    left = whole = 0.0
    state: Mapping[str, torch.Tensor] = model.state_dict()
    for name, merged in state.items():
        if name not in stored or torch.equal(merged, before := stored[name]().float()):
            continue
        change = (merged - before).flatten()
        left += float((merged.to(kind).float() - before.to(kind).float()).flatten() @ change)
        whole += float(change @ change)
    return left / whole if whole else None


def _stored(base: Path) -> Iterator[tuple[str, Callable[[], "torch.Tensor"]]]:
    """What reads each weight of the folder, by name."""
    from safetensors import safe_open

    for path in sorted(base.glob("*.safetensors")):
        tensors = safe_open(path, framework="pt")
        for name in tensors.keys():  # noqa: SIM118  # it is no dict
            yield name, functools.partial(tensors.get_tensor, name)
