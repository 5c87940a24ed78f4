"""Operations are counted as the fused layers do them, and the projection gives back what it was made from."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen3Config

from app.models.config import QWEN3_1_7B
from app.planning.cards import CARDS, find_card
from app.planning.speed import fused_flops, plain_flops, training_speed
from app.planning.training_choice import Choice, choice_of, choices
from app.profiles import get_profile
from app.settings import SftSettings
from app.training import lora
from app.training.loss import CausalLMLoss, FusedLoss
from app.training.memory import Shape, shape_of
from app.training.saved_activations import Keep

TINY = LlamaConfig(
    vocab_size=120, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, tie_word_embeddings=True,
)  # fmt: skip
ROWS, LENGTH = 2, 40
PRODUCTS = (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.addmm_)


def in_place(total: Any, left: Any, right: Any, **kwargs: Any) -> int:
    """Operations of addmm_, which torch's counter does not know, from shapes."""
    return 2 * left[0] * left[1] * right[1]


def counted(loss: Any) -> float:
    """Operations a token of all matrix products but attention's, by torch's own counter."""
    ids = torch.randint(120, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    positions = torch.arange(LENGTH).expand(ROWS, LENGTH).contiguous()
    loss.refresh()
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: in_place}) as counter:
        loss(input_ids=ids, labels=ids, position_ids=positions).backward()
    found = counter.get_flop_counts()["Global"]
    return sum(found.get(product, 0) for product in PRODUCTS) / (ROWS * LENGTH)


def reference_shape() -> Shape:
    return shape_of(SimpleNamespace(**QWEN3_1_7B))


@pytest.mark.parametrize("level", list(Keep), ids=lambda level: level.name)
def test_operations_of_fused_layers_are_those_that_torch_counts(level: Keep) -> None:
    sft = SftSettings(lora_r=4, lora_dropout=0.0)
    model = lora.attach(AutoModelForCausalLM.from_config(TINY), sft, 0)
    keep = [level] * 3
    labelled = (LENGTH - 1) / LENGTH
    planned = fused_flops(shape_of(TINY), 4, keep, document=0, labelled=labelled)
    assert planned == pytest.approx(counted(FusedLoss(model, 1024, keep)), rel=1e-9)


def test_operations_of_plain_layers_are_those_that_torch_counts_to_a_few_percent() -> None:
    """Without attention and the share of labels; the first layer's input asks for no gradient there either."""
    sft = SftSettings(lora_r=4, lora_dropout=0.0)
    model = lora.attach(AutoModelForCausalLM.from_config(TINY), sft, 0).train()
    shape = shape_of(TINY)
    planned = plain_flops(shape, sft, seq_len=0)
    assert planned == pytest.approx(counted(CausalLMLoss(model, 16)), rel=0.1)


def test_less_that_is_kept_means_more_operations() -> None:
    shape = reference_shape()
    found = [fused_flops(shape, 16, [level] * 28) for level in Keep]
    assert found == sorted(found, reverse=True) and len(set(found)) == 5


def reference(*options: str) -> Choice:
    """A way to train Qwen3-1.7B by `rtx3070`."""
    return choice_of(reference_shape(), Qwen3Config(**QWEN3_1_7B), get_profile("rtx3070"), options)


@pytest.mark.parametrize(
    ("base", "micro_batch", "tokens_per_s"), [("none", 4, 55_749), ("nf4", 8, 51_836)], ids=["bf16", "NF4"]
)
def test_the_projection_gives_back_what_was_measured(base: str, micro_batch: int, tokens_per_s: float) -> None:
    """On one H200 under 8 GiB (docs/log)."""
    choice = reference(f"model.quantization={base}", f"sft.micro_batch={micro_batch}", "sft.vram_gib=8")
    assert choice.fits
    assert training_speed(CARDS["H200"], reference_shape(), choice) == pytest.approx(tokens_per_s, rel=0.001)


def test_the_reference_card_is_as_fast_as_the_pages_say_as_set_and_at_best() -> None:
    card = find_card("NVIDIA GeForce RTX 3070")
    assert card is not None and card.gib == 8
    assert round(training_speed(card, reference_shape(), reference())) == 2_606
    tried = choices(reference_shape(), Qwen3Config(**QWEN3_1_7B), get_profile("rtx3070"), 2048, 7.0)
    assert round(max(training_speed(card, reference_shape(), choice) for choice in tried if choice.fits)) == 2_830


@pytest.mark.parametrize(
    ("name", "card"),
    [
        ("NVIDIA GeForce RTX 3070", "RTX 3070"),
        ("NVIDIA GeForce RTX 3070 Ti", "RTX 3070 Ti"),
        ("NVIDIA GeForce RTX 3080 Ti", None),
        ("NVIDIA GeForce RTX 4070 SUPER", None),
        ("NVIDIA GeForce RTX 3070 Laptop GPU", None),
        ("NVIDIA GeForce RTX 3070 Ti Laptop GPU", None),
        ("NVIDIA RTX A1000", None),
        ("NVIDIA GH200 480GB", None),
        ("NVIDIA A100-SXM4-40GB", None),
        ("NVIDIA H100 80GB HBM3", "H100 80GB HBM3"),
        ("NVIDIA H100 PCIe", None),
        ("Tesla K80", None),
    ],
)
def test_a_card_is_found_by_whole_words_and_never_as_a_variant_of_it(name: str, card: str | None) -> None:
    found = find_card(name)
    assert (found.name if found else None) == card
