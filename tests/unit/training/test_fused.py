"""The fused layers give the loss and the gradients of transformers and PEFT, whatever they keep of the forward pass."""

from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

from app.records import IGNORE
from app.settings import SftSettings
from app.training import lora
from app.training.fused import FusedDecoder, why_not
from app.training.loss import CausalLMLoss, FusedLoss
from app.training.saved_activations import Keep

SHAPE: dict[str, Any] = {
    "vocab_size": 200, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 6,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "tie_word_embeddings": True,
}  # fmt: skip
CONFIGS = [Qwen3Config(**SHAPE, head_dim=16), LlamaConfig(**SHAPE), Qwen2Config(**SHAPE)]


def tuned(config: Any, **changes: Any) -> PeftModel:
    """A model with an adapter, none of whose weights is trivial."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    for name, parameter in model.named_parameters():
        if "norm" in name or "bias" in name:
            parameter.data = torch.randn_like(parameter) * 0.3 + 1
    settings = SftSettings(**{"lora_r": 4, "lora_alpha": 8, "lora_dropout": 0.0} | changes)
    adapted = lora.attach(model, settings, 0)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn_like(parameter) * 0.1
    return adapted


def packed_rows() -> dict[str, torch.Tensor]:
    """Two rows, the first of three documents; the loss leaves out some tokens."""
    positions = torch.cat([torch.arange(length) for length in (5, 9, 10, 24)]).view(2, 24)
    ids = torch.randint(0, 200, (2, 24), generator=torch.Generator().manual_seed(1))
    labels = ids.clone()
    labels[0, :3] = IGNORE
    return {"input_ids": ids, "labels": labels, "position_ids": positions}


def loss_and_gradients(model: PeftModel, loss: torch.nn.Module) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    total = loss(**packed_rows())
    total.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return total.item(), found


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
@pytest.mark.parametrize("keep", list(Keep), ids=lambda keep: keep.name)
def test_fused_layers_give_the_loss_and_gradients_of_the_plain_model(config: Any, keep: Keep) -> None:
    model = tuned(config)
    expected, gradients = loss_and_gradients(model, CausalLMLoss(model, 64))
    total, found = loss_and_gradients(model, FusedLoss(model, 7, [keep] * 3))  # chunks of 7: the last is shorter
    assert total == pytest.approx(expected, rel=1e-6)
    assert found.keys() == gradients.keys() and len(found) == 3 * 7 * 2
    for name, gradient in gradients.items():
        assert (found[name] - gradient).norm() < 2e-4 * gradient.norm(), name


def test_each_layer_keeps_what_it_is_told_to() -> None:
    model = tuned(CONFIGS[0])
    expected = loss_and_gradients(model, FusedLoss(model, 64))
    mixed = loss_and_gradients(model, FusedLoss(model, 64, [Keep.ALL, Keep.HEADS, Keep.INPUT]))
    assert mixed[0] == expected[0]
    assert all(torch.allclose(mixed[1][name], gradient, atol=1e-6) for name, gradient in expected[1].items())


def test_a_step_of_the_optimiser_reaches_the_fused_layers_once_they_are_refreshed() -> None:
    """AdamW's fused form changes parameters without telling autograd, so nothing but `refresh` can see it."""
    model = tuned(CONFIGS[0])
    loss = FusedLoss(model, 64)
    before, _ = loss_and_gradients(model, loss)
    torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1, fused=True).step()
    loss.decoder.refresh()
    after = loss(**packed_rows()).item()
    assert after != pytest.approx(before, rel=1e-3)
    assert after == pytest.approx(CausalLMLoss(model, 64)(**packed_rows()).item(), rel=1e-6)


def test_a_batch_without_labels_has_no_loss_and_no_gradient() -> None:
    model = tuned(CONFIGS[0])
    batch = packed_rows()
    batch["labels"] = torch.full_like(batch["labels"], IGNORE)
    total = FusedLoss(model, 64)(**batch)
    total.backward()
    assert total.item() == 0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_the_base_weights_stay_the_models_own() -> None:
    """Groups share memory with the layers, so a saved or merged model is what it was."""
    model = tuned(CONFIGS[2])
    held = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    FusedDecoder(model)
    assert all(torch.equal(tensor, held[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "said"), [({"lora_dropout": 0.1}, "LoRA dropout is on"), ({}, "activation is gelu")]
)
def test_a_model_that_cannot_go_this_way_is_told_why(changes: dict[str, Any], said: str) -> None:
    config = CONFIGS[0] if changes else LlamaConfig(**SHAPE, hidden_act="gelu")
    model = tuned(config, **changes)
    assert said in why_not(model)
    with pytest.raises(ValueError, match=said):
        FusedDecoder(model)
