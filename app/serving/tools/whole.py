"""An answer in one piece: the engine's last one, with what all rounds said, did and used."""

import json
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from app.serving.engine_protocol import Head
from app.serving.tools.bare_calls import BareCalls
from app.serving.tools.rounds import CALL_TAG, Call, Joined, Round, round_of, summed
from app.serving.tools.tool_events import ToolEvent

Parts = AsyncGenerator[Head | bytes, None]


class WholeAnswer:
    """Implements `app.serving.tools.loop.Form`."""

    def __init__(self, functions: frozenset[str]) -> None:
        """functions: the client's."""
        self._functions = functions
        self._joined = {"content": Joined(), "reasoning": Joined()}
        self._texts = dict.fromkeys(self._joined, "")
        self._told: list[ToolEvent] = []
        self._head: Head | None = None
        self._answer: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}

    async def hear(self, parts: Parts, bare: tuple[str, ...]) -> AsyncGenerator[Head | bytes | Round, None]:
        head = await anext(parts)
        assert isinstance(head, Head), f"an answer begins with its Head, got {head!r}"
        answer = json.loads(b"".join([part async for part in parts if isinstance(part, bytes)]))
        choice = answer["choices"][0]
        message = choice["message"]
        calls = message.get("tool_calls") or []
        theirs = [call for call in calls if call["function"]["name"] in self._functions]
        hidden = tuple(
            Call(id=call["id"], name=call["function"]["name"], arguments=call["function"]["arguments"])
            for call in calls
            if call["function"]["name"] not in self._functions
        )
        texts = {name: message.get(name) or "" for name in self._texts}
        untagged = BareCalls(bare)
        shown = untagged.add(texts["content"].partition(CALL_TAG)[0])  # what follows is a call that was cut off
        rest, found = untagged.end(is_whole=choice["finish_reason"] == "stop" and not calls)
        texts["content"] = shown + rest
        said = round_of(
            texts,
            hidden + found,
            calls_client=bool(theirs),
            finish_reason=choice["finish_reason"],
            tokens=answer["usage"]["completion_tokens"],
        )
        for name, joined in self._joined.items():
            joined.begin()
            self._texts[name] += joined.add(texts[name]) + (joined.end() if said.is_last else "")
        message["tool_calls"] = theirs
        if not theirs and choice["finish_reason"] == "tool_calls":
            choice["finish_reason"] = "stop"
        self._usage = summed(self._usage, answer["usage"])
        first = {name: self._answer.get(name, answer[name]) for name in ("id", "created")}
        self._head, self._answer = head, answer | first
        yield said

    def tell(self, told: ToolEvent) -> Iterator[Head | bytes]:
        if told.status != "started":
            self._told.append(told)
        return iter(())

    def end(self) -> Iterator[Head | bytes]:
        assert self._head is not None
        message = self._answer["choices"][0]["message"]
        message["content"] = self._texts["content"] or (None if message["tool_calls"] else "")
        if self._texts["reasoning"]:
            message["reasoning"] = self._texts["reasoning"]
        message["tool_events"] = [told.as_json() for told in self._told]
        body = json.dumps(self._answer | {"usage": self._usage}, ensure_ascii=False).encode()
        others = [header for header in self._head.headers if header[0].lower() != b"content-length"]
        yield Head(self._head.status, [*others, (b"content-length", str(len(body)).encode())])
        yield body
