"""On a card each Triton kernel gives what torch gives, at the widths of Qwen3-1.7B and of SmolLM2-135M."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from app.training import kernels

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA card; torch sees none")
WIDTHS = [(2048, 16, 8, 128, 6144), (576, 9, 3, 64, 1536)]
TOKENS = 777
EPS = 1e-6
TOLERANCE = 5e-3
"""Relative, of bf16 results: torch rounds between steps that a kernel takes at once."""


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)


def both(monkeypatch: pytest.MonkeyPatch, run: Callable[[], Any]) -> tuple[Any, Any]:
    """By the kernel, and by torch on the same card."""
    torch.manual_seed(0)
    by_kernel = run()
    monkeypatch.setattr(kernels, "_on_card", lambda tensor: False)
    torch.manual_seed(0)
    return by_kernel, run()


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert (found.float() - expected.float()).norm() <= TOLERANCE * expected.float().norm()


@pytest.mark.parametrize(("width", "heads", "kv_heads", "dim", "inner"), WIDTHS, ids=["qwen3", "smollm2"])
def test_kernels_give_what_torch_gives(
    width: int, heads: int, kv_heads: int, dim: int, inner: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> list[torch.Tensor]:
        x, other, weight, grad = draw(TOKENS, width), draw(TOKENS, width), draw(width), draw(TOKENS, width)
        wide = torch.zeros(TOKENS, width + 32, device="cuda", dtype=torch.bfloat16)
        scale = kernels.rms_norm(x, weight, EPS, wide[:, :width])
        total, scale_2 = kernels.add_rms_norm(x, other, weight, EPS, normed := torch.empty_like(x))
        gate_up, of_product = draw(TOKENS, 2 * inner), draw(TOKENS, inner)
        product = kernels.swiglu(gate_up)
        again = kernels.swiglu_backward(of_product, gate_up)
        backward = kernels.rms_norm_backward(grad.clone(), x, scale, weight, other)
        alone = kernels.rms_norm_backward(grad.clone(), x, scale, weight, None)
        return [wide, scale, total, scale_2, normed, product, again, gate_up, backward, alone]

    for found, expected in zip(*both(monkeypatch, run), strict=True):
        assert_close(found, expected)


@pytest.mark.parametrize(("width", "heads", "kv_heads", "dim", "inner"), WIDTHS, ids=["qwen3", "smollm2"])
@pytest.mark.parametrize("has_norms", [True, False])
def test_rotations_give_what_torch_gives(
    width: int, heads: int, kv_heads: int, dim: int, inner: int, has_norms: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> list[torch.Tensor]:
        qkv = draw(TOKENS, (heads + 2 * kv_heads) * dim)
        cos, sin = draw(TOKENS, dim // 2).repeat(1, 2), draw(TOKENS, dim // 2).repeat(1, 2)
        norm = draw(heads + kv_heads, dim) if has_norms else None
        rotated = kernels.rotate(qkv, heads + kv_heads, cos, sin, norm, EPS)
        out, place = torch.zeros_like(qkv), slice(heads * dim, (heads + kv_heads) * dim)
        of_keys = norm[heads:] if norm is not None else None
        grad = draw(TOKENS, kv_heads, dim)
        kernels.rotate_backward(grad, qkv[:, place], kv_heads, cos, sin, of_keys, EPS, out[:, place])
        return [rotated, out]

    for found, expected in zip(*both(monkeypatch, run), strict=True):
        assert_close(found, expected)


@pytest.mark.parametrize("vocabulary", [151_936, 49_152, 200])
def test_the_loss_and_its_gradient_are_those_of_torch(vocabulary: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> list[torch.Tensor]:
        logits, targets = draw(300, vocabulary) * 3, torch.randint(0, vocabulary, (300,), device="cuda")
        return [kernels.cross_entropy_(logits, targets), logits]

    for found, expected in zip(*both(monkeypatch, run), strict=True):
        assert_close(found, expected)
