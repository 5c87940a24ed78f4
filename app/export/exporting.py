"""An export from beginning to end: what is asked for is checked, made in a folder beside its place, and put there.

README.md                 the model card
adapter_*                 without --merged and --gguf: the adapter, as `peft` and vLLM load it beside the base
config.json *.safetensors tokenizer...        --merged
NAME-TYPE.gguf Modelfile                      --gguf TYPE
attribution/<stage>.csv NOTICES.txt rights.json   whose code and problems were learnt from, licence texts (`app.rights`)
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from app.errors import UserError
from app.export.card import Facts, gathered, write_card
from app.export.choice import Chosen, choose
from app.export.gguf_types import check_type, num_bytes, type_of
from app.export.place import check_room, check_target, new_folder
from app.files.json_files import read_json, write_json
from app.models.adapters import CONFIG, WEIGHTS, check_adapter, tensor_shapes
from app.models.base import ensure_model, load_tokenizer
from app.models.licences import public_name
from app.models.sizes import BYTES
from app.progress import say
from app.running.run_settings import stored_profile
from app.runs import Run
from app.settings import ModelSettings, Profile

ROUNDS = {"bfloat16": "bfloat16", "BF16": "bfloat16", "F16": "float16"}
"""Types whose grid a base may lie on, so that a small change is lost on it, by torch's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the command line asks for. Made by `app.export.command`."""

    merged: bool = False
    gguf: str | None = None
    adapter: str | None = None
    """A name of `Chosen`; None: the run's best."""
    dtype: str | None = None
    """Of merged weights; None: float32."""
    out: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is written, all checked."""

    profile: Profile
    chosen: Chosen
    base: Path
    dtype: str | None
    """Of merged safetensors; None: there are none."""
    kind: str | None
    """Type of the GGUF; None: there is none."""
    name: str
    """Of the model: Qwen3-1.7B-grm"""
    metadata: Mapping[str, Any]
    """Of the GGUF."""


def export_run(root: Path, wanted: Wanted) -> str:
    """Export a run's model. Returns the line that says what was made.

    Raises UserError for what can't be exported so, a place that is taken, and a disk without room, before any weight is
    loaded.
    """
    run, profile = Run(root.resolve()), stored_profile(root)
    if profile is None:
        raise UserError(f"{root} holds no run.json, so it is no run: give another --run")
    kind = check_type(wanted.gguf) if wanted.gguf is not None else None
    if wanted.dtype and not wanted.merged:
        raise UserError(f"--dtype {wanted.dtype} says how --merged stores weights: give it with --merged")
    chosen = choose(run, wanted.adapter)
    if chosen.adapter is None and not (wanted.merged or kind):
        raise UserError(f"{run.root} has no adapter to export ({chosen.why}): --merged or --gguf TYPE exports its base")
    dtype = (wanted.dtype or "float32") if wanted.merged else None
    target = (wanted.out or run.export / _folder_name(chosen, dtype, kind)).resolve()
    check_target(target)
    order = _checked(profile, chosen, dtype, kind)
    check_room(target, _bytes_needed(order))
    of_run = gathered(run, profile, chosen)
    say(f"exporting {chosen.name} ({chosen.why}) of {run.root}")
    with new_folder(target) as folder:
        write_card(folder, of_run, _write(folder, order))
    return f"export: {target}"


def _folder_name(chosen: Chosen, dtype: str | None, kind: str | None) -> str:
    """grm-adapter, grm-merged, grm-merged-bfloat16-Q8_0, ..."""
    merged = ["merged"] if dtype else []
    stored = [dtype] if dtype and dtype != "float32" else []
    return "-".join([chosen.name, *([*merged, *stored, *([kind] if kind else [])] or ["adapter"])])


def _checked(profile: Profile, chosen: Chosen, dtype: str | None, kind: str | None) -> Order:
    base, metadata = ensure_model(profile.model), {}
    if chosen.adapter:
        check_adapter(chosen.adapter, base)
    name = f"{public_name(profile.model).rpartition('/')[2]}-{chosen.name}"
    if kind:
        from transformers import AutoConfig

        from app.export.gguf_file import metadata_of

        metadata = metadata_of(AutoConfig.from_pretrained(base), load_tokenizer(base), name, kind)
    return Order(profile=profile, chosen=chosen, base=base, dtype=dtype, kind=kind, name=name, metadata=metadata)


def _write(folder: Path, order: Order) -> Facts:
    """Write everything but the card. Returns what it tells of it."""
    if not (order.dtype or order.kind):
        _copy_adapter(order.chosen.adapter, folder, order.profile.model)
        return Facts()
    from app.export.gguf_file import write_gguf
    from app.export.merging import merged_model, share_kept, write_merged
    from app.export.modelfile import modelfile

    tokenizer, base = load_tokenizer(order.base), order.base
    model, differs = merged_model(base, order.profile.model, order.chosen.adapter, tokenizer)
    keeps = {kind: share_kept(ROUNDS[kind], model, base) for kind in (order.dtype, order.kind) if kind in ROUNDS}
    gguf = ""
    if order.kind:
        gguf = f"{order.name}-{order.kind}.gguf"
        write_gguf(model, order.metadata, folder / gguf, order.kind)
        ends = [getattr(held, "eos_token_id", None) for held in (model.config, model.generation_config)]
        (folder / "Modelfile").write_text(modelfile(tokenizer, gguf, *ends))
    if order.dtype:
        write_merged(model, base, folder, order.dtype)
    return Facts(
        differs=differs if order.chosen.adapter else None,
        dtype=order.dtype,
        kind=order.kind,
        gguf=gguf,
        keeps={kind: share for kind, share in keeps.items() if share is not None},
    )


def _copy_adapter(adapter: Path | None, folder: Path, model: ModelSettings) -> None:
    """The adapter, with the base's public name instead of its path on this machine."""
    assert adapter
    shutil.copyfile(adapter / WEIGHTS, folder / WEIGHTS)
    write_json(folder / CONFIG, read_json(adapter / CONFIG) | {"base_model_name_or_path": public_name(model)})


def _bytes_needed(order: Order) -> int:
    """Of everything that is written; a head that is stored beside the embedding that it is counts too."""
    shapes = [tuple(shape) for file in order.base.glob("*.safetensors") for shape in tensor_shapes(file).values()]
    if order.chosen.adapter and not (order.dtype or order.kind):
        return (order.chosen.adapter / WEIGHTS).stat().st_size
    needed = sum(map(prod, shapes)) * BYTES[order.dtype] if order.dtype else 0
    return needed + sum(num_bytes(shape, type_of(shape, order.kind)) for shape in shapes if order.kind)
