"""Frozen weights leave the device for a time: the model is the same afterwards, whatever was changed meanwhile."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from app.training.fused import FusedDecoder
from app.training.parked import ParkedWeights
from tests.tiny_model import write_model

CPU = torch.device("cpu")


@pytest.fixture
def model(tmp_path: Path) -> Any:
    write_model(tmp_path, ["left", "right"])
    base = AutoModelForCausalLM.from_pretrained(tmp_path)
    # as weights on a card are: loaded ones are views of the file here, which nothing can empty
    for parameter in base.parameters():
        parameter.data = parameter.data.clone()
    return get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))


def frozen_bytes(model: Any) -> int:
    held = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in model.parameters()
            if not p.requires_grad and p.untyped_storage().nbytes()}  # fmt: skip
    return sum(held.values())


def test_the_model_says_the_same_after_a_round_trip(model: Any) -> None:
    ids = torch.tensor([[2, 4, 5, 3, 5]])
    before = model(input_ids=ids).logits.detach().clone()
    parked = ParkedWeights(model, CPU)
    for _ in range(2):
        parked.leave()
        parked.come_back()
    assert torch.equal(model(input_ids=ids).logits, before)


def test_nothing_of_the_frozen_weights_stays_on_the_device(model: Any) -> None:
    parked, whole = ParkedWeights(model, CPU), frozen_bytes(model)
    parked.leave()
    assert whole > 0 and frozen_bytes(model) == 0
    assert all(p.untyped_storage().nbytes() for p in model.parameters() if p.requires_grad)
    parked.come_back()
    assert frozen_bytes(model) == whole


def test_blocks_of_fused_layers_come_back_with_the_adapter_as_it_was_last(model: Any) -> None:
    decoder = FusedDecoder(model)
    ids = torch.tensor([[2, 4, 5, 3, 5, 4, 4, 5]])
    positions = torch.arange(8)[None]
    parked = ParkedWeights(model, CPU)
    parked.leave()  # an earlier version of B goes to main memory
    parked.come_back()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter += 0.1
    decoder.refresh()
    before = decoder(ids, positions).detach().clone()
    parked.leave()
    assert frozen_bytes(model) == 0
    parked.come_back()
    assert torch.equal(decoder(ids, positions), before)
