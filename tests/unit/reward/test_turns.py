"""Trainer and engine take turns on a card of 8 GiB: each fits beside what the other one keeps, and nothing is learnt
otherwise for it."""

import string
from pathlib import Path

import pytest
from transformers import Qwen2Config, Qwen3Config

from app.generation.transformers_engine import TransformersEngine
from app.models.adapters import WEIGHTS
from app.models.config import QWEN3_1_7B
from app.overrides import with_overrides
from app.planning.speed import drafting_memory
from app.profiles import laptop, rtx3070
from app.reward.by_reward import learning
from app.reward.turns import ASLEEP_GIB, engine_settings, idle_trainer_gib, trainer_gib
from app.settings import Profile
from app.training.memory import CONTEXT_GIB, GIB, choose_keep, shape_of, step_memory
from tests.tiny_model import write_model
from tests.unit.reward.letters import CPU, PROBLEMS, LikesVowels, profile_of

CARD_GIB = 8.0
QWEN3 = Qwen3Config(**QWEN3_1_7B)
CODER = {
    "0.5B": Qwen2Config(vocab_size=151936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24,
                        num_attention_heads=14, num_key_value_heads=2, tie_word_embeddings=True),
    "1.5B": Qwen2Config(vocab_size=151936, hidden_size=1536, intermediate_size=8960, num_hidden_layers=28,
                        num_attention_heads=12, num_key_value_heads=2, tie_word_embeddings=True),
}  # fmt: skip
CASES = [
    pytest.param(QWEN3, rtx3070(), id="Qwen3-1.7B, nf4"),
    *(
        pytest.param(config, with_overrides(rtx3070(), [f"model.quantization={base}"]), id=f"{name}, {base}")
        for name, config in CODER.items()
        for base in ("none", "nf4")
    ),
]


@pytest.mark.parametrize(("config", "profile"), CASES)
def test_the_trainer_fits_beside_a_sleeping_engine(config: Qwen3Config, profile: Profile) -> None:
    shape, grm = shape_of(config), profile.grm
    sft = profile.sft.model_copy(update={"micro_batch": grm.micro_batch, "lora_r": grm.lora_r})
    keep = choose_keep(shape, profile.model, sft, grm.seq_len, trainer_gib(profile) * GIB)
    assert keep is not None
    taken = step_memory(shape, profile.model, sft, grm.seq_len, keep).total / GIB
    assert taken + CONTEXT_GIB + ASLEEP_GIB <= CARD_GIB


@pytest.mark.parametrize(("config", "profile"), CASES)
def test_the_engine_fits_beside_an_idle_trainer_with_a_cache_for_sixteen_drafts(
    config: Qwen3Config, profile: Profile
) -> None:
    settings = engine_settings(profile, config)
    parts = drafting_memory(shape_of(config), profile.model, settings, profile.grm.max_new_tokens)
    assert sum(parts.values()) + idle_trainer_gib(profile, config) <= CARD_GIB + 1e-6
    a_token = 2 * shape_of(config).layers * shape_of(config).keys * 2
    assert parts["cache"] * GIB / a_token >= 16 * 1024 * 0.9  # drafts of 512 tokens with prompts of 400


def test_without_a_card_nothing_is_shared() -> None:
    profile = laptop()
    assert trainer_gib(profile) == profile.sft.vram_gib
    assert engine_settings(profile, QWEN3) == profile.generation


def test_a_trainer_whose_weights_leave_between_its_steps_learns_the_same(tmp_path: Path) -> None:
    write_model(tmp_path / "model", list(string.ascii_lowercase))
    profile = profile_of(tmp_path / "model", "grm.steps=2", "grm.num_drafts=8", "grm.max_new_tokens=32")
    adapters = []
    for name, engine_sleeps in (("turns", True), ("both", False)):
        engine = TransformersEngine(profile.model, profile.generation)
        learnt = learning.learn(
            tmp_path / name, profile, PROBLEMS, engine, LikesVowels(), CPU, engine_sleeps=engine_sleeps
        )
        adapters.append((learnt / WEIGHTS).read_bytes())
    assert adapters[0] == adapters[1]
