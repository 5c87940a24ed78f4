"""The plan's arithmetic: what a card is left for the cache, and that it says so when nothing is."""

from pathlib import Path

import pytest
from transformers import AutoConfig, LlamaConfig, Qwen3Config

from app.errors import UserError
from app.models.config import QWEN3_1_7B
from app.models.sizes import GIB
from app.profiles import laptop, rtx3070
from app.serving.plan import BLOCK, plan_serving, sizes_of


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qwen3-1.7b")
    Qwen3Config(**QWEN3_1_7B).save_pretrained(folder)
    return folder


def test_sizes_of_qwen3_from_its_config_alone(qwen: Path) -> None:
    sizes = sizes_of(AutoConfig.from_pretrained(qwen))
    assert sizes.linear == 28 * (2048 * (2048 + 2 * 1024 + 2048) + 3 * 2048 * 6144)
    assert sizes.linear + sizes.others == 1_720_574_976  # as published
    assert sizes.cache_per_token == 2 * 28 * 8 * 128


def test_a_card_with_8_gib_holds_the_model_in_4_bits_and_a_cache_for_its_longest_request(qwen: Path) -> None:
    profile = rtx3070()
    plan = plan_serving(qwen, profile.model, profile.serving)
    taken = plan.weights_gib + plan.adapters_gib + plan.working_gib + plan.cache_gib
    assert taken == pytest.approx(8 * 0.9)
    assert plan.cache_tokens * 2 * 28 * 8 * 128 * 2 <= plan.cache_gib * GIB
    assert plan.max_model_len == profile.serving.max_model_len <= plan.cache_tokens


def test_the_cache_decides_how_long_a_request_may_be(qwen: Path) -> None:
    profile = rtx3070()
    tight = profile.serving.model_copy(update={"vram_gib": 3.2})
    plan = plan_serving(qwen, profile.model, tight)
    assert plan.max_model_len == plan.cache_tokens < profile.serving.max_model_len
    blocks = plan.cache_gib * GIB / (2 * 28 * 8 * 128 * 2 * BLOCK)
    assert plan.cache_tokens == (int(blocks) - 1) * BLOCK, "vLLM takes whole blocks and keeps one back"


def test_a_draft_models_weights_and_cache_are_counted(qwen: Path) -> None:
    profile = rtx3070()
    alone = plan_serving(qwen, profile.model, profile.serving)
    drafted = plan_serving(qwen, profile.model, profile.serving.model_copy(update={"speculation": "draft_model"}))
    assert drafted.weights_gib == pytest.approx(alone.weights_gib + 1.0)
    assert drafted.cache_tokens == pytest.approx(drafted.cache_gib / alone.cache_gib * alone.cache_tokens / 2, rel=0.02)


def test_a_card_without_room_names_what_to_change(qwen: Path) -> None:
    profile = rtx3070()
    with pytest.raises(UserError, match="raise serving.vram_gib"):
        plan_serving(qwen, profile.model, profile.serving.model_copy(update={"vram_gib": 2.0}))


def test_an_untied_head_is_counted_apart_from_linear_layers() -> None:
    tied, untied = (
        sizes_of(
            LlamaConfig(
                vocab_size=1000, hidden_size=64, intermediate_size=128, num_hidden_layers=2, tie_word_embeddings=tie
            )
        )
        for tie in (True, False)
    )
    assert untied.others - tied.others == 1000 * 64
    assert untied.linear == tied.linear


def test_without_a_card_the_cache_is_what_the_settings_give(qwen: Path) -> None:
    settings = laptop().serving
    plan = plan_serving(qwen, laptop().model, settings)
    assert plan.cache_gib * GIB == settings.kv_cache_bytes
