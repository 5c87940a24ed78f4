"""Weights in main memory: the same loss, gradients and adapters as without, and none on the device between passes."""

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM, Qwen2Config

from app.settings import SftSettings
from app.training import lora
from app.training.experimental.offload import FromHost, linears, offload
from app.training.loop import epochs, train
from app.training.loss import CausalLMLoss, FusedLoss

CPU = torch.device("cpu")
CONFIG = Qwen2Config(  # with biases
    vocab_size=200, hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=6,
    num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=True,
)  # fmt: skip
SETTINGS = SftSettings(lora_r=4, lora_dropout=0.0, learning_rate=5e-3, grad_accumulation=2)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tuned(settings: SftSettings) -> PeftModel:
    torch.manual_seed(0)
    model = lora.attach(AutoModelForCausalLM.from_config(CONFIG, dtype=torch.float32), settings, 0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn_like(parameter) * 0.1
    return offload(model, CPU) if settings.offload else model.train()


def batch(seed: int) -> dict[str, torch.Tensor]:
    ids = torch.randint(10, 200, (2, 24), generator=torch.Generator().manual_seed(seed))
    return {"input_ids": ids, "labels": ids, "position_ids": torch.arange(24).expand(2, -1)}


def test_loss_and_gradients_are_those_without_and_weights_leave_between_passes() -> None:
    found = []
    for is_offloaded in (False, True):
        model = tuned(SETTINGS.model_copy(update={"offload": is_offloaded})).train()
        loss = CausalLMLoss(model, 64)(**batch(0))
        assert all(linear.weight.is_meta == is_offloaded for linear in linears(model))
        loss.backward()
        assert all(linear.weight.is_meta == is_offloaded for linear in linears(model))
        found.append((loss, {name: p.grad for name, p in model.named_parameters() if p.requires_grad}))
    (expected, gradients), (total, ours) = found
    assert total.item() == expected.item()
    assert len(linears(model)) == 3 * 7 and ours.keys() == gradients.keys() and len(ours) == 2 * 3 * 7
    for name, gradient in gradients.items():
        torch.testing.assert_close(ours[name], gradient)
    others = [p for name, p in model.named_parameters() if "base_layer" not in name]
    assert not any(p.is_meta for p in others)


def test_a_pass_holds_one_layers_weights_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """The backward pass runs a layer again first, so what autograd holds on to is one layer's."""
    brought: list[weakref.ref[nn.Parameter]] = []
    alive: list[int] = []
    bring = FromHost.pre_forward

    def counted(hook: FromHost, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        found = bring(hook, module, *args, **kwargs)
        brought.append(weakref.ref(module.weight))
        alive.append(sum(weight() is not None for weight in brought))
        return found

    monkeypatch.setattr(FromHost, "pre_forward", counted)
    model = tuned(SETTINGS.model_copy(update={"offload": True})).train()
    loss = CausalLMLoss(model, 64)(**batch(0))
    assert len(alive) == 3 * 7 and max(alive) <= 2
    loss.backward()
    assert len(alive) == 2 * 3 * 7 and 6 <= max(alive) <= 8
    model.gradient_checkpointing_disable()
    alive.clear()
    loss = CausalLMLoss(model, 64)(**batch(0))
    assert alive[-1] == 3 * 7, "all of them are held without, so they are counted as they should be"


def test_training_saves_the_same_adapter(tmp_path: Path) -> None:
    for is_offloaded in (False, True):
        settings = SETTINGS.model_copy(update={"offload": is_offloaded, "gradient_checkpointing": True})
        folder = tmp_path / str(is_offloaded)
        folder.mkdir()
        train(
            tuned(settings), epochs(lambda epoch: iter(map(batch, range(4))), settings, 2), settings, 2, device=CPU,
            on_step=lambda metrics: None, on_checkpoint=lambda step, save, folder=folder: save(folder),
        )  # fmt: skip
    ours, theirs = (load_file(tmp_path / name / "adapter/adapter_model.safetensors") for name in ("True", "False"))
    assert ours.keys() == theirs.keys() and ours
    for name, tensor in theirs.items():
        assert (ours[name] - tensor).norm() <= 1e-3 * tensor.norm(), name
    plain = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_config(CONFIG, dtype=torch.float32), tmp_path / "True/adapter"
    )
    assert plain.peft_config["default"].r == 4


def test_offloaded_weights_take_the_plain_way() -> None:
    from app.training.fused import why_plain

    model = tuned(SETTINGS)
    assert not why_plain(model, SETTINGS)
    assert isinstance(FusedLoss(model, 64), FusedLoss)
    assert "sft.offload" in why_plain(model, SETTINGS.model_copy(update={"offload": True}))
    assert "fsdp" in why_plain(model, SETTINGS.model_copy(update={"parallelism": "fsdp"}))
