"""vLLM stops where the template ends a turn, drafting and serving, for a model whose configs name another token."""

import asyncio
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from app.models.base import load_tokenizer
from app.profiles import smoke
from app.prompting.protocols import chat_prompt
from app.records import Draft, FinishReason, Prompt, Sampling
from app.settings import GenerationSettings, ModelSettings
from tests.unit.generation.conftest import InVllm
from tests.unit.prompting.test_turn_ends import first_token, relabelled

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed; `make setup-dev` does it"
)
MESSAGES = [{"role": "user", "content": "Say hello."}]


@pytest.fixture(scope="module")
def base(smoke_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draws the template's end first, when asked to say hello."""
    prompt = chat_prompt(load_tokenizer(smoke_model), MESSAGES)
    return relabelled(smoke_model, tmp_path_factory.mktemp("models") / "base", first_token(smoke_model, prompt))


def _drafted(folder: str) -> Draft:
    from app.generation.vllm_engine import VllmEngine

    settings = GenerationSettings(engine="vllm", batch_size=2, max_model_len=256, kv_cache_bytes=64 << 20)
    engine = VllmEngine(ModelSettings(source="path", name=folder), settings)
    prompt = Prompt(id="x", text=chat_prompt(load_tokenizer(Path(folder)), MESSAGES))
    return engine.generate([prompt], Sampling(max_new_tokens=8))[0]


def _served(folder: str) -> list[dict[str, Any]]:
    from app.serving.engine import Engine

    async def answers() -> list[dict[str, Any]]:
        engine = await Engine.start(ModelSettings(source="path", name=folder), smoke().serving, None)
        asked = {"model": engine.name, "max_tokens": 8, "temperature": 0}
        prompt = chat_prompt(load_tokenizer(Path(folder)), MESSAGES)
        found = []
        for path, more in (("/v1/chat/completions", {"messages": MESSAGES}), ("/v1/completions", {"prompt": prompt})):
            parts = [part async for part in engine.call(path, asked | more)]
            found.append(json.loads(b"".join(part for part in parts if isinstance(part, bytes))))
        engine.close()
        return found

    return asyncio.run(answers())


def test_a_draft_of_vllm_stops_at_the_templates_end(base: Path, in_vllm: InVllm) -> None:
    draft = in_vllm(_drafted, str(base))
    assert (draft.finish_reason, draft.num_tokens, draft.text) == (FinishReason.STOP, 1, "")


def test_a_served_answer_stops_at_the_templates_end(base: Path, in_vllm: InVllm) -> None:
    chat, completion = in_vllm(_served, str(base))
    assert [answer["choices"][0]["finish_reason"] for answer in (chat, completion)] == ["stop", "stop"], (
        chat,
        completion,
    )
    assert [answer["usage"]["completion_tokens"] for answer in (chat, completion)] == [1, 1]
    assert not chat["choices"][0]["message"]["content"] and not completion["choices"][0]["text"]
