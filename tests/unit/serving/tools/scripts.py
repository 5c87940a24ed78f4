"""An engine and tools that play what a test writes, in the shapes of vLLM's server and of `ServerTools`."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.prompting.tool_schema import RUN_PYTHON_TOOL, SEARCH_DOCS_TOOL
from app.serving.edge import Edge
from app.serving.engine_protocol import EngineLostError, Head
from app.serving.errors import ApiError
from app.serving.kinds import CHAT
from app.serving.tools.protocol import Passage, ToolReply
from app.settings import ServingSettings

SEARCH = {"type": "search_docs"}
RUN = {"type": "run_python"}
CLIENTS = {"type": "function", "function": {"name": "open_file", "parameters": {"type": "object"}}}
BODY: dict[str, Any] = {"model": "base", "messages": [{"role": "user", "content": "What does zip do?"}]}
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "prompt_tokens_details": None}
PASSAGE = Passage(source="python", title="zip", url="https://docs.python.org/3/library/functions.html#zip")
Call = tuple[str, str]


@dataclass(kw_only=True)
class Says:
    """One answer of the engine. lost: it dies before it has said anything, or after its content."""

    content: str = ""
    calls: list[Call] = field(default_factory=list)
    """Names and arguments."""
    reasoning: str = ""
    finish: str = ""
    lost: str = ""
    may_repeat: bool = True
    refused: ApiError | None = None
    hangs: bool = False
    error: dict[str, Any] | None = None
    """With which a stream breaks off after its content, as vLLM tells of it."""


def search(query: str) -> Call:
    return "search_docs", json.dumps({"query": query})


class Engines:
    """An upstream that says one thing after the other; the last one again and again."""

    def __init__(self, *script: Says) -> None:
        self.script = list(script)
        self.bodies: list[dict[str, Any]] = []
        self.closed = 0

    async def models(self) -> tuple[list[str], int]:
        return ["base"], 512

    async def call(self, path: str, body: dict[str, Any]) -> AsyncGenerator[Head | bytes, None]:
        said = self.script[min(len(self.bodies), len(self.script) - 1)]
        self.bodies.append(json.loads(json.dumps(body)))
        number = len(self.bodies)
        try:
            if said.refused:
                raise said.refused
            if said.lost == "at once":
                raise EngineLostError("killed", may_repeat=said.may_repeat)
            async for part in (_streamed if body.get("stream") else _whole)(said, number):
                yield part
        finally:
            self.closed += 1


def _tool_calls(said: Says, number: int) -> list[dict[str, Any]]:
    return [
        {"id": f"call-{number}-{index}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for index, (name, arguments) in enumerate(said.calls)
    ]


async def _whole(said: Says, number: int) -> AsyncGenerator[Head | bytes, None]:
    yield Head(200, [(b"content-type", b"application/json"), (b"content-length", b"999")])
    if said.hangs:
        await asyncio.sleep(60)
    if said.lost:
        raise EngineLostError("killed", may_repeat=said.may_repeat)
    message = {"role": "assistant", "content": said.content or None, "reasoning": said.reasoning or None}
    message["tool_calls"] = _tool_calls(said, number)  # type: ignore[assignment]
    finish = said.finish or ("tool_calls" if said.calls else "stop")
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    kind = {"id": f"chat-{number}", "object": "chat.completion", "created": number, "model": "base"}
    yield json.dumps({**kind, "choices": [choice], "usage": USAGE}).encode()


async def _streamed(said: Says, number: int) -> AsyncGenerator[Head | bytes, None]:
    def chunk(delta: dict[str, Any] | None, finish: str | None = None) -> bytes:
        kind = {"id": f"chat-{number}", "object": "chat.completion.chunk", "created": number, "model": "base"}
        choices = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
        data = {**kind, "choices": choices} if delta is not None else {**kind, "choices": [], "usage": USAGE}
        return f"data: {json.dumps(data)}\n\n".encode()

    yield Head(200, [(b"content-type", b"text/event-stream")])
    yield chunk({"role": "assistant", "content": ""})
    for piece in (said.reasoning[at : at + 3] for at in range(0, len(said.reasoning), 3)):
        yield chunk({"reasoning": piece})
    for piece in (said.content[at : at + 3] for at in range(0, len(said.content), 3)):
        yield chunk({"content": piece})
    if said.hangs:
        await asyncio.sleep(60)
    if said.error:
        yield f"data: {json.dumps({'error': said.error})}\n\ndata: [DONE]\n\n".encode()
        return
    for index, call in enumerate(_tool_calls(said, number)):
        head, arguments = {key: call[key] for key in ("id", "type")}, call["function"]["arguments"]
        yield chunk({"tool_calls": [{"index": index, **head, "function": {"name": call["function"]["name"]}}]})
        for half in (arguments[:4], arguments[4:]):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": half}}]})
    if said.lost:
        raise EngineLostError("killed", may_repeat=said.may_repeat)
    last = chunk({"content": ""}, said.finish or ("tool_calls" if said.calls else "stop")) + chunk(None)
    yield last[:50]  # a part of an answer ends anywhere
    yield last[50:] + b"data: [DONE]\n\n"


class Tools:
    """`ServerTools` with a search of five a request, whose text a test may choose."""

    def __init__(self, text: str = "zip(*iterables) pairs them.", budget: int = 5) -> None:
        self.text, self.budget = text, budget
        self.begun: list[str] = []
        """Owners."""
        self.calls: list[tuple[str, str, dict[str, Any]]] = []
        self.available = {"search_docs": SEARCH_DOCS_TOOL, "run_python": RUN_PYTHON_TOOL}
        self.hangs = self.cancelled = False
        self.error: Exception | None = None

    async def schemas(self) -> dict[str, dict[str, Any]]:
        return self.available

    async def begin(self, owner: str) -> str:
        self.begun.append(owner)
        return f"request-{len(self.begun)}"

    async def call(self, request: str, name: str, arguments: Mapping[str, Any]) -> ToolReply:
        self.calls.append((request, name, dict(arguments)))
        try:
            await asyncio.sleep(60 if self.hangs else 0)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if self.error:
            raise self.error
        if [each[:2] for each in self.calls].count((request, name)) > self.budget:
            return ToolReply(status="refused", text="The search was refused (budget).", reason="budget")
        return ToolReply(status="ok", text=self.text, passages=(PASSAGE,))


Use = Callable[[httpx.AsyncClient], Coroutine[Any, Any, Any]]


def run(engines: Engines, tools: Tools | None, use: Use, **settings: Any) -> Any:
    async def go() -> Any:
        edge = Edge(engines, ServingSettings(**settings), tools=tools)
        transport = httpx.ASGITransport(_as_key("laptop", edge.app()), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await use(client)

    return asyncio.run(go())


def _as_key(name: str, app: ASGIApp) -> ASGIApp:
    async def admitted(scope: Scope, receive: Receive, send: Send) -> None:
        Request(scope).state.key_name = name
        await app(scope, receive, send)

    return admitted


def post(engines: Engines, running: Tools | None, *, settings: Mapping[str, Any] | None = None, **fields: Any) -> Any:
    """The response to a chat with these fields, by default with the search."""
    body = {**BODY, "tools": [SEARCH], **fields}
    return run(engines, running, lambda client: client.post(CHAT, json=body), **(settings or {}))


@dataclass(kw_only=True)
class Answer:
    """An answer as a client sees it, streamed or not."""

    content: str = ""
    calls: list[Call] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    finish: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    usage: list[dict[str, Any]] = field(default_factory=list)
    reasoning: str = ""
    error: dict[str, Any] | None = None
    order: list[str] = field(default_factory=list)
    """Of what came in a stream: texts, and the status of events."""


def answer(response: httpx.Response) -> Answer:
    assert response.status_code == 200, response.text
    if response.headers["content-type"].startswith("text/event-stream"):
        return _of_stream(response.text)
    body = response.json()
    choice = body["choices"][0]
    message = choice["message"]
    return Answer(
        content=message["content"] or "",
        reasoning=message.get("reasoning") or "",
        calls=[(call["function"]["name"], call["function"]["arguments"]) for call in message["tool_calls"]],
        events=message.get("tool_events", []),
        finish=[choice["finish_reason"]],
        ids={body["id"]},
        usage=[body["usage"]],
    )


def _of_stream(text: str) -> Answer:
    found = Answer()
    calls: dict[int, list[str]] = {}
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    for line in lines:
        if line == "[DONE]":
            found.order.append(line)
            continue
        chunk = json.loads(line)
        if "error" in chunk:
            found.error = chunk["error"]
            continue
        found.ids.add(chunk["id"])
        found.usage += [chunk["usage"]] if chunk.get("usage") else []
        for choice in chunk["choices"]:
            delta = choice["delta"]
            found.content += delta.get("content") or ""
            found.reasoning += delta.get("reasoning") or ""
            found.finish += [choice["finish_reason"]] if choice["finish_reason"] else []
            found.events += delta.get("tool_events") or []
            found.order += [each["status"] for each in delta.get("tool_events") or ()]
            found.order += [delta["content"]] if delta.get("content") else []
            found.order += ["role"] if delta.get("role") else []
            for piece in delta.get("tool_calls") or ():
                call = calls.setdefault(piece["index"], ["", ""])
                call[0] += piece["function"].get("name") or ""
                call[1] += piece["function"].get("arguments") or ""
    assert list(calls) == list(range(len(calls)))
    found.calls = [(name, arguments) for name, arguments in calls.values()]
    return found
