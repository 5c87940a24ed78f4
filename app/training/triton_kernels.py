"""The kernels behind `app.training.kernels`, in Triton: one program a token, or a token's heads, one pass over memory.

Widths are powers of two or masked. Everything is read once and written once; the largest kernel holds one row of a
layer's width in registers. Tuned for nothing but that: these passes are bound by memory.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _rms_norm(
    x_ptr,
    other_ptr,
    weight_ptr,
    sum_ptr,
    out_ptr,
    out_stride,
    scale_ptr,
    width,
    eps,
    ADD: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    mask = at < width
    x = tl.load(x_ptr + row * width + at, mask, 0.0)
    if ADD:
        x = (x.to(tl.float32) + tl.load(other_ptr + row * width + at, mask, 0.0).to(tl.float32)).to(x.dtype)
        tl.store(sum_ptr + row * width + at, x, mask)
    wide = x.to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide, 0) / width + eps)
    normed = (wide * scale).to(x.dtype)
    weight = tl.load(weight_ptr + at, mask, 0.0)
    tl.store(out_ptr + row * out_stride + at, normed * weight, mask)
    tl.store(scale_ptr + row, scale)


def rms_norm(x: Tensor, weight: Tensor, eps: float, out: Tensor) -> Tensor:
    scale = torch.empty(len(x), dtype=torch.float32, device=x.device)
    width = x.shape[1]
    block = triton.next_power_of_2(width)
    _rms_norm[(len(x),)](x, x, weight, x, out, out.stride(0), scale, width, eps, False, block, num_warps=8)
    return scale


def add_rms_norm(x: Tensor, other: Tensor, weight: Tensor, eps: float, out: Tensor) -> tuple[Tensor, Tensor]:
    total, scale = torch.empty_like(x), torch.empty(len(x), dtype=torch.float32, device=x.device)
    width = x.shape[1]
    block = triton.next_power_of_2(width)
    _rms_norm[(len(x),)](x, other, weight, total, out, out.stride(0), scale, width, eps, True, block, num_warps=8)
    return total, scale


@triton.jit
def _rms_norm_backward(
    grad_ptr, x_ptr, scale_ptr, weight_ptr, residual_ptr, out_ptr, width, ADD: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    mask = at < width
    grad = tl.load(grad_ptr + row * width + at, mask, 0.0).to(tl.float32)
    x = tl.load(x_ptr + row * width + at, mask, 0.0).to(tl.float32)
    inner = grad * tl.load(weight_ptr + at, mask, 0.0).to(tl.float32)
    scale = tl.load(scale_ptr + row)
    normed = x * scale
    along = tl.sum(inner * normed, 0) / width
    found = (inner - normed * along) * scale
    if ADD:
        found += tl.load(residual_ptr + row * width + at, mask, 0.0).to(tl.float32)
    tl.store(out_ptr + row * width + at, found, mask)


def rms_norm_backward(grad: Tensor, x: Tensor, scale: Tensor, weight: Tensor, residual: Tensor | None) -> Tensor:
    width = x.shape[1]
    other = x if residual is None else residual
    block = triton.next_power_of_2(width)
    _rms_norm_backward[(len(x),)](grad, x, scale, weight, other, grad, width, residual is not None, block, num_warps=8)
    return grad


@triton.jit
def _rotate(
    qkv_ptr,
    stride,
    out_ptr,
    cos_ptr,
    sin_ptr,
    norm_ptr,
    eps,
    HEADS: tl.constexpr,
    BLOCK_HEADS: tl.constexpr,
    HALF: tl.constexpr,
    BLOCK_HALF: tl.constexpr,
    NORM: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    head = tl.arange(0, BLOCK_HEADS)[:, None]
    half = tl.arange(0, BLOCK_HALF)[None, :]
    mask = (head < HEADS) & (half < HALF)
    at = head * (2 * HALF) + half
    one = tl.load(qkv_ptr + row * stride + at, mask, 0.0)
    two = tl.load(qkv_ptr + row * stride + at + HALF, mask, 0.0)
    if NORM:
        a, b = one.to(tl.float32), two.to(tl.float32)
        scale = tl.rsqrt((tl.sum(a * a, 1) + tl.sum(b * b, 1)) / (2 * HALF) + eps)[:, None]
        one = (a * scale).to(one.dtype) * tl.load(norm_ptr + at, mask, 0.0)
        two = (b * scale).to(two.dtype) * tl.load(norm_ptr + at + HALF, mask, 0.0)
    table = row * (2 * HALF) + half
    inside = half < HALF
    cos = tl.load(cos_ptr + table, inside, 0.0).to(tl.float32)
    sin = tl.load(sin_ptr + table, inside, 0.0).to(tl.float32)
    a, b = one.to(tl.float32), two.to(tl.float32)
    out = row * (HEADS * 2 * HALF) + at
    tl.store(out_ptr + out, a * cos - b * sin, mask)
    tl.store(out_ptr + out + HALF, b * cos + a * sin, mask)


def rotate(qkv: Tensor, num_heads: int, cos: Tensor, sin: Tensor, norm: Tensor | None, eps: float) -> Tensor:
    dim = cos.shape[-1]
    out = torch.empty(len(qkv), num_heads, dim, dtype=qkv.dtype, device=qkv.device)
    _rotate[(len(qkv),)](
        qkv, qkv.stride(0), out, cos, sin, cos if norm is None else norm, eps,
        num_heads, triton.next_power_of_2(num_heads), dim // 2, triton.next_power_of_2(dim // 2), norm is not None,
        num_warps=4,
    )  # fmt: skip
    return out


@triton.jit
def _rotate_backward(
    grad_ptr,
    qkv_ptr,
    stride,
    out_ptr,
    out_stride,
    cos_ptr,
    sin_ptr,
    norm_ptr,
    eps,
    HEADS: tl.constexpr,
    BLOCK_HEADS: tl.constexpr,
    HALF: tl.constexpr,
    BLOCK_HALF: tl.constexpr,
    NORM: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    head = tl.arange(0, BLOCK_HEADS)[:, None]
    half = tl.arange(0, BLOCK_HALF)[None, :]
    mask = (head < HEADS) & (half < HALF)
    at = head * (2 * HALF) + half
    grad = row * (HEADS * 2 * HALF) + at
    a = tl.load(grad_ptr + grad, mask, 0.0).to(tl.float32)
    b = tl.load(grad_ptr + grad + HALF, mask, 0.0).to(tl.float32)
    table = row * (2 * HALF) + half
    inside = half < HALF
    cos = tl.load(cos_ptr + table, inside, 0.0).to(tl.float32)
    sin = tl.load(sin_ptr + table, inside, 0.0).to(tl.float32)
    one = a * cos + b * sin
    two = b * cos - a * sin
    if NORM:
        x = tl.load(qkv_ptr + row * stride + at, mask, 0.0).to(tl.float32)
        y = tl.load(qkv_ptr + row * stride + at + HALF, mask, 0.0).to(tl.float32)
        scale = tl.rsqrt((tl.sum(x * x, 1) + tl.sum(y * y, 1)) / (2 * HALF) + eps)[:, None]
        x, y = x * scale, y * scale
        one *= tl.load(norm_ptr + at, mask, 0.0).to(tl.float32)
        two *= tl.load(norm_ptr + at + HALF, mask, 0.0).to(tl.float32)
        along = ((tl.sum(one * x, 1) + tl.sum(two * y, 1)) / (2 * HALF))[:, None]
        one, two = (one - x * along) * scale, (two - y * along) * scale
    tl.store(out_ptr + row * out_stride + at, one, mask)
    tl.store(out_ptr + row * out_stride + at + HALF, two, mask)


def rotate_backward(
    grad: Tensor, qkv: Tensor, num_heads: int, cos: Tensor, sin: Tensor, norm: Tensor | None, eps: float, out: Tensor
) -> None:
    dim = cos.shape[-1]
    _rotate_backward[(len(qkv),)](
        grad, qkv, qkv.stride(0), out, out.stride(0), cos, sin, cos if norm is None else norm, eps,
        num_heads, triton.next_power_of_2(num_heads), dim // 2, triton.next_power_of_2(dim // 2), norm is not None,
        num_warps=4,
    )  # fmt: skip


@triton.jit
def _swiglu(gate_up_ptr, out_ptr, width, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = at < width
    gate = tl.load(gate_up_ptr + row * 2 * width + at, mask, 0.0).to(tl.float32)
    up = tl.load(gate_up_ptr + row * 2 * width + width + at, mask, 0.0).to(tl.float32)
    tl.store(out_ptr + row * width + at, gate * tl.sigmoid(gate) * up, mask)


def swiglu(gate_up: Tensor) -> Tensor:
    width = gate_up.shape[1] // 2
    out = torch.empty(len(gate_up), width, dtype=gate_up.dtype, device=gate_up.device)
    _swiglu[(len(gate_up), triton.cdiv(width, 2048))](gate_up, out, width, 2048, num_warps=8)
    return out


@triton.jit
def _swiglu_backward(grad_ptr, gate_up_ptr, width, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = at < width
    gate_at = gate_up_ptr + row * 2 * width + at
    grad = tl.load(grad_ptr + row * width + at, mask, 0.0).to(tl.float32)
    gate = tl.load(gate_at, mask, 0.0).to(tl.float32)
    up = tl.load(gate_at + width, mask, 0.0).to(tl.float32)
    sigmoid = tl.sigmoid(gate)
    silu = gate * sigmoid
    tl.store(gate_at + width, grad * silu, mask)
    tl.store(gate_at, grad * up * (sigmoid + silu * (1 - sigmoid)), mask)
    tl.store(grad_ptr + row * width + at, silu * up, mask)


def swiglu_backward(grad: Tensor, gate_up: Tensor) -> Tensor:
    width = gate_up.shape[1] // 2
    _swiglu_backward[(len(gate_up), triton.cdiv(width, 2048))](grad, gate_up, width, 2048, num_warps=8)
    return grad


@triton.jit
def _cross_entropy(logits_ptr, targets_ptr, losses_ptr, width, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    start = logits_ptr + row * width
    most = tl.full((BLOCK,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    for first in range(0, width, BLOCK):
        at = first + tl.arange(0, BLOCK)
        x = tl.load(start + at, at < width, float("-inf")).to(tl.float32)
        higher = tl.maximum(most, x)
        total = total * tl.exp(tl.where(most == higher, 0.0, most - higher)) + tl.exp(
            tl.where(x == higher, 0.0, x - higher)
        )
        total = tl.where(higher == float("-inf"), 0.0, total)
        most = higher
    top = tl.max(most, 0)
    norm = tl.sum(total * tl.exp(most - top), 0)
    target = tl.load(targets_ptr + row)
    wanted = tl.load(start + target).to(tl.float32)
    tl.store(losses_ptr + row, tl.log(norm) + top - wanted)
    for first in range(0, width, BLOCK):
        at = first + tl.arange(0, BLOCK)
        x = tl.load(start + at, at < width, float("-inf")).to(tl.float32)
        p = tl.exp(x - top) / norm
        tl.store(start + at, tl.where(at == target, p - 1.0, p), at < width)


def cross_entropy_(logits: Tensor, targets: Tensor) -> Tensor:
    losses = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
    _cross_entropy[(len(logits),)](logits, targets, losses, logits.shape[1], 4096, num_warps=8)
    return losses
