"""Calls of the client's own functions that a model writes without the tags of its chat template (`bare_calls`), as
calls: an editor or an agent reads `tool_calls`, and does nothing with JSON in the text.

Only where the client leaves the choice to the model, for one answer without log-probabilities. As there, the message
has to begin with the call, its arguments were not held to the schema while they were drawn, and all that is no call is
text.
"""

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from app.serving.engine_protocol import Head
from app.serving.streams import DONE, event, events
from app.serving.tools.bare_calls import BareCalls, wants_json
from app.serving.tools.rounds import Call

Parts = AsyncGenerator[Head | bytes, None]


def functions_called_bare(body: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the client's functions whose calls may come without tags where the model has the choice; none where
    such text stays text."""
    names = tuple(tool["function"]["name"] for tool in body.get("tools", ()) if tool["type"] == "function")
    is_one = body.get("n", 1) == 1 and not body.get("logprobs")
    return names if names and is_one and not wants_json(body["messages"], names) else ()


async def with_bare_calls(parts: Parts, body: Mapping[str, Any], names: tuple[str, ...]) -> Parts:
    """The answer of an engine to this request, with calls where the model wrote calls of these functions as text."""
    most = 1 if body.get("parallel_tool_calls") is False else None
    read = _streamed if body.get("stream") else _whole
    async with aclosing(parts), aclosing(read(parts, BareCalls(names), most)) as heard:
        async for part in heard:
            yield part


async def _whole(parts: Parts, bare: BareCalls, most: int | None) -> Parts:
    head = await anext(parts)
    raw = b"".join([part async for part in parts if isinstance(part, bytes)])
    if isinstance(head, Head) and head.status == 200:
        answer = json.loads(raw)
        choice = answer["choices"][0]
        message = choice["message"]
        bare.add(message.get("content") or "")
        is_whole = choice["finish_reason"] == "stop" and not message.get("tool_calls")
        _, calls = bare.end(is_whole=is_whole)
        if calls:
            message |= {"content": None, "tool_calls": [_as_json(call) for call in calls[:most]]}
            choice["finish_reason"] = "tool_calls"
            raw = json.dumps(answer, ensure_ascii=False).encode()
            others = [header for header in head.headers if header[0].lower() != b"content-length"]
            head = Head(head.status, [*others, (b"content-length", str(len(raw)).encode())])
    yield head
    yield raw


async def _streamed(parts: Parts, bare: BareCalls, most: int | None) -> Parts:
    yield await anext(parts)
    is_calling, unended = False, dict[str, Any]()
    async for chunk in events(parts):
        choice = next(iter(chunk.get("choices") or ()), None)
        if choice is None:
            yield event(chunk)
            continue
        delta, unended = choice["delta"], chunk
        is_calling = is_calling or bool(delta.get("tool_calls"))
        shown, calls = bare.add(delta.get("content") or ""), tuple[Call, ...]()
        if choice.get("finish_reason"):
            rest, calls = bare.end(is_whole=choice["finish_reason"] == "stop" and not is_calling)
            shown, unended = shown + rest, {}
        if "content" in delta:
            delta["content"] = shown
        elif shown:
            yield event({**chunk, "choices": [{**choice, "delta": {"content": shown}, "finish_reason": None}]})
        if calls:
            told = [{"index": index, **_as_json(call)} for index, call in enumerate(calls[:most])]
            yield event({**chunk, "choices": [{**choice, "delta": {"tool_calls": told}, "finish_reason": None}]})
            choice["finish_reason"] = "tool_calls"
        yield event(chunk)
    if unended and (held := bare.end(is_whole=False)[0]):  # it broke off
        yield event({**unended, "choices": [{**unended["choices"][0], "delta": {"content": held}}]})
    yield DONE


def _as_json(call: Call) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
