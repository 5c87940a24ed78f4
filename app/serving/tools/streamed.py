"""An answer that grows before the client's eyes: the engine's streams of several rounds as one stream.

Text is passed on as it comes. Calls of the server's tools are held back, those of the client's functions are numbered
as if they were alone. One id, one beginning, one finish_reason, one usage over all rounds.
"""

from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from typing import Any

from app.serving.engine_protocol import Head
from app.serving.streams import DONE, event, events
from app.serving.tools.bare_calls import BareCalls
from app.serving.tools.rounds import Call, Joined, Round, round_of, summed
from app.serving.tools.tool_events import ToolEvent

Parts = AsyncGenerator[Head | bytes, None]
TEXTS = ("reasoning", "content")


@dataclass(slots=True)
class _Growing:
    """A call whose deltas are still coming. shown: its number among the client's, if it is one of those."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    shown: int | None = None


class _Hearing:
    """What one round has said so far."""

    def __init__(self, functions: frozenset[str], bare: tuple[str, ...]) -> None:
        self._functions = functions
        self._bare = BareCalls(bare)
        self._found: tuple[Call, ...] = ()
        self._calls: dict[int, _Growing] = {}
        self._texts: dict[str, list[str]] = {name: [] for name in TEXTS}
        self.finish_reason = "stop"
        self.usage: dict[str, Any] = {}

    def take(self, chunk: dict[str, Any]) -> dict[str, Any]:
        """The chunk's delta without what the client doesn't see."""
        self.usage = chunk.get("usage") or self.usage
        choice = next(iter(chunk["choices"]), None)
        if choice is None:
            return {}
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        delta = self._heard({name: choice["delta"].get(name) or "" for name in TEXTS})
        calls = [call for piece in choice["delta"].get("tool_calls") or () if (call := self._shown(piece))]
        return delta | ({"tool_calls": calls} if calls else {})

    def end(self) -> dict[str, Any]:
        """What was held back, when all has come."""
        rest, self._found = self._bare.end(is_whole=self.finish_reason == "stop" and not self._calls)
        self._texts["content"].append(rest)
        return {"content": rest}

    def _heard(self, texts: dict[str, str]) -> dict[str, Any]:
        texts["content"] = self._bare.add(texts["content"])
        for name, text in texts.items():
            self._texts[name].append(text)
        return dict(texts)

    def _shown(self, piece: dict[str, Any]) -> dict[str, Any] | None:
        call = self._calls.setdefault(piece["index"], _Growing())
        function = piece.get("function") or {}
        call.id = call.id or piece.get("id") or ""
        call.name += function.get("name") or ""
        call.arguments.append(function.get("arguments") or "")
        if call.name not in self._functions:
            return None
        if call.shown is None:
            call.shown = sum(other.shown is not None for other in self._calls.values())
        return {**piece, "index": call.shown}

    def whole(self) -> Round:
        hidden = tuple(
            Call(id=call.id, name=call.name, arguments="".join(call.arguments))
            for call in self._calls.values()
            if call.shown is None
        )
        return round_of(
            {name: "".join(pieces) for name, pieces in self._texts.items()},
            hidden + self._found,
            calls_client=len(hidden) < len(self._calls),
            finish_reason=self.finish_reason,
            tokens=self.usage.get("completion_tokens", 0),
        )


class StreamedAnswer:
    """Implements `app.serving.tools.loop.Form`."""

    def __init__(self, functions: frozenset[str], *, include_usage: bool) -> None:
        """functions: the client's; include_usage: whether it asked for the count of tokens."""
        self._functions, self._include_usage = functions, include_usage
        self._texts = {name: Joined() for name in TEXTS}
        self._head: Head | None = None
        self._chunk: dict[str, Any] = {}
        """What all chunks have: id, object, created, model."""
        self._is_open = False
        self._num_told = 0
        self._usage: dict[str, Any] = {}
        self._finish_reason = "stop"

    async def hear(self, parts: Parts, bare: tuple[str, ...]) -> AsyncGenerator[Head | bytes | Round, None]:
        hearing = _Hearing(self._functions, bare)
        for text in self._texts.values():
            text.begin()
        head = await anext(parts)
        assert isinstance(head, Head), f"an answer begins with its Head, got {head!r}"
        self._head = head
        async for chunk in events(parts):
            self._chunk = self._chunk or {name: chunk[name] for name in ("id", "object", "created", "model")}
            delta = hearing.take(chunk)
            for part in self._passed_on({**delta, **self._joined(delta)}):
                yield part
        for part in self._passed_on(self._joined(hearing.end())):
            yield part
        said = hearing.whole()
        self._usage = summed(self._usage, hearing.usage)
        if said.is_last:
            self._finish_reason = hearing.finish_reason
            for part in self._passed_on({name: text.end() for name, text in self._texts.items()}):
                yield part
        yield said

    def tell(self, told: ToolEvent) -> Iterator[Head | bytes]:
        index, self._num_told = self._num_told, self._num_told + 1  # helpers of clients put lists together by it
        yield from self._passed_on({"tool_events": [{"index": index, **told.as_json()}]})

    def end(self) -> Iterator[Head | bytes]:
        yield from self._open()
        yield self._event({}, self._finish_reason)
        if self._include_usage:
            yield event({**self._chunk, "choices": [], "usage": self._usage})
        yield DONE

    def _joined(self, delta: dict[str, Any]) -> dict[str, str]:
        return {name: self._texts[name].add(delta[name]) for name in TEXTS if delta.get(name)}

    def _passed_on(self, delta: dict[str, Any]) -> Iterator[Head | bytes]:
        delta = {name: value for name, value in delta.items() if value}
        if delta:
            yield from self._open()
            yield self._event(delta)

    def _open(self) -> Iterator[Head | bytes]:
        """The beginning, before the first thing that the client sees: until then another engine may be asked."""
        if not self._is_open:
            assert self._head is not None
            self._is_open = True
            yield self._head
            yield self._event({"role": "assistant", "content": ""})

    def _event(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return event({**self._chunk, "choices": [choice]})
