"""Calls of the server's tools hold their schemas although an untrained model writes them: the loop over a real engine.

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

from app.profiles import smoke
from app.serving.edge import Edge
from app.serving.engine_protocol import Head
from app.serving.kinds import CHAT
from app.settings import ModelSettings
from tests.unit.generation.conftest import InVllm
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


def _answered(folder: str, speculation: str) -> tuple[list[Answer], list[dict[str, Any]]]:
    from app.serving.engine import Engine

    async def answers() -> tuple[list[Answer], list[dict[str, Any]]]:
        settings = smoke().serving.model_copy(update={"speculation": speculation, "max_model_len": 1024})
        engine = await Engine.start(ModelSettings(source="path", name=folder), settings, None)
        tools = Tools()
        tools.available = {
            "search_docs": {"type": "function", "function": {"name": "search_docs", "parameters": SCHEMA}}
        }
        transport = httpx.ASGITransport(Edge(OneEngine(engine), settings, tools=tools).app())
        found = []
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            for stream in (False, True):
                body = {**BODY, **ASKED, "model": engine.name, "stream": stream}
                found.append(answer(await client.post(CHAT, json=body, timeout=120)))
        engine.close()
        return found, [arguments for _, _, arguments in tools.calls]

    return asyncio.run(answers())


def test_a_forced_search_has_arguments_by_its_schema_and_the_answer_goes_on(smoke_model: Path, in_vllm: InVllm) -> None:
    found, arguments = in_vllm(_answered, str(smoke_model), "none")
    assert len(arguments) == 2
    for call in arguments:
        jsonschema.validate(call, SCHEMA)
    for each in found:
        assert [event["status"] for event in each.events][-1] == "ok"
        assert [json.loads(event["arguments"]) for event in each.events][-1] in arguments
        assert each.finish[0] in ("stop", "length", "tool_calls") and "<tool_call>" not in each.content
