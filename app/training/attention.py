"""Causal attention inside each document of a packed batch, forward and backward as functions of their own.

A batch is one row of tokens; `Documents` says where documents start. On a card torch's own FlashAttention-2 kernels for
varying lengths do it (Dao, arXiv 2307.08691; Ampere and later, 16-bit types); elsewhere each document goes through
scaled_dot_product_attention.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """The documents of a batch. Made by `documents_of`."""

    starts: Tensor
    """The first token of each document, and the number of tokens last; int32 [documents + 1], on the batch's device."""
    longest: int
    bounds: tuple[int, ...]
    """`starts` on the host; empty where the kernels for a card are used."""


def documents_of(position_ids: Tensor, weight: Tensor) -> Documents:
    """The documents of a batch. position_ids: int64 [tokens]; a document starts where they are 0. weight: one of the
    model's."""
    starts = functional.pad(torch.nonzero(position_ids == 0)[:, 0], (0, 1), value=len(position_ids)).int()
    longest = int(position_ids.max()) + 1
    bounds = () if uses_flash(weight) else tuple(starts.tolist())
    return Documents(starts=to_device(starts, weight.device), longest=longest, bounds=bounds)


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a tensor to the device without waiting for what a card is doing."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.contiguous().pin_memory().to(device, non_blocking=True)  # one that was expanded can't be pinned


def uses_flash(tensor: Tensor) -> bool:
    """Whether the kernels for a card take tensors like this one."""
    is_half = tensor.dtype in (torch.bfloat16, torch.float16)
    return tensor.is_cuda and is_half and torch.cuda.get_device_capability(tensor.device) >= (8, 0)


def attention_of(weight: Tensor) -> str:
    """The attention that the fused layers of a model with such weights use, in words."""
    return "FlashAttention-2, by document" if uses_flash(weight) else "scaled_dot_product_attention, by document"


def attend(q: Tensor, k: Tensor, v: Tensor, documents: Documents, scale: float) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Attend within each document. q: [tokens, heads, dim]; k, v: [tokens, kv_heads, dim]. Returns [tokens, heads,
    dim], and what the backward pass needs of the forward pass beside it."""
    if not documents.bounds:
        starts, longest = documents.starts, documents.longest
        out, lse, *random = torch.ops.aten._flash_attention_forward(
            q, k, v, starts, starts, longest, longest, 0.0, True, False, scale=scale
        )
        return out, (lse, random[0], random[1])
    pieces = [_attend_one(q[a:b], k[a:b], v[a:b], scale) for a, b in _spans(documents)]
    return torch.cat(pieces), ()


def attend_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    kept: tuple[Tensor, ...],
    documents: Documents,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v. out and kept: what `attend` returned."""
    if not documents.bounds:
        starts, longest = documents.starts, documents.longest
        found: Any = torch.ops.aten._flash_attention_backward(
            grad, q, k, v, out, kept[0], starts, starts, longest, longest, 0.0, True, kept[1], kept[2], scale=scale
        )
        return found
    pieces = []
    for a, b in _spans(documents):
        with torch.enable_grad():
            own = [tensor[a:b].detach().requires_grad_() for tensor in (q, k, v)]
            pieces.append(torch.autograd.grad(_attend_one(own[0], own[1], own[2], scale), own, grad[a:b]))
    dq, dk, dv = (torch.cat(parts) for parts in zip(*pieces, strict=True))
    return dq, dk, dv


def _spans(documents: Documents) -> list[tuple[int, int]]:
    return list(zip(documents.bounds[:-1], documents.bounds[1:], strict=True))


def _attend_one(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """The attention of one document: [tokens, heads, dim]."""
    q, k, v = (tensor.transpose(0, 1)[None] for tensor in (q, k, v))
    out = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)
    return out[0].transpose(0, 1)
