"""The edge's answers in the form of Anthropic's Messages API: whole, as a stream of blocks, and counts.

An answer is a list of blocks: thinking, text, tool_use, in the order in which the model wrote them. A stream opens one
block after the other. `tool_events` (what the server's own tools did) and `best_of` (what a tested answer passed) are
not Anthropic's: clients that don't know them leave them out.
"""

import json
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any

from app.serving.engine_protocol import Head
from app.serving.errors import ApiError, anthropic_body, internal
from app.serving.streams import events

Parts = AsyncGenerator[Head | bytes, None]
STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


async def as_messages(parts: Parts, body: dict[str, Any]) -> Parts:
    """What a chat's answer is in Anthropic's form. body: the checked chat."""
    async with aclosing(parts):
        head = await anext(parts)
        assert isinstance(head, Head), f"an answer begins with its Head, got {head!r}"
        if not body.get("stream"):
            answer = json.loads(b"".join([part async for part in parts if isinstance(part, bytes)]))
            for part in _whole(head, message(answer, body.get("stop", ()))):
                yield part
            return
        yield head
        growing = _Growing(body.get("stop", ()))
        async for chunk in events(parts):
            for event in growing.take(chunk):
                yield event
        if not growing.is_whole:  # cut off, which is no end of an answer
            raise internal()
        for event in growing.end():
            yield event


async def as_count(parts: Parts, body: dict[str, Any]) -> Parts:
    """The number of tokens out of what the engine's tokenizer said."""
    async with aclosing(parts):
        head = await anext(parts)
        assert isinstance(head, Head), f"an answer begins with its Head, got {head!r}"
        answer = json.loads(b"".join([part async for part in parts if isinstance(part, bytes)]))
        for part in _whole(head, {"input_tokens": answer["count"]}):
            yield part


def message(answer: dict[str, Any], stops: Any) -> dict[str, Any]:
    """A whole chat answer as a message. stops: the client's stop sequences."""
    choice = answer["choices"][0]
    said = choice["message"]
    blocks: list[dict[str, Any]] = []
    if thoughts := said.get("reasoning"):
        blocks.append({"type": "thinking", "thinking": thoughts, "signature": ""})
    if text := said.get("content"):
        blocks.append({"type": "text", "text": text})
    for call in said.get("tool_calls") or ():
        function = call["function"]
        blocks.append(
            {"type": "tool_use", "id": call["id"], "name": function["name"], "input": _input(function["arguments"])}
        )
    return {
        **_beginning(answer["id"], answer["model"]),
        "content": blocks,
        **_ending(choice, stops, calls=bool(said.get("tool_calls"))),
        "usage": _usage(answer["usage"]),
        **({"tool_events": said["tool_events"]} if said.get("tool_events") else {}),
        **({"best_of": answer["best_of"]} if "best_of" in answer else {}),
    }


def error_event(error: ApiError) -> bytes:
    return _event(anthropic_body(error))


def model_cards(cards: list[dict[str, Any]]) -> dict[str, Any]:
    """OpenAI's cards of models as Anthropic's list."""
    data = [model_card(card) for card in cards]
    return {"data": data, "has_more": False, "first_id": data[0]["id"], "last_id": data[-1]["id"]}


def model_card(card: dict[str, Any]) -> dict[str, Any]:
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(card["created"]))
    room = {"max_input_tokens": card["max_model_len"], "max_tokens": card["max_model_len"]}
    return {"type": "model", "id": card["id"], "display_name": card["id"], "created_at": created, **room}


