"""The optimiser of a training: AdamW with float32 moments, or with 8-bit ones (bitsandbytes).

8-bit moments: blocks of 256 numbers, each with a scale of its own and a table of 256 values (Dettmers et al., arXiv
2110.02861, section 2). On a card bitsandbytes puts them into memory that the driver moves to the host when the card is
full (paged, as in QLoRA, arXiv 2305.14314): it lies outside of torch's allocator, so `sft.vram_gib` doesn't count it.
bitsandbytes' own limits: parameters below 4,096 numbers keep float32 moments, and only those from 100,000 on are
paged, which for Qwen3-1.7B begins at rank 17. Without a card the same arithmetic runs in plain memory.
"""

from collections.abc import Iterable
from typing import Any

import torch

from app.errors import UserError
from app.settings import SftSettings


def make_optimiser(
    parameters: Iterable[torch.nn.Parameter], settings: SftSettings, device: torch.device
) -> torch.optim.Optimizer:
    """The optimiser that the settings ask for. Raises UserError where bitsandbytes is asked for and missing."""
    chosen: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    if settings.optimiser == "adamw":
        return torch.optim.AdamW(parameters, fused=device.type == "cuda", **chosen)
    try:
        from bitsandbytes import optim
    except ImportError as error:
        raise UserError(
            f"sft.optimiser={settings.optimiser} needs bitsandbytes, which can't be loaded here ({error}): "
            "install it with `make setup`, or take sft.optimiser=adamw"
        ) from None
    return (optim.PagedAdamW8bit if device.type == "cuda" else optim.AdamW8bit)(parameters, **chosen)


def is_8bit(optimiser: torch.optim.Optimizer) -> bool:
    """Whether the optimiser is one of bitsandbytes', which keep their moments as PyTorch's load_state_dict can't bring
    back."""
    return type(optimiser).__module__.startswith("bitsandbytes.")


def fill_8bit(optimiser: Any, state: dict[int, dict[str, torch.Tensor]]) -> None:
    """Put saved moments into a bitsandbytes optimiser; state: by the parameter's number.

    Its own load_state_dict makes new tensors of them, which are paged no more. So the state is made as a first step
    would make it, and then filled.
    """
    parameters = [(0, number, p) for number, p in enumerate(optimiser.param_groups[0]["params"]) if number in state]
    for group, number, p in parameters:
        optimiser.init_state(optimiser.param_groups[group], p, group, number)
    if any(p.is_cuda for _, _, p in parameters):
        torch.cuda.synchronize()  # zeros are written to paged memory by a kernel, what follows by the host
    for _, number, p in parameters:
        held = optimiser.state[p]
        for name, tensor in state[number].items():
            if name == "step":
                held[name] = int(tensor)
            else:
                held[name].copy_(tensor)
