"""The OpenAI-compatible edge: what clients talk to, in front of one engine or several.

    client -> guard (host, key, size) -> Edge (fields, model name, queue, time) -> Upstream -> vLLM's own OpenAI app
                                           └ the loop of tools, for requests that name tools of the server's

The answer's text is the engine's own; the edge adds what must hold whatever happens behind it: 429 when the queue is
full, a limit of time that no client can lift, another try when an engine dies before it has answered anything, and a
clean error when it dies in the middle of a stream. `actors.llm_server` hosts it. The queue is counted in answers, so a
batch of 32 prompts takes 32 places. Limits: each edge counts for itself.
"""

import asyncio
import dataclasses
import logging
import math
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from functools import partial
from typing import Any, cast

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from app.serving.engine_protocol import EngineLostError, Head, Upstream
from app.serving.errors import (
    ApiError,
    error_event,
    error_response,
    internal,
    queue_full,
    tools_unavailable,
    unavailable,
    unknown_model,
)
from app.serving.requests import Limits, count_answers, parse_chat, parse_completion
from app.serving.tools.loop import Loop
from app.serving.tools.protocol import ServerTools
from app.serving.tools.rounds import names_server_tools
from app.serving.tries import RETRY_S, Deadline, retried
from app.settings import ServingSettings

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
PARSERS: dict[str, Callable[[bytes, Limits], dict[str, Any]]] = {CHAT: parse_chat, COMPLETIONS: parse_completion}
HOP_BY_HOP = (b"content-length", b"transfer-encoding", b"connection")
logger = logging.getLogger(__name__)


class Edge:
    def __init__(
        self, upstream: Upstream, settings: ServingSettings, num_engines: int = 1, tools: ServerTools | None = None
    ) -> None:
        """tools: what runs those of `settings.tools`; a request that names none never touches it."""
        self._upstream = upstream
        self._timeout_s = settings.timeout_s
        self._capacity = num_engines * settings.max_num_seqs + settings.max_waiting
        # The room until an engine says what it has.
        self._limits = Limits(max_model_len=settings.max_model_len, tools=settings.tools)
        self._loop = Loop(tools, settings.max_tool_rounds) if tools is not None else None
        self._names: list[str] = []
        self._in_flight = 0
        self._seconds = 1.0  # of a request: a moving mean
        self._started = int(time.time())

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/", lambda _: RedirectResponse("/ide/")),
                Route("/health", self._health),
                Route("/v1/models", self._models),
                Route("/v1/models/{name:path}", self._model),
                *(Route(path, self._complete, methods=["POST"]) for path in PARSERS),
            ],
            exception_handlers={ApiError: _refused, Exception: _failed},
        )

    async def models(self) -> list[str]:
        try:
            async with asyncio.timeout(RETRY_S):
                self._names, room = await self._upstream.models()
        except (EngineLostError, TimeoutError):
            raise unavailable("the engine is starting: try again soon", RETRY_S) from None
        if room != self._limits.max_model_len:
            self._limits = dataclasses.replace(self._limits, max_model_len=room)
        return self._names

    async def answer(self, path: str, raw: bytes, owner: str = "") -> AsyncGenerator[Head | bytes, None]:
        """A Head, then the body. Raises ApiError before the Head only: later ones come as an event of the stream.

        owner: name of the key behind the request; empty for this server's own page.
        """
        body = PARSERS[path](raw, self._limits)
        if body["model"] not in self._names and body["model"] not in await self.models():
            raise unknown_model(body["model"], self._names)
        with self._places(count_answers(body)):
            passed_on = False
            try:
                async with aclosing(self._parts(path, body, owner)) as parts:
                    async for part in parts:
                        passed_on = True
                        yield part
                return
            except ApiError as error:
                refused = error
            except Exception:
                logger.exception("an answer failed")
                refused = internal()
            if not passed_on:
                raise refused
            yield error_event(refused).encode()

    def _parts(self, path: str, body: dict[str, Any], owner: str) -> AsyncGenerator[Head | bytes, None]:
        """The answer of one engine, or of several rounds with tools between them. Raises ApiError at any time."""
        deadline = Deadline(self._timeout_s)
        if not names_server_tools(body):
            return retried(partial(self._attempt, path, body, deadline))
        if self._loop is None:
            raise tools_unavailable(RETRY_S)
        return self._loop.answer(lambda asked: self._attempt(path, asked, deadline), body, owner, deadline)

    async def _attempt(self, path: str, body: dict[str, Any], deadline: Deadline) -> AsyncGenerator[Head | bytes, None]:
        """One engine's answer. The Head is held back until a stream's first text, or until a plain answer is whole."""
        stream = self._upstream.call(path, body)
        held: list[Head | bytes] = []
        flowing = False
        try:
            while (part := await deadline.wait(anext(stream, None))) is not None:
                held.append(part)
                flowing = flowing or (bool(body.get("stream")) and len(held) > 1)
                if flowing:
                    for ready in held:
                        yield ready
                    held.clear()
            for ready in held:
                yield ready
        finally:
            await stream.aclose()

    @contextmanager
    def _places(self, answers: int) -> Iterator[None]:
        """A place in the queue for each answer, for as long as they take. A batch that is larger than the whole queue
        is let in when the server is idle."""
        if self._in_flight and self._in_flight + answers > self._capacity:
            raise queue_full(max(1.0, self._seconds * self._in_flight / self._capacity))
        self._in_flight += answers
        start = time.monotonic()
        try:
            yield
        finally:
            self._in_flight -= answers
            self._seconds += 0.1 * (time.monotonic() - start - self._seconds)

    async def _complete(self, request: Request) -> Response:
        owner = getattr(request.state, "key_name", "")  # set by the guard
        parts = self.answer(request.url.path, await request.body(), owner)
        head = await anext(parts)
        assert isinstance(head, Head), f"an answer begins with its Head, got {head!r}"
        headers = {key.decode(): value.decode() for key, value in head.headers if key.lower() not in HOP_BY_HOP}
        return Answer(cast(AsyncGenerator[bytes, None], parts), head.status, headers)

    async def _health(self, _: Request) -> Response:
        try:
            await self.models()
        except ApiError:
            return JSONResponse({"status": "starting"}, 503, {"Retry-After": str(math.ceil(RETRY_S))})
        return JSONResponse({"status": "ok"})

    async def _models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._card(name) for name in await self.models()]})

    async def _model(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in await self.models():
            raise unknown_model(name, self._names)
        return JSONResponse(self._card(name))

    def _card(self, name: str) -> dict[str, Any]:
        base = self._names[0]
        return {
            "id": name,
            "object": "model",
            "created": self._started,
            "owned_by": "pocketcoder",
            "parent": None if name == base else base,
            "max_model_len": self._limits.max_model_len,
        }


class Answer(StreamingResponse):
    """A response that closes what it streams whatever becomes of the client: its place and the engine's work hang on
    it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await cast(AsyncGenerator[bytes, None], self.body_iterator).aclose()


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error_response(error)


async def _failed(_: Request, error: Exception) -> Response:
    logger.error("a request failed", exc_info=error)
    return error_response(internal())
