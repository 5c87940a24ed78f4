"""A draft of vLLM stops where the template ends a turn, for a model whose configs name another token."""

import importlib.util
from pathlib import Path

import pytest

from app.models.base import load_tokenizer
from app.prompting.protocols import chat_prompt
from app.records import Draft, FinishReason, Prompt, Sampling
from app.settings import GenerationSettings, ModelSettings
from tests.unit.generation.conftest import HELLO, InVllm

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed; `make setup-dev` does it"
)


def _drafted(folder: str) -> Draft:
    from app.generation.vllm_engine import VllmEngine

    settings = GenerationSettings(engine="vllm", batch_size=2, max_model_len=256, kv_cache_bytes=64 << 20)
    engine = VllmEngine(ModelSettings(source="path", name=folder), settings)
    prompt = Prompt(id="x", text=chat_prompt(load_tokenizer(Path(folder)), HELLO))
    return engine.generate([prompt], Sampling(max_new_tokens=8))[0]


def test_a_draft_of_vllm_stops_at_the_templates_end(silent: Path, in_vllm: InVllm) -> None:
    draft = in_vllm(_drafted, str(silent))
    assert (draft.finish_reason, draft.num_tokens, draft.text) == (FinishReason.STOP, 1, "")
