"""What the layers of a training step keep of their forward pass. Needs no torch: plans are made without it."""

import enum

from app.settings import SftSettings


def plain_by_settings(settings: SftSettings) -> str:
    """Why layers go the plain way whatever the model is; empty where the settings allow fused ones."""
    if settings.offload:
        return "weights come from main memory layer by layer (sft.offload)"
    if settings.parallelism == "fsdp":
        return "weights are cut over the workers (sft.parallelism=fsdp)"
    return ""


class Keep(enum.IntEnum):
    """What a layer keeps of its forward pass, each with all before it, in the order of time saved per byte. In brackets
    the bytes that each adds a token for Qwen3-1.7B in bf16, and what need not be computed again."""

    INPUT = 0
    """Its input (4 KiB; the last product)."""
    HEADS = 1
    """The attention's output and normaliser (4 KiB; the attention)."""
    MIDDLE = 2
    """What leaves the attention block (4 KiB; its last product)."""
    ATTENTION = 3
    """q, k and v (8 KiB; their product)."""
    ALL = 4
    """gate and up (24 KiB; their product). Norms and rotations alone are computed again."""
