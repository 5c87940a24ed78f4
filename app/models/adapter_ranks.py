"""A LoRA adapter at another rank: cut by singular values, or grown so that it does the same.

`python -m app truncate --adapter DIR --rank R` writes the adapter of rank R nearest to what DIR adds to each weight.
PEFT owns names and file format; the scale, lora_alpha / r, is another at another rank, which B makes up for. For an
adapter that is to be trained on, lora_alpha can go with the rank instead (`same_scale`). How much a cut costs is in
docs/training.md: from rank 8 on less than training ranks nested.
"""

import json
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.errors import UserError
from app.files.json_files import write_atomic
from app.models.adapters import CONFIG, WEIGHTS, lora_modules

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_RANK = 256
"""To which an adapter grows: `sft.lora_r` and `serving.max_lora_rank` end there."""


def truncate_command(adapter: Path, rank: int, out: Path | None) -> str:
    """Write the adapter at another rank, by default beside it as NAME-rRANK. Returns the line that says what was made.

    Raises UserError for an adapter that is not plain LoRA, for a rank that is below 1, above LARGEST_RANK or the
    adapter's own, and for a place that is taken.
    """
    if rank < 1:
        raise UserError(f"--rank {rank} leaves nothing of an adapter: give 1 or more")
    adapter = adapter.resolve()
    before = int(plain_lora(adapter)["r"])
    target = (out or adapter.with_name(f"{adapter.name}-r{rank}")).resolve()
    if target.exists():
        raise UserError(f"{target} is there already: remove it, or give another --out DIR")
    if rank == before:
        raise UserError(f"the adapter {adapter} has rank {rank} already: give a lower --rank")
    if rank > before:
        grow(adapter, target, rank)
        _tell(target, before, rank)
        return f"rank {rank} is more than the adapter's {before}, so it was filled up and does the same: {target}"
    error = svd_truncate(adapter, target, rank)
    _tell(target, before, rank)
    return f"adapter of rank {rank} from {before}, {error:.2%} off what the whole one adds (Frobenius norm): {target}"


def _tell(adapter: Path, before: int, rank: int) -> None:
    """Say on the card, which was copied with all that travels with the weights, that they are others now."""
    card = adapter / "README.md"
    if card.exists():
        text = card.read_text(encoding="utf-8")
        write_atomic(card, f"{text}\nThis copy was taken from rank {before} to rank {rank}.\n")


def svd_truncate(source: Path, target: Path, rank: int, *, same_scale: bool = False) -> float:
    """Write the adapter of `rank` nearest to what `source` adds to each weight, scale and all, in the Frobenius norm
    (Eckart and Young, 1936). Returns the distance, over all weights, as a share of the norm of what `source` adds.

    B A [out, in] is never made: of B = Q R and A^T = P S the r x r core R S^T has its singular values. They all go into
    B; rows of A are as long as those of `source` are on the average, so that a rank whose singular value is 0 can still
    learn. same_scale: lora_alpha / r stays instead of lora_alpha. Raises UserError for a rank that the adapter has not.
    """
    import torch
    from torch.nn import functional

    config, tensors = read_adapter(source)
    before = config["r"]
    check_cut(source, before, rank)
    config, factor = _at_rank(config, rank, same_scale=same_scale)
    found, left_out, whole = {}, 0.0, 0.0
    for name_a in [name for name in tensors if ".lora_A." in name]:
        name_b = name_a.replace(".lora_A.", ".lora_B.")
        q, r = torch.linalg.qr(tensors[name_b].double())
        p, s = torch.linalg.qr(tensors[name_a].double().t())
        left, values, right = torch.linalg.svd(r @ s.t(), full_matrices=False)
        length = float(s.norm()) / math.sqrt(before) or 1.0  # A and S have the same norm
        b = (q @ left[:, :rank]) * values[:rank] * (factor / length)
        a = (right[:rank] @ p.t()) * length
        missing = rank - len(a)  # a weight narrower than the rank has no more singular values
        found[name_b] = functional.pad(b, (0, missing)).to(tensors[name_b].dtype).contiguous()
        found[name_a] = functional.pad(a, (0, 0, 0, missing)).to(tensors[name_a].dtype).contiguous()
        left_out, whole = left_out + float(values[rank:].square().sum()), whole + float(values.square().sum())
    write_adapter(source, target, config, found)
    return math.sqrt(left_out / whole) if whole else 0.0


