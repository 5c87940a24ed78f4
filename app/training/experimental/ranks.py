"""Adapters whose rank can be switched after training: nested dropout over the rank, and folders cut or grown.

While training, each step draws a rank b of `sft.nested_ranks` and uses the first b rows of A and columns of B alone, so
that every prefix learns to do without the rest (DyLoRA, Valipour et al., arXiv 2210.07558, section 3). The scale goes
with the root of the rank (rsLoRA, arXiv 2312.03732): lora_alpha / r * sqrt(r / b), which at full rank is what the
settings say. `sft.rank_dropout` leaves out single ranks of the prefix at random, as a regulariser; what stays is
scaled up.

PEFT owns parameters and file format. `truncate`, `svd_truncate` and `grow` fold every change of scale into B, so that
what they write is an adapter like any other. Which of the two cuts keeps more is in docs/log: from rank 8 on
`svd_truncate` of an adapter that was trained plainly.
"""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from app.errors import UserError
from app.settings import SftSettings

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


class RankSwitch:
    """Factors of the ranks of all LoRA layers of a model. Made by `attach_switch`; drawn anew by the training loop."""

    def __init__(self, rank: int, nested: tuple[int, ...], dropout: float, device: torch.device) -> None:
        self.rank, self._nested, self._dropout = rank, nested or (rank,), dropout
        self.factors = torch.ones(rank, device=device)
        """Float32 [rank]; what x A^T is multiplied by."""

    def draw(self, seed: int) -> int:
        """Factors for a step, the same for the same seed. Returns the rank drawn."""
        random = torch.Generator().manual_seed(seed)
        rank = self._nested[int(torch.randint(len(self._nested), (), generator=random))]
        kept = (torch.rand(self.rank, generator=random) >= self._dropout) / (1 - self._dropout)
        self.factors.copy_(torch.where(torch.arange(self.rank) < rank, kept * math.sqrt(self.rank / rank), 0.0))
        return rank

    def scale(self, scaling: float) -> Tensor:
        """[rank]; scaling: PEFT's own."""
        return self.factors * scaling


def attach_switch(model: Any, settings: SftSettings) -> RankSwitch | None:
    """Lets a PEFT model's ranks be switched: by hooks on its A layers, by `projection` in the fused ones. None where
    the settings ask for nothing of the kind."""
    if not settings.nested_ranks and not settings.rank_dropout:
        return None
    layers = [module for module in model.modules() if hasattr(module, "lora_A") and len(module.lora_A)]
    device = next(iter(layers[0].lora_A.values())).weight.device
    switch = RankSwitch(settings.lora_r, settings.nested_ranks, settings.rank_dropout, device)
    for layer in layers:
        layer.rank_switch = switch
        for a in layer.lora_A.values():
            a.register_forward_hook(lambda module, given, low: low * switch.factors.to(low.dtype))
    return switch


def truncate(source: Path, target: Path, rank: int) -> None:
    """Writes the first `rank` ranks of a nested adapter as an adapter of its own: what was trained under that draw.

    Raises UserError for a rank that the adapter has not.
    """
    config, tensors = _read(source)
    before = config["r"]
    _check_rank(source, before, rank)
    found = {}
    for name, tensor in tensors.items():
        if ".lora_A." in name:
            found[name] = tensor[:rank].contiguous()
        else:
            # trained at alpha / before * sqrt(before / rank), read by PEFT at alpha / rank
            found[name] = (tensor[:, :rank] * math.sqrt(rank / before)).contiguous()
    _write(source, target, config | {"r": rank}, found)


def svd_truncate(source: Path, target: Path, rank: int) -> None:
    """Writes the adapter of `rank` nearest to what `source` adds to each weight, scale and all, in the Frobenius norm
    (Eckart and Young, 1936): for any adapter, trained to be cut or not.

    B A [out, in] is never made: of B = Q R and A^T = P S the r x r core R S^T has its singular values. Raises UserError
    for a rank that the adapter has not.
    """
    config, tensors = _read(source)
    before = config["r"]
    _check_rank(source, before, rank)
    found = {}
    for name_a in [name for name in tensors if ".lora_A." in name]:
        name_b = name_a.replace(".lora_A.", ".lora_B.")
        q, r = torch.linalg.qr(tensors[name_b].double())
        p, s = torch.linalg.qr(tensors[name_a].double().t())
        left, values, right = torch.linalg.svd(r @ s.t(), full_matrices=False)
        root = values[:rank].sqrt()
        # trained at alpha / before, read by PEFT at alpha / rank
        b = (q @ left[:, :rank]) * root * (rank / before)
        a = root[:, None] * (right[:rank] @ p.t())
        missing = rank - len(root)  # a weight narrower than the rank has no more singular values
        found[name_b] = functional.pad(b, (0, missing)).to(tensors[name_b].dtype).contiguous()
        found[name_a] = functional.pad(a, (0, 0, 0, missing)).to(tensors[name_a].dtype).contiguous()
    _write(source, target, config | {"r": rank}, found)


def grow(source: Path, target: Path, rank: int, seed: int = 0) -> None:
    """Writes an adapter of a higher rank that does the same: new rows of A at random, new columns of B zero.

    Raises UserError for a rank below the adapter's.
    """
    config, tensors = _read(source)
    before = config["r"]
    if rank < before:
        raise UserError(f"the adapter {source} has rank {before}, so it can't grow to {rank}: cut it instead")
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
            found[name] = torch.cat([tensor * (rank / before), new], 1)
    _write(source, target, config | {"r": rank}, found)


def _check_rank(source: Path, before: int, rank: int) -> None:
    if not 1 <= rank <= before:
        raise UserError(f"the adapter {source} has rank {before}, so it can't be cut to {rank}: take 1 to {before}")


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors.torch import load_file

    if not (folder / CONFIG).exists():
        raise UserError(f"{folder} holds no adapter: {CONFIG} is missing")
    config = json.loads((folder / CONFIG).read_text())
    if config.get("use_rslora") or config.get("rank_pattern") or config.get("alpha_pattern"):
        raise UserError(f"the adapter {folder} has scales of its own (use_rslora or patterns): only plain LoRA is cut")
    return config, load_file(folder / WEIGHTS)


def _write(source: Path, target: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    from safetensors.torch import save_file

    shutil.copytree(source, target)
    save_file(tensors, target / WEIGHTS, metadata={"format": "pt"})
    (target / CONFIG).write_text(json.dumps(config, indent=2))
