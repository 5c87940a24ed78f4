"""A real engine serves, without Ray: answers stop where the template ends a turn, whatever the model's configs say, and
calls of the server's tools hold their schemas although an untrained model writes them.

Here without guessed tokens; tests/e2e/test_serve.py has them.
"""

import asyncio
import importlib.util
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from app.models.base import load_tokenizer
from app.profiles import smoke
from app.prompting.protocols import chat_prompt
from app.serving.edge import Edge
from app.serving.engine_protocol import Head
from app.serving.kinds import CHAT
from app.settings import ModelSettings, ServingSettings
from tests.unit.generation.conftest import HELLO, InVllm
from tests.unit.serving.tools.scripts import BODY, CLIENTS, SEARCH, Answer, Tools, answer

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed; `make setup-dev` does it"
)
ASKED: dict[str, Any] = {"tools": [SEARCH, CLIENTS], "tool_choice": SEARCH, "max_tokens": 80, "seed": 1}
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["query"],
    "properties": {
        "query": {"type": "string", "minLength": 1, "maxLength": 12},
        "source": {"enum": ["python", "fastapi"]},
    },
}
"""That of the search, with fewer tokens."""


class OneEngine:
    """An upstream without Ray."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    async def models(self) -> tuple[list[str], int]:
        return self._engine.models(), self._engine.plan.max_model_len

    def call(self, path: str, body: dict[str, Any]) -> AsyncGenerator[Head | bytes, None]:
        return self._engine.call(path, body)


Found = tuple[list[dict[str, Any]], list[Answer], list[dict[str, Any]]]
"""A chat and a completion that say nothing; answers with a search, whole and as a stream; what was searched for."""


def _served(folder: str) -> Found:
    """In the process of the engine."""
    from app.serving.engine import Engine

    async def found() -> Found:
        settings = smoke().serving.model_copy(update={"speculation": "none", "max_model_len": 1024})
        engine = await Engine.start(ModelSettings(source="path", name=folder), settings, None)
        try:
            return await _said(engine, folder), *await _searched(engine, settings)
        finally:
            engine.close()

    return asyncio.run(found())


async def _said(engine: Any, folder: str) -> list[dict[str, Any]]:
    asked = {"model": engine.name, "max_tokens": 8, "temperature": 0}
    prompt = chat_prompt(load_tokenizer(Path(folder)), HELLO)
    found = []
    for path, more in ((CHAT, {"messages": HELLO}), ("/v1/completions", {"prompt": prompt})):
        parts = [part async for part in engine.call(path, asked | more)]
        found.append(json.loads(b"".join(part for part in parts if isinstance(part, bytes))))
    return found


async def _searched(engine: Any, settings: ServingSettings) -> tuple[list[Answer], list[dict[str, Any]]]:
    tools = Tools()
    tools.available = {"search_docs": {"type": "function", "function": {"name": "search_docs", "parameters": SCHEMA}}}
    transport = httpx.ASGITransport(Edge(OneEngine(engine), settings, tools=tools).app())
    found = []
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        for stream in (False, True):
            body = {**BODY, **ASKED, "model": engine.name, "stream": stream}
            found.append(answer(await client.post(CHAT, json=body, timeout=120)))
    return found, [arguments for _, _, arguments in tools.calls]


@pytest.fixture(scope="module")
def served(silent: Path, in_vllm: InVllm) -> Found:
    found: Found = in_vllm(_served, str(silent))
    return found


def test_a_served_answer_stops_at_the_templates_end(served: Found) -> None:
    chat, completion = served[0]
    assert [answer["choices"][0]["finish_reason"] for answer in (chat, completion)] == ["stop", "stop"], (
        chat,
        completion,
    )
    assert [answer["usage"]["completion_tokens"] for answer in (chat, completion)] == [1, 1]
    assert not chat["choices"][0]["message"]["content"] and not completion["choices"][0]["text"]


def test_a_forced_search_has_arguments_by_its_schema_and_the_answer_goes_on(served: Found) -> None:
    _, found, arguments = served
    assert len(arguments) == 2
    for call in arguments:
        jsonschema.validate(call, SCHEMA)
    for each in found:
        assert [event["status"] for event in each.events][-1] == "ok"
        assert [json.loads(event["arguments"]) for event in each.events][-1] in arguments
        assert each.finish[0] in ("stop", "length", "tool_calls") and "<tool_call>" not in each.content
