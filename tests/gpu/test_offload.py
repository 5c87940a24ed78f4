"""On a card offloaded weights are never all there: the peak of a step stays far below what they take."""

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen3Config

from app.settings import SftSettings
from app.training import lora
from app.training.experimental.offload import FromHost, linears, offload
from app.training.loop import StepMetrics, epochs, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA card; torch sees none")
CONFIG = Qwen3Config(
    vocab_size=1000, hidden_size=1024, intermediate_size=4096, num_hidden_layers=12, num_attention_heads=8,
    num_key_value_heads=4, head_dim=128, tie_word_embeddings=True,
)  # fmt: skip


def step(*, is_offloaded: bool) -> tuple[list[StepMetrics], int]:
    """Two steps of two rows of 256 tokens, one at a time; metrics, and the peak of what was allocated, in bytes."""
    settings = SftSettings(
        lora_r=8, lora_dropout=0.0, offload=is_offloaded, gradient_checkpointing=True, grad_accumulation=2
    )
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(CONFIG, dtype=torch.bfloat16, attn_implementation="sdpa")
    device = torch.device("cuda", 0)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    model = lora.attach(base, settings, 0)
    model = offload(model, device) if is_offloaded else model.to(device)
    ids = torch.randint(0, 1000, (1, 256), generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": ids, "labels": ids, "position_ids": torch.arange(256).expand_as(ids)}
    metrics: list[StepMetrics] = []
    train(
        model, epochs(lambda epoch: iter([batch] * 4), settings, 2), settings, 2, device=device, on_step=metrics.append,
        on_checkpoint=lambda *_: None,
    )  # fmt: skip
    if is_offloaded:
        assert all(isinstance(linear._hf_hook, FromHost) and linear.weight.is_meta for linear in linears(model))
        assert all(weight.is_pinned() for linear in linears(model) for weight in linear._hf_hook.weights.values())
    return metrics, torch.cuda.max_memory_allocated() - held


def test_the_peak_is_below_the_weights_and_the_losses_are_the_same() -> None:
    plain, _ = step(is_offloaded=False)
    metrics, peak = step(is_offloaded=True)
    layer = 1024 * (8 + 2 * 4 + 8) * 128 + 3 * 1024 * 4096
    weights = CONFIG.num_hidden_layers * layer * 2
    assert peak < 0.75 * weights, f"{peak / 2**20:.0f} MiB at most, the layers' weights are {weights / 2**20:.0f}"
    for ours, theirs in zip(metrics, plain, strict=True):
        assert ours.loss == pytest.approx(theirs.loss, rel=5e-3)
