"""On a card: the fused layers give what the plain ones give, memory that really runs out takes a training down the
ladder and changes nothing else, and an interrupted training goes on as if it had not been."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, Qwen3Config

from app.models.base import load_model
from app.records import IGNORE
from app.settings import ModelSettings, SftSettings
from app.training import lora
from app.training.loop import epochs, train
from app.training.loss import CausalLMLoss, FusedLoss
from app.training.saved_activations import Keep
from app.training.state import MOMENTS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA card; torch sees none")
DEVICE = torch.device("cuda", 0)
SMALL = {
    "vocab_size": 1000, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3, "head_dim": 64,
    "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True,
}  # fmt: skip
WIDE = {
    "vocab_size": 8192, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 4, "head_dim": 64,
    "num_attention_heads": 16, "num_key_value_heads": 8, "tie_word_embeddings": True,
}  # fmt: skip
"""Weights small beside what layers keep: each rung of the ladder is well below the one before."""
SETTINGS = SftSettings(lora_dropout=0.0, micro_batch=4, grad_accumulation=1, learning_rate=1e-3)


def made(config: dict[str, Any], settings: SftSettings = SETTINGS) -> PeftModel:
    """bf16, random weights, always the same."""
    torch.manual_seed(0)
    with DEVICE:
        model = AutoModelForCausalLM.from_config(
            Qwen3Config(**config), dtype=torch.bfloat16, attn_implementation="sdpa"
        )
    return lora.attach(model, settings, seed=0)


def packed(rows: int, seq_len: int, document: int, vocabulary: int) -> dict[str, torch.Tensor]:
    """Documents of one length, whose first token is nothing to learn, as in a corpus."""
    random = torch.Generator().manual_seed(1)
    ids = torch.randint(0, vocabulary, (rows, seq_len), generator=random)
    positions = (torch.arange(seq_len) % document).expand(rows, -1).contiguous()
    return {"input_ids": ids, "labels": ids.where(positions > 0, IGNORE), "position_ids": positions}


def loss_and_gradients(
    model: PeftModel, loss: torch.nn.Module, batch: dict[str, torch.Tensor]
) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    total = loss(**batch)
    total.backward()
    return total.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("base", ["none", "nf4"])
@pytest.mark.parametrize("keep", [Keep.INPUT, Keep.ALL], ids=lambda keep: keep.name)
def test_fused_layers_give_the_loss_and_gradients_of_the_plain_model(base: Any, keep: Keep, tmp_path: Path) -> None:
    made(SMALL).unload().save_pretrained(tmp_path)
    settings = ModelSettings(source="path", name=str(tmp_path), dtype="bfloat16", quantization=base)
    model = lora.attach(load_model(tmp_path, settings, DEVICE, quantize=True), SETTINGS, seed=0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn_like(parameter) * 0.02
    batch = packed(2, 512, 200, SMALL["vocab_size"])
    expected, gradients = loss_and_gradients(model, CausalLMLoss(model, 64), batch)
    total, found = loss_and_gradients(model, FusedLoss(model, 100, [keep] * 3), batch)
    assert total == pytest.approx(expected, rel=2e-3)
    assert found.keys() == gradients.keys() and len(found) == 3 * 7 * 2
    for name, gradient in gradients.items():  # what rounding to bf16 makes of it; a wrong term would be as large as it
        assert (found[name] - gradient).norm() <= 0.06 * gradient.norm(), name


def trained(
    model: PeftModel, batch: dict[str, torch.Tensor], steps: int, keep: Keep = Keep.ALL, **more: Any
) -> list[float]:
    """Losses of steps over a batch that stays the same."""
    losses: list[float] = []
    size = len(batch["labels"]) // 2

    def batches(epoch: int) -> Iterator[dict[str, torch.Tensor]]:
        for start in (0, size):
            yield {name: tensor[start : start + size] for name, tensor in batch.items()}

    settings = SETTINGS.model_copy(update={"micro_batch": size, "grad_accumulation": 2, "checkpoint_every": 3})
    layers = model.config.num_hidden_layers
    train(
        model, epochs(batches, settings, steps), settings, steps, device=DEVICE, keep=[keep] * layers,
        on_step=lambda metrics: losses.append(metrics.loss), **{"on_checkpoint": lambda *_: None} | more,
    )  # fmt: skip
    return losses


SEQ_LEN = 4096
RUNGS = [
    (4, SEQ_LEN, Keep.ALL, "at first"),
    (2, SEQ_LEN, Keep.ALL, "2 rows at once instead of 4"),
    (1, SEQ_LEN, Keep.ALL, "1 rows at once instead of 2"),
    (1, SEQ_LEN, Keep.INPUT, "layers keep their inputs alone"),
    (1, 1024, Keep.INPUT, f"rows of 1024 tokens instead of {SEQ_LEN}"),
]
"""Rows at once, tokens of a row, what layers keep, and what is said on the way there."""


def fresh_card() -> None:
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def peak(rows: int, seq_len: int, keep: Keep) -> tuple[int, int]:
    """Bytes of two steps, each of two micro-batches: what tensors took, and what the allocator reserved for them."""
    model = made(WIDE)
    fresh_card()
    trained(model, packed(2 * rows, seq_len, 512, WIDE["vocab_size"]), 2, keep)
    return torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()


def under(cap: float, batch: dict[str, torch.Tensor]) -> list[float]:
    """Losses of three steps that begin on the highest rung, on a card of `cap` bytes."""
    model = made(WIDE)
    fresh_card()
    torch.cuda.set_per_process_memory_fraction(cap / torch.cuda.get_device_properties(DEVICE).total_memory)
    try:
        return trained(model, batch, 3)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_full_card_takes_a_training_down_the_ladder_and_changes_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    batch = packed(8, SEQ_LEN, 512, WIDE["vocab_size"])  # rows of 1,024 cut none of its documents
    peak(1, 1024, Keep.INPUT)  # what stays allocated once it was used, such as cuBLAS's workspaces
    peaks = [peak(*rung[:3]) for rung in RUNGS]
    expected = trained(made(WIDE), batch, 3)
    assert expected[-1] < expected[0]
    assert "memory ran out" not in capsys.readouterr().err
    for number in range(1, len(RUNGS)):
        fits, too_much = peaks[number][1], peaks[number - 1][0]
        assert fits < too_much, f"rungs {number - 1} and {number} lie too close to be told apart: {peaks}"
        losses = under((fits + too_much) / 2, batch)
        said = capsys.readouterr().err
        assert [rung[3] in said for rung in RUNGS[1:]] == [place <= number for place in range(1, len(RUNGS))], said
        assert losses == pytest.approx(expected, rel=2e-3)


def test_below_the_lowest_rung_the_error_is_the_caller_s(capsys: pytest.CaptureFixture[str]) -> None:
    def fill_the_card(*_: Any) -> None:
        """All that is left is a mebibyte, so that model and optimiser stay and no pass fits."""
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(DEVICE).total_memory
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2**20) / total)

    batch = packed(8, SEQ_LEN, 512, WIDE["vocab_size"])
    with pytest.raises(torch.OutOfMemoryError):
        trained(made(WIDE), batch, 6, on_checkpoint=fill_the_card)
    assert RUNGS[-1][3] in capsys.readouterr().err


def test_an_interrupted_training_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    batch = packed(4, 480, 60, SMALL["vocab_size"])  # one block of keys a document: attention adds up in one order

    def keeping(name: str) -> Any:
        return lambda step, save: save(tmp_path / f"{name}-{step}")

    expected = trained(made(SMALL), batch, 6, on_checkpoint=keeping("whole"))
    rest = trained(made(SMALL), batch, 6, on_checkpoint=keeping("rest"), resume_from=tmp_path / "whole-3")
    assert len(rest) == 3 and rest == pytest.approx(expected[3:], rel=1e-4)
    assert expected[5] < expected[3] < expected[0]
    one, other = (load_file(tmp_path / f"{name}-6" / MOMENTS) for name in ("whole", "rest"))
    for name, tensor in one.items():
        assert (other[name] - tensor).norm() <= 0.01 * tensor.norm(), name
