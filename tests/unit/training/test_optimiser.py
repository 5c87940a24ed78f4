"""8-bit moments: nearly AdamW's steps, and to the same bits after a stop. Without a card in plain memory."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, Qwen3Config

from app.errors import UserError
from app.settings import SftSettings
from app.training import lora
from app.training.loop import StepMetrics, epochs, train
from app.training.optimiser import make_optimiser

CPU = torch.device("cpu")
CONFIG = Qwen3Config(
    vocab_size=200, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, head_dim=32,
    num_key_value_heads=1, max_position_embeddings=128, tie_word_embeddings=True,
)  # fmt: skip
SETTINGS = SftSettings(
    optimiser="paged_adamw_8bit", lora_r=48, lora_dropout=0.0, grad_accumulation=1, checkpoint_every=1
)
"""Rank 48: adapters on the inner width have 6,144 numbers, enough for 8 bits; the others keep float32."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def batches(epoch: int) -> Iterator[dict[str, torch.Tensor]]:
    for number in range(4):
        ids = torch.randint(10, 200, (1, 24), generator=torch.Generator().manual_seed(number))
        yield {"input_ids": ids, "labels": ids, "position_ids": torch.arange(24)[None]}


def run(folder: Path, resume_from: Path | None = None) -> list[StepMetrics]:
    torch.manual_seed(0)
    model = lora.attach(AutoModelForCausalLM.from_config(CONFIG, dtype=torch.float32), SETTINGS, 0)
    metrics: list[StepMetrics] = []

    def on_checkpoint(step: int, save: Any) -> None:
        (folder / f"step-{step}").mkdir(parents=True)
        save(folder / f"step-{step}")

    train(
        model, epochs(batches, SETTINGS, 4), SETTINGS, 4, device=CPU, on_step=metrics.append,
        on_checkpoint=on_checkpoint, resume_from=resume_from,
    )  # fmt: skip
    return metrics


def test_a_training_with_8_bit_moments_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    rest = run(tmp_path / "rest", tmp_path / "whole/step-2")
    assert [row.loss for row in rest] == [row.loss for row in whole[2:]]
    for name in ("adapter/adapter_model.safetensors", "optimiser.safetensors"):
        assert (tmp_path / "whole/step-4" / name).read_bytes() == (tmp_path / "rest/step-4" / name).read_bytes()
    held = load_file(tmp_path / "rest/step-4/optimiser.safetensors")
    kinds = {tensor.dtype for name, tensor in held.items() if name.endswith("state1")}
    assert kinds == {torch.uint8, torch.float32}
    assert all(tensor.item() == 4 for name, tensor in held.items() if name.endswith("step"))


def test_8_bit_steps_are_nearly_those_of_adamw() -> None:
    random = torch.Generator().manual_seed(0)
    start = torch.randn(48, 128, generator=random)
    gradients = [torch.randn(48, 128, generator=random) * 0.1 + 0.02 for _ in range(20)]
    moved = []
    for name in ("adamw", "paged_adamw_8bit"):
        weight = torch.nn.Parameter(start.clone())
        optimiser = make_optimiser([weight], SETTINGS.model_copy(update={"optimiser": name}), CPU)
        for gradient in gradients:
            weight.grad = gradient.clone()
            optimiser.step()
        moved.append(weight.detach() - start)
    assert (moved[0] - moved[1]).norm() < 0.1 * moved[0].norm()


def test_without_bitsandbytes_one_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(UserError, match="paged_adamw_8bit needs bitsandbytes.*or take sft.optimiser=adamw"):
        make_optimiser([], SETTINGS, CPU)