class _Growing:
    """A stream of a chat, block by block."""

    def __init__(self, stops: Any) -> None:
        self._stops = stops
        self._is_open = False
        self._block: tuple[str, int] | None = None
        """Kind of the open block, and of a call its number in the chat."""
        self._number = -1
        self._choice: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._told: list[Any] = []
        self._best_of: dict[str, Any] = {}
        self._has_called = False

    @property
    def is_whole(self) -> bool:
        return bool(self._choice)

    def take(self, chunk: dict[str, Any]) -> Iterator[bytes]:
        if not self._is_open:
            self._is_open = True
            start = {**_beginning(chunk["id"], chunk["model"]), "content": [], "stop_reason": None}
            start |= {"stop_sequence": None, "usage": _usage({})}
            yield _event({"type": "message_start", "message": start})
        self._usage = chunk.get("usage") or self._usage
        choice = next(iter(chunk["choices"]), None)
        if choice is None:
            return
        if choice.get("finish_reason"):
            self._choice = choice
            self._best_of = {"best_of": chunk["best_of"]} if "best_of" in chunk else {}
        delta = choice["delta"]
        self._told += [told for told in delta.get("tool_events") or () if told["status"] != "started"]
        if thought := delta.get("reasoning"):
            yield from self._in_block(("thinking", 0), {"type": "thinking", "thinking": "", "signature": ""})
            yield self._delta({"type": "thinking_delta", "thinking": thought})
        if text := delta.get("content"):
            yield from self._in_block(("text", 0), {"type": "text", "text": ""})
            yield self._delta({"type": "text_delta", "text": text})
        for call in delta.get("tool_calls") or ():
            yield from self._call(call)

    def _call(self, call: dict[str, Any]) -> Iterator[bytes]:
        self._has_called = True
        function = call.get("function") or {}
        block: dict[str, Any] = {"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": {}}
        yield from self._in_block(("tool_use", call["index"]), block)
        if arguments := function.get("arguments"):
            yield self._delta({"type": "input_json_delta", "partial_json": arguments})

    def end(self) -> Iterator[bytes]:
        yield from self._closed()
        ending = _ending(self._choice, self._stops, calls=self._has_called) | self._best_of
        ending |= {"tool_events": self._told} if self._told else {}
        yield _event({"type": "message_delta", "delta": ending, "usage": _usage(self._usage)})
        yield _event({"type": "message_stop"})

    def _in_block(self, block: tuple[str, int], content: dict[str, Any]) -> Iterator[bytes]:
        """Close the block that is open and open this one, unless it is the open one."""
        if self._block == block:
            return
        yield from self._closed()
        self._block, self._number = block, self._number + 1
        yield _event({"type": "content_block_start", "index": self._number, "content_block": content})

    def _closed(self) -> Iterator[bytes]:
        if self._block is not None:
            self._block = None
            yield _event({"type": "content_block_stop", "index": self._number})

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _event({"type": "content_block_delta", "index": self._number, "delta": delta})


def _whole(head: Head, content: dict[str, Any]) -> Iterator[Head | bytes]:
    body = json.dumps(content, ensure_ascii=False).encode()
    others = [header for header in head.headers if header[0].lower() != b"content-length"]
    yield Head(head.status, [*others, (b"content-length", str(len(body)).encode())])
    yield body


def _event(data: dict[str, Any]) -> bytes:
    return f"event: {data['type']}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def _beginning(chat_id: str, model: str) -> dict[str, Any]:
    identity = "msg_" + chat_id.removeprefix("chatcmpl-")
    return {"id": identity, "type": "message", "role": "assistant", "model": model}


def _ending(choice: dict[str, Any], stops: Any, *, calls: bool) -> dict[str, Any]:
    """Clients look at the reason to see whether to run something: the engine says "stop" of calls that were forced."""
    matched = choice.get("stop_reason")
    if choice["finish_reason"] == "stop" and matched in stops:
        return {"stop_reason": "stop_sequence", "stop_sequence": matched}
    reason = "tool_calls" if calls and choice["finish_reason"] == "stop" else choice["finish_reason"]
    return {"stop_reason": STOP_REASONS.get(reason, "end_turn"), "stop_sequence": None}


def _usage(usage: dict[str, Any]) -> dict[str, Any]:
    cached = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    tokens = {"input_tokens": usage.get("prompt_tokens", 0), "output_tokens": usage.get("completion_tokens") or 0}
    return tokens | cached


def _input(arguments: str) -> dict[str, Any]:
    """A call's arguments as the object that Anthropic's form has; what is none is handed on as text."""
    try:
        value = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"arguments": arguments}
