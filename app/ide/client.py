"""The assistant behind the page: the edge's own answers, read as a stream of text, calls of tools and checks.

The page asks as any client does, through the same checks and the same queue; only HTTP and the key are left out, since
the page itself is behind the guard. `actors.ide` gives it the edge.
"""

import json
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from app.errors import UserError
from app.ide.backend import Piece
from app.ide.best_of import best_of_from
from app.serving.engine_protocol import Head
from app.serving.errors import ApiError
from app.serving.kinds import CHAT
from app.serving.streams import events
from app.serving.tools.tool_events import event_from


class EdgeHandle(Protocol):
    """`app.serving.edge.Edge` from another process. Raises ApiError as the edge does."""

    async def models(self) -> list[str]: ...

    def answer(self, path: str, raw: bytes) -> AsyncGenerator[Head | bytes, None]: ...


class EdgeAssistant:
    """An implementation of `app.ide.backend.Assistant`."""

    def __init__(self, edge: EdgeHandle) -> None:
        self._edge = edge

    async def models(self) -> list[str]:
        try:
            return await self._edge.models()
        except ApiError as error:
            raise UserError(error.message) from None

    async def chat(
        self,
        model: str,
        messages: list[dict[str, str]],
        *,
        max_tokens: int,
        temperature: float | None,
        tools: Sequence[str] = (),
    ) -> AsyncGenerator[Piece, None]:
        body: dict[str, Any] = {
            "model": model,
            "messages": messages,
            "max_tokens": max_tokens,
            "stream": True,
            "chat_template_kwargs": {"enable_thinking": False},  # as the adapters were trained
        }
        if temperature is not None:
            body["temperature"] = temperature
        if tools:
            body["tools"] = [{"type": name} for name in tools]
        try:
            async with aclosing(self._edge.answer(CHAT, json.dumps(body).encode())) as parts:
                head = await anext(parts)
                if isinstance(head, Head) and head.status != 200:
                    raise UserError(
                        _message(json.loads(b"".join([part async for part in parts if isinstance(part, bytes)])))
                    )
                async for event in events(parts):
                    if "error" in event:
                        raise UserError(_message(event))
                    for piece in _pieces(event):
                        yield piece
        except ApiError as error:
            raise UserError(error.message) from None


def _pieces(event: dict[str, Any]) -> Iterator[Piece]:
    for choice in event["choices"]:
        delta = choice["delta"]
        yield from map(event_from, delta.get("tool_events") or ())
        if found := delta.get("best_of"):
            yield best_of_from(found)
        if text := delta.get("content"):
            yield text
    if found := event.get("best_of"):
        yield best_of_from(found)


def _message(answer: dict[str, Any]) -> str:
    return str(answer["error"]["message"])
