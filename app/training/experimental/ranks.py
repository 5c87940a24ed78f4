"""Adapters whose rank can be switched after training: nested dropout over the rank.

While training, each step draws a rank b of `sft.nested_ranks` and uses the first b rows of A and columns of B alone, so
that every prefix learns to do without the rest (DyLoRA, Valipour et al., arXiv 2210.07558, section 3). The scale goes
with the root of the rank (rsLoRA, arXiv 2312.03732): lora_alpha / r * sqrt(r / b), which at full rank is what the
settings say. `sft.rank_dropout` leaves out single ranks of the prefix at random, as a regulariser; what stays is
scaled up.

Experimental: from rank 8 on, `svd_truncate` (`app.models.adapter_ranks`) of an adapter that was trained plainly keeps
more (docs/training.md).
"""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from app.models.adapter_ranks import check_cut, read_adapter, write_adapter
from app.settings import SftSettings


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

    def whole(self) -> None:
        """Every rank, as the adapter is served."""
        self.factors.fill_(1.0)

    def scale(self, scaling: float) -> Tensor:
        """The adapter's scale for each rank, [rank]. scaling: PEFT's own."""
        return self.factors * scaling


def attach_switch(model: Any, settings: SftSettings) -> RankSwitch | None:
    """Let a PEFT model's ranks be switched: by hooks on its A layers, by `projection` in the fused ones. None where
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
    """Write the first `rank` ranks of a nested adapter as an adapter of its own: what was trained under that draw.

    Raises UserError for a rank that the adapter has not.
    """
    config, tensors = read_adapter(source)
    before = config["r"]
    check_cut(source, before, rank)
    found = {}
    for name, tensor in tensors.items():
        if ".lora_A." in name:
            found[name] = tensor[:rank].contiguous()
        else:
            # trained at alpha / before * sqrt(before / rank), read by PEFT at alpha / rank
            found[name] = (tensor[:, :rank] * math.sqrt(rank / before)).contiguous()
    write_adapter(source, target, config | {"r": rank}, found)
