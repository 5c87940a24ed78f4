"""A step's memory is counted from the config as the model has it, and layers keep what fits and no more."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen3Config

from app.models.config import QWEN3_1_7B
from app.models.sizes import GIB
from app.settings import ModelSettings, SftSettings
from app.training.memory import ALLOCATOR, SEGMENTS, choose_keep, plain_step_memory, shape_of, step_memory, use_segments
from app.training.saved_activations import Keep

SMALL: dict[str, Any] = {
    "vocab_size": 300, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 6,
    "num_key_value_heads": 2,
}  # fmt: skip
QWEN3 = Qwen3Config(**QWEN3_1_7B)


def settings(**changes: Any) -> SftSettings:
    return SftSettings(**{"lora_dropout": 0.0, "micro_batch": 4} | changes)


def model(quantization: str = "none") -> ModelSettings:
    return ModelSettings(source="random", name="any", dtype="bfloat16", quantization=quantization)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "config",
    [LlamaConfig(**SMALL, tie_word_embeddings=True), LlamaConfig(**SMALL, tie_word_embeddings=False)],
    ids=["tied", "apart"],
)
def test_parameters_are_counted_as_the_model_has_them(config: LlamaConfig) -> None:
    plain = AutoModelForCausalLM.from_config(config)
    shape = shape_of(config)
    assert shape.linear + shape.others == sum(p.numel() for p in plain.parameters())
    adapted = get_peft_model(plain, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert shape.adapter(4) == sum(p.numel() for p in adapted.parameters() if p.requires_grad)


def test_a_larger_limit_lets_layers_keep_more_and_never_more_than_fits() -> None:
    shape, before = shape_of(QWEN3), -1
    for limit in (5.5, 6.0, 7.0, 8.0, 12.0, 24.0):
        keep = choose_keep(shape, model(), settings(), 2048, limit * GIB)
        assert keep is not None and len(keep) == 28
        assert step_memory(shape, model(), settings(), 2048, keep).total <= limit * GIB
        assert max(keep) - min(keep) <= 1, "every layer gets a level before one gets the next"
        assert sum(keep) > before or keep == [Keep.ALL] * 28
        before = sum(keep)


def test_a_micro_batch_that_does_not_fit_at_all_is_no_choice() -> None:
    assert choose_keep(shape_of(QWEN3), model(), settings(micro_batch=64), 2048, 8 * GIB) is None
    assert choose_keep(shape_of(QWEN3), model(), settings(micro_batch=1), 2048, 3 * GIB) is None


def test_four_bit_weights_leave_room_for_the_layers() -> None:
    shape = shape_of(QWEN3)
    wide, packed = (choose_keep(shape, model(q), settings(), 2048, 7 * GIB) for q in ("none", "nf4"))
    assert wide and packed and sum(packed) > sum(wide)


@pytest.mark.parametrize(
    ("quantization", "micro_batch", "kept", "reserved_gib"),
    [
        ("none", 2, {}, 4.47),
        ("none", 4, {Keep.ATTENTION: 14, Keep.MIDDLE: 14}, 7.65),
        ("none", 4, None, 7.71),
        ("nf4", 4, None, 7.56),
        ("nf4", 8, None, 7.58),
        ("nf4", 8, {}, 4.69),
    ],
)
def test_the_plan_is_at_most_5_percent_above_what_a_card_took(
    quantization: str, micro_batch: int, kept: dict[Keep, int] | None, reserved_gib: float
) -> None:
    """Measured on an H200 with a cap of 8 GiB by `benchmarks/training.py`; without a word the layers kept what fits."""
    shape, sft = shape_of(QWEN3), settings(micro_batch=micro_batch)
    keep = choose_keep(shape, model(quantization), sft, 2048, 8 * GIB)
    if kept is not None:
        keep = [level for level, count in kept.items() for _ in range(count)]
        keep += [Keep.INPUT] * (28 - len(keep))
    assert keep is not None
    planned = step_memory(shape, model(quantization), sft, 2048, keep).total / GIB
    assert reserved_gib <= planned <= 1.05 * reserved_gib


FLOAT32_EMBEDDINGS = 151_936 * 2048 * 2 / GIB
"""What NF4 took more when these were measured: PEFT prepared the base."""


@pytest.mark.parametrize(
    ("quantization", "micro_batch", "reserved_gib"),
    [
        ("nf4", 1, 4.63 - FLOAT32_EMBEDDINGS),
        ("nf4", 2, 5.42 - FLOAT32_EMBEDDINGS),
        ("nf4", 4, 7.41 - FLOAT32_EMBEDDINGS),
        ("none", 1, 6.06),
        ("none", 2, 6.51),
        ("none", 2, 6.16),
    ],
)
def test_the_plan_of_plain_layers_is_at_most_15_percent_above_what_a_card_took(
    quantization: str, micro_batch: int, reserved_gib: float
) -> None:
    """Measured on H200s (docs/log: the loss on labelled positions, and the planner's calibration)."""
    sft = settings(micro_batch=micro_batch, lora_dropout=0.05, gradient_checkpointing=True)
    planned = plain_step_memory(shape_of(QWEN3), model(quantization), sft, 2048).total / GIB
    assert reserved_gib <= planned <= 1.15 * reserved_gib


def test_weights_that_are_cut_take_less_of_each_card_and_never_less_than_their_share() -> None:
    shape, totals = shape_of(QWEN3), []
    for workers in (1, 2, 8):
        cut = settings(parallelism="fsdp", num_workers=workers)
        memory = plain_step_memory(shape, model(), cut, 2048)
        whole = plain_step_memory(shape, model(), settings(num_workers=workers), 2048)
        assert memory.weights >= shape.linear * 2 / workers + shape.others * 2
        assert (memory.weights < whole.weights and memory.adapters < whole.adapters) == (workers > 1)
        assert memory.kept == whole.kept and memory.working == whole.working
        totals.append(memory.total)
    assert totals == sorted(totals, reverse=True)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, SEGMENTS),
        ({"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:256"}, f"max_split_size_mb:256,{SEGMENTS}"),
        (
            {"PYTORCH_ALLOC_CONF": "expandable_segments:False,garbage_collection_threshold:0.8"},
            f"garbage_collection_threshold:0.8,{SEGMENTS}",
        ),
    ],
)
def test_a_running_process_takes_segments_that_grow_and_keeps_what_else_was_asked_of_it(
    asked: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ALLOCATOR:
        monkeypatch.delenv(name, raising=False)
    for name, value in asked.items():
        monkeypatch.setenv(name, value)
    use_segments()
    assert torch._C._accelerator_getAllocatorSettings() == told
