"""The page reads the edge's stream of events as text, however it is cut, and shows its errors as one sentence."""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from app.errors import UserError
from app.ide.client import EdgeAssistant
from app.serving.engine_protocol import Head
from app.serving.errors import ApiError, error_event, queue_full, unavailable


class Edge:
    def __init__(self, *parts: Head | bytes | ApiError) -> None:
        self.parts = parts
        self.bodies: list[dict[str, Any]] = []
        self.closed = False

    async def models(self) -> list[str]:
        raise unavailable("the engine is starting: try again soon", 5)

    async def answer(self, path: str, raw: bytes) -> AsyncGenerator[Head | bytes, None]:
        self.bodies.append(json.loads(raw))
        try:
            for part in self.parts:
                if isinstance(part, ApiError):
                    raise part
                yield part
        finally:
            self.closed = True


def piece(text: str) -> bytes:
    return f"data: {json.dumps({'choices': [{'delta': {'content': text}}]})}\n\n".encode()


def read(edge: Edge, limit: int | None = None, tools: Sequence[str] = ()) -> list[Any]:
    async def go() -> list[Any]:
        texts = []
        hi = [{"role": "user", "content": "hi"}]
        chat = EdgeAssistant(edge).chat("sft", hi, max_tokens=9, temperature=0.5, tools=tools)
        async for text in chat:
            texts.append(text)
            if len(texts) == limit:
                break
        await chat.aclose()
        return texts

    return asyncio.run(go())


OK = Head(200, [])
STREAM = piece("Grüße, ") + piece("Welt") + b'data: {"choices": [], "usage": {}}\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_text_is_the_same_however_the_stream_is_cut(size: int) -> None:
    parts = [STREAM[start : start + size] for start in range(0, len(STREAM), size)]
    edge = Edge(OK, *parts)
    assert read(edge) == ["Grüße, ", "Welt"]
    assert edge.bodies[0] == {
        "model": "sft",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 9,
        "temperature": 0.5,
        "stream": True,
        "chat_template_kwargs": {"enable_thinking": False},
    }


def test_calls_and_checks_come_in_their_place_and_later_fields_are_left_out() -> None:
    event = {"index": 0, "id": "1", "type": "search_docs", "status": "ok", "arguments": "{}", "reason": "", "new": 1}
    passage = {"source": "python", "title": "zip", "url": "https://docs.python.org/", "words": 12}
    check = {"drafts": 8, "examples": 2, "passed": 1, "failed": {"example": "f(1) == 2", "got": "1"}, "new": 1}
    chunks = [
        {"choices": [{"delta": {"tool_events": [event | {"passages": [passage]}]}}]},
        {"choices": [{"delta": {"best_of": {"stage": "testing", "drafts": 8}}}]},
        {"choices": [{"delta": {"content": "a"}}]},
        {"choices": [{"delta": {}, "finish_reason": "stop"}], "best_of": check | {"failed": None}},
        {"choices": [], "best_of": check},
    ]
    edge = Edge(OK, *(f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks))
    call, testing, text, passed, failed = read(edge)
    assert call.passages[0].words == 12 and call.status == "ok"
    assert (testing.stage, text, passed.failed) == ("testing", "a", None)
    assert (failed.examples, failed.failed.example, failed.failed.expected) == (2, "f(1) == 2", "")


def test_tools_are_named_in_the_request() -> None:
    edge = Edge(OK, STREAM)
    assert read(edge, tools=("search_docs", "run_python")) == ["Grüße, ", "Welt"]
    assert edge.bodies[0]["tools"] == [{"type": "search_docs"}, {"type": "run_python"}]


def test_stopping_closes_the_request() -> None:
    edge = Edge(OK, piece("a"), piece("b"))
    assert read(edge, limit=1) == ["a"]
    assert edge.closed


@pytest.mark.parametrize(
    "parts",
    [
        (queue_full(2.0),),
        (Head(429, []), json.dumps({"error": {"message": queue_full(2.0).message}}).encode()),
        (OK, piece("a"), error_event(queue_full(2.0)).encode()),
    ],
    ids=["refused", "status", "event"],
)
def test_every_kind_of_error_becomes_its_sentence(parts: Any) -> None:
    with pytest.raises(UserError, match="try again in 2 s"):
        read(Edge(*parts))


def test_models_that_can_not_be_had_say_why() -> None:
    with pytest.raises(UserError, match="starting"):
        asyncio.run(EdgeAssistant(Edge()).models())
