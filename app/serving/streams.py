"""Server-sent events with JSON, as OpenAI streams them: `data: {...}` and an empty line, [DONE] at the end."""

import json
from collections.abc import AsyncIterator
from typing import Any

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