def grow(source: Path, target: Path, rank: int, seed: int = 0, *, same_scale: bool = False) -> None:
    """Write an adapter of a higher rank that does the same: new rows of A at random, new columns of B zero.

    same_scale: lora_alpha / r stays instead of lora_alpha, so that B does too. Raises UserError for a rank below the
    adapter's or above LARGEST_RANK.
    """
    import torch

    config, tensors = read_adapter(source)
    before = config["r"]
    if not before <= rank <= LARGEST_RANK:
        raise UserError(f"the adapter {source} has rank {before}, so it can't grow to {rank}: {LARGEST_RANK} at most")
    config, factor = _at_rank(config, rank, same_scale=same_scale)
    random = torch.Generator().manual_seed(seed)
    found = {}
    for name in sorted(tensors):
        tensor = tensors[name]
        if ".lora_A." in name:
            bound = 1 / math.sqrt(tensor.shape[1])  # as PEFT draws them
            new = torch.empty(rank - before, tensor.shape[1]).uniform_(-bound, bound, generator=random)
            found[name] = torch.cat([tensor, new.to(tensor.dtype)])
        else:
            new = torch.zeros(len(tensor), rank - before, dtype=tensor.dtype)
            found[name] = torch.cat([tensor * factor, new], 1)
    write_adapter(source, target, config, found)


def _at_rank(config: dict[str, Any], rank: int, *, same_scale: bool) -> tuple[dict[str, Any], float]:
    """PEFT's configuration at another rank, and what B has to be multiplied by there."""
    before = config["r"]
    if not same_scale:  # trained at alpha / before, read by PEFT at alpha / rank
        return config | {"r": rank}, rank / before
    alpha = config["lora_alpha"] * rank / before
    return config | {"r": rank, "lora_alpha": int(alpha) if alpha == int(alpha) else alpha}, 1.0


def check_cut(source: Path, before: int, rank: int) -> None:
    if not 1 <= rank <= before:
        raise UserError(f"the adapter {source} has rank {before}, so it can't be cut to {rank}: take 1 to {before}")


def read_adapter(folder: Path) -> tuple[dict[str, Any], dict[str, "Tensor"]]:
    """PEFT's configuration, and the tensors by name. Raises UserError unless the adapter is plain LoRA."""
    from safetensors.torch import load_file

    return plain_lora(folder), load_file(folder / WEIGHTS)


def plain_lora(folder: Path) -> dict[str, Any]:
    """PEFT's configuration, checked by the tensors' shapes alone. Raises UserError unless the adapter is LoRA of linear
    layers with one scale and one rank."""
    config, modules = lora_modules(folder)
    if config.get("use_rslora") or config.get("rank_pattern") or config.get("alpha_pattern"):
        raise UserError(f"the adapter {folder} has scales of its own (use_rslora or patterns): only plain LoRA is cut")
    for module, kinds in modules.items():
        shapes = [kinds.get(f"lora_{side}.weight", []) for side in "AB"]
        if len(kinds) != 2 or [len(shape) for shape in shapes] != [2, 2]:
            raise UserError(f"the adapter {folder} holds more than LoRA of linear layers in {module}: it can't be cut")
        if {shapes[0][0], shapes[1][1]} != {config.get("r")}:
            raise UserError(
                f"the adapter {folder} is damaged: {module} has not the rank {config.get('r')}: save it again"
            )
    return config


def write_adapter(source: Path, target: Path, config: dict[str, Any], tensors: dict[str, "Tensor"]) -> None:
    """A copy of `source` with these weights, written beside its place and renamed."""
    from safetensors.torch import save_file

    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(source, temporary)
    save_file(tensors, temporary / WEIGHTS, metadata={"format": "pt"})
    (temporary / CONFIG).write_text(json.dumps(config, indent=2))
    temporary.rename(target)
