"""The elementwise passes of a decoder layer: each one kernel on a card (Triton), the same sums by torch elsewhere.

Rows are tokens: every tensor is [tokens, width], contiguous unless said. Sums are in float32; results have the input's
type. Norm weights and rotary tables are frozen, so no gradient goes to them. Triton compiles for sm_80 and later; no
kernel here needs shared memory beyond a reduction's.
"""

import torch
from torch import Tensor

try:
    from app.training import triton_kernels as triton_kernels
except ImportError:  # no Triton: a machine without a card
    triton_kernels = None  # type: ignore[assignment]


def _on_card(tensor: Tensor) -> bool:
    return tensor.is_cuda and triton_kernels is not None


def rms_norm(x: Tensor, weight: Tensor, eps: float, out: Tensor) -> Tensor:
    """Write x / rms(x) * weight into `out` and return 1 / rms(x), float32 [tokens] (arXiv 1910.07467). The rows of
    `out` may lie apart."""
    if _on_card(x):
        return triton_kernels.rms_norm(x, weight, eps, out)
    scale = torch.rsqrt(x.float().pow(2).mean(-1) + eps)
    out.copy_(weight * (x.float() * scale[:, None]).to(x.dtype))
    return scale


def add_rms_norm(x: Tensor, other: Tensor, weight: Tensor, eps: float, out: Tensor) -> tuple[Tensor, Tensor]:
    """The sum x + other, and 1 / rms of it; its norm goes to `out`."""
    if _on_card(x):
        return triton_kernels.add_rms_norm(x, other, weight, eps, out)
    total = x + other
    return total, rms_norm(total, weight, eps, out)


def rms_norm_backward(grad: Tensor, x: Tensor, scale: Tensor, weight: Tensor, residual: Tensor | None) -> Tensor:
    """Gradient of the norm's input plus `residual`, the gradient that goes past it. Overwrites `grad` on a card."""
    if _on_card(x):
        return triton_kernels.rms_norm_backward(grad, x, scale, weight, residual)
    normed = x.float() * scale[:, None]
    inner = grad.float() * weight.float()
    along = (inner * normed).mean(-1, keepdim=True)
    found = (inner - normed * along) * scale[:, None]
    return (found if residual is None else found + residual.float()).to(x.dtype)


def rotate(qkv: Tensor, num_heads: int, cos: Tensor, sin: Tensor, norm: Tensor | None, eps: float) -> Tensor:
    """The first `num_heads` heads of each token, normed where `norm` is given, then rotated (arXiv 2104.09864).

    qkv: [tokens, heads * dim], queries first, then keys, then values. cos, sin: [tokens, dim]. norm: [num_heads, dim],
    weights of the heads' RMS norms. Returns [tokens, num_heads, dim]; qkv stays as it is.
    """
    dim = cos.shape[-1]
    if _on_card(qkv):
        return triton_kernels.rotate(qkv, num_heads, cos, sin, norm, eps)
    heads = qkv[:, : num_heads * dim].view(-1, num_heads, dim)
    if norm is not None:
        scale = torch.rsqrt(heads.float().pow(2).mean(-1, keepdim=True) + eps)
        heads = norm * (heads.float() * scale).to(heads.dtype)
    return heads * cos[:, None] + _half_turned(heads) * sin[:, None]


def rotate_backward(
    grad: Tensor, qkv: Tensor, num_heads: int, cos: Tensor, sin: Tensor, norm: Tensor | None, eps: float, out: Tensor
) -> None:
    """Write the gradient of the first `num_heads` heads of `qkv` into those of `out`, which is shaped as qkv.

    grad: [tokens, num_heads, dim].
    """
    dim = cos.shape[-1]
    if _on_card(qkv):
        return triton_kernels.rotate_backward(grad, qkv, num_heads, cos, sin, norm, eps, out)
    turned = grad.float() * cos[:, None].float() - _half_turned(grad.float() * sin[:, None].float())
    if norm is not None:
        heads = qkv[:, : num_heads * dim].view(-1, num_heads, dim).float()
        scale = torch.rsqrt(heads.pow(2).mean(-1, keepdim=True) + eps)
        normed, inner = heads * scale, turned * norm.float()
        turned = (inner - normed * (inner * normed).mean(-1, keepdim=True)) * scale
    out[:, : num_heads * dim] = turned.reshape(len(grad), -1).to(out.dtype)
    return None


def _half_turned(heads: Tensor) -> Tensor:
    first, second = heads.chunk(2, -1)
    return torch.cat((-second, first), -1)


def swiglu(gate_up: Tensor) -> Tensor:
    """The product silu(gate) * up of [tokens, 2 * width]: [tokens, width] (Shazeer, arXiv 2002.05202)."""
    if _on_card(gate_up):
        return triton_kernels.swiglu(gate_up)
    gate, up = gate_up.chunk(2, -1)
    return torch.nn.functional.silu(gate) * up


def swiglu_backward(grad: Tensor, gate_up: Tensor) -> Tensor:
    """Overwrite `gate_up` with its gradient and return silu(gate) * up, which is needed once more. grad may be
    overwritten with the latter."""
    if _on_card(gate_up):
        return triton_kernels.swiglu_backward(grad, gate_up)
    gate, up = (half.float() for half in gate_up.chunk(2, -1))
    sigmoid = torch.sigmoid(gate)
    silu = gate * sigmoid
    product = (silu * up).to(gate_up.dtype)
    wide = grad.float()
    gate_up.copy_(torch.cat((wide * up * (sigmoid + silu * (1 - sigmoid)), wide * silu), -1))
    return product


def cross_entropy_(logits: Tensor, targets: Tensor) -> Tensor:
    """The losses -log p(target) of the rows, float32 [rows]; overwrites `logits` [rows, vocabulary] with its
    gradient."""
    if _on_card(logits):
        return triton_kernels.cross_entropy_(logits, targets)
    log_p = torch.log_softmax(logits.float(), -1)
    losses = -log_p.gather(1, targets[:, None])[:, 0]
    gradient = log_p.exp_()
    gradient[torch.arange(len(targets), device=targets.device), targets] -= 1
    logits.copy_(gradient)
    return losses
