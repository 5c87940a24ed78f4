"""Server-sent events with JSON, as OpenAI streams them: `data: {...}` and an empty line, [DONE] at the end; and the
response in which they go to a client."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, cast

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.serving.engine_protocol import Head

DONE = b"data: [DONE]\n\n"


async def events(parts: AsyncIterator[Head | bytes]) -> AsyncIterator[dict[str, Any]]:
    """The events of an answer after its Head, [DONE] left out."""
    rest = b""
    async for part in parts:
        assert isinstance(part, bytes), f"one Head an answer, got {part!r}"
        *whole, rest = (rest + part).split(b"\n\n")
        for event in whole:
            data = event.removeprefix(b"data: ").strip()
            if data and data != b"[DONE]":
                yield json.loads(data)


def event(data: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


class Answer(StreamingResponse):
    """A response that closes what it streams whatever becomes of the client: its place and the engine's work hang on
    it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await cast(AsyncGenerator[bytes, None], self.body_iterator).aclose()
