"""The OpenAI-compatible edge: what clients talk to, in front of one engine or several.

    client -> guard (host, key, size) -> Edge (rates, fields, model name, queue, time) -> Upstream -> vLLM's OpenAI app
                                           └ the loop of tools, for requests that name tools of the server's

The answer's text is the engine's own; the edge adds what must hold whatever happens behind it: 429 when the queue is
full, a limit of time that no client can lift, another try when an engine dies before it has answered anything, and a
clean error when it dies in the middle of a stream. `actors.llm_server` hosts it. The queue is counted in answers, so a
batch of 32 prompts takes 32 places. Anthropic's Messages API is read as a chat and answered in its own form
(`app.serving.kinds`). Limits: each edge counts for itself.
"""

import asyncio
import dataclasses
import logging
import math
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager, suppress
from functools import partial
from typing import Any, cast

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from app.serving import best_of, metrics
from app.serving.anthropic.answered import model_card, model_cards
from app.serving.engine_protocol import EngineLostError, Head, Upstream
from app.serving.errors import (
    ApiError,
    error_in,
    error_response,
    internal,
    queue_full,
    tools_unavailable,
    unavailable,
    unknown_model,
)
from app.serving.keys import Keys
from app.serving.kinds import KINDS, Kind, most_tokens
from app.serving.metrics import Metrics
from app.serving.openapi import document
from app.serving.rates import Rate, Rates
from app.serving.request_checks import speaks_anthropic
from app.serving.requests import Limits, count_answers
from app.serving.spending import Spending, with_counts
from app.serving.streams import Answer
from app.serving.tools.client_calls import functions_called_bare, with_bare_calls
from app.serving.tools.loop import Loop
from app.serving.tools.protocol import ServerTools
from app.serving.tools.rounds import names_server_tools
from app.serving.tries import RETRY_S, Deadline, retried
from app.settings import ServingSettings

HOP_BY_HOP = (b"content-length", b"transfer-encoding", b"connection")
logger = logging.getLogger(__name__)


class Edge:
    def __init__(
        self,
        upstream: Upstream,
        settings: ServingSettings,
        num_engines: int = 1,
        tools: ServerTools | None = None,
        *,
        keys: Keys | None = None,
        tester: best_of.Tester | None = None,
    ) -> None:
        """tools: what runs those of `settings.tools`; a request that names none never touches it. keys: whose own rates
        hold; without them the settings' rate is everybody's. tester: where drafts are run; without it there is no name
        with tests."""
        self._upstream = upstream
        self.metrics = Metrics()
        rate = Rate(requests_per_minute=settings.requests_per_minute, tokens_per_minute=settings.tokens_per_minute)
        self._rates = Rates(lambda owner: keys.rate(owner, rate) if keys else rate)
        self._timeout_s = settings.timeout_s
        self._capacity = num_engines * settings.max_num_seqs + settings.max_waiting
        # The room until an engine says what it has.
        self._limits = Limits(max_model_len=settings.max_model_len, tools=settings.tools)
        self.metrics.queue(0, self._capacity)
        self._loop = Loop(tools, settings.max_tool_rounds, self.metrics) if tools is not None else None
        self._best_of = best_of.BestOf(tester, settings, self.metrics) if tester and settings.best_of else None
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
                Route("/metrics", lambda _: Response(self.metrics.text(), media_type=metrics.CONTENT_TYPE)),
                Route("/openapi.json", self._description),
                *(Route(path, self._complete, methods=["POST"]) for path in KINDS),
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

    async def offered(self) -> list[str]:
        """Every name that can be asked, those that answer with tests included. Raises ApiError."""
        await self.models()
        return self._listed()

    async def answer(self, path: str, raw: bytes, owner: str = "") -> AsyncGenerator[Head | bytes, None]:
        """A Head, then the body. Raises ApiError before the Head only: later ones come as an event of the stream.

        path: one of `kinds.KINDS`. owner: name of the key behind the request; empty for this server's own page.
        """
        start, outcome, passed_on = time.monotonic(), "left", False
        try:
            async with aclosing(self._admitted(KINDS[path], raw, owner)) as parts:
                async for part in parts:
                    passed_on = True
                    yield part
            outcome = "ok"
        except Exception as error:
            refused = _known(error)
            outcome = refused.code
            if not passed_on:
                raise refused from None
            yield KINDS[path].error_event(refused)
        finally:
            self.metrics.request(path, outcome, time.monotonic() - start)

    async def _admitted(self, kind: Kind, raw: bytes, owner: str) -> AsyncGenerator[Head | bytes, None]:
        """The answer, if the request is a good one and within its key's rates and the queue. Raises ApiError."""
        self._rates.take_request(owner)
        body = kind.parse(raw, self._limits)
        name, is_tested = self._split(body["model"])
        if name not in self._names and name not in await self.models():
            raise unknown_model(body["model"], self._listed())
        if is_tested and kind.draws:
            best_of.check(body, kind.engine_path)
        elif is_tested:  # a count, which is that of the plain name
            body |= {"model": name}
        spending = Spending()
        answers = count_answers(body) if kind.draws else 0
        if is_tested and self._best_of:
            answers *= self._best_of.num_drafts
        most = most_tokens(kind, body, answers, len(raw), self._limits.max_model_len) if kind.draws else 0
        settle = self._rates.take_tokens(owner, most)
        try:
            with self._places(answers):
                parts = self._parts(kind.engine_path, body, owner, spending)
                async with aclosing(kind.shown(parts, body) if kind.shown else parts) as shown:
                    async for part in shown:
                        yield part
        finally:
            settle(spending.prompt + spending.answer)
            self.metrics.tokens(prompt=spending.prompt, answer=spending.answer)

    def _parts(
        self, path: str, body: dict[str, Any], owner: str, spending: Spending
    ) -> AsyncGenerator[Head | bytes, None]:
        """The answer of one engine, or of several rounds with tools between them. Raises ApiError at any time."""
        deadline, called_bare = Deadline(self._timeout_s), functions_called_bare(body)

        def attempt(asked: dict[str, Any]) -> AsyncGenerator[Head | bytes, None]:
            parts = self._attempt(path, asked, deadline, spending)
            may_choose = asked.get("tool_choice", "auto") == "auto"  # not in the last round
            return with_bare_calls(parts, asked, called_bare) if called_bare and may_choose else parts

        if self._best_of and self._split(body["model"])[1]:
            return self._best_of.answer(attempt, body, deadline)
        if not names_server_tools(body):
            return retried(partial(attempt, body))
        if self._loop is None:
            raise tools_unavailable(RETRY_S)
        return self._loop.answer(attempt, body, owner, deadline)

    async def _attempt(
        self, path: str, body: dict[str, Any], deadline: Deadline, spending: Spending
    ) -> AsyncGenerator[Head | bytes, None]:
        """One engine's answer. The Head is held back until a stream's first text, or until a plain answer is whole."""
        stream = self._upstream.call(path, with_counts(body))
        spending.begin()
        keep_total = bool(body.get("stream_options", {}).get("include_usage"))
        held: list[Head | bytes] = []
        flowing = False
        try:
            while (part := await deadline.wait(anext(stream, None))) is not None:
                if body.get("stream") and isinstance(part, bytes):
                    if spending.is_first():
                        self.metrics.first_token(spending.seconds())
                    flowing = True
                    part = spending.read_events(part, keep_total=keep_total)
                    if error := error_in(part):
                        raise error
                if part:
                    held.append(part)
                if flowing:
                    for ready in held:
                        yield ready
                    held.clear()
            spending.read_whole(b"".join(part for part in held if isinstance(part, bytes)))
            for ready in (*held, spending.rest()):
                if ready:
                    yield ready
        finally:
            await stream.aclose()

    @contextmanager
    def _places(self, answers: int) -> Iterator[None]:
        """A place in the queue for each answer, for as long as they take. A batch that is larger than the whole queue
        is let in when the server is idle."""
        if answers and self._in_flight and self._in_flight + answers > self._capacity:
            raise queue_full(max(1.0, self._seconds * self._in_flight / self._capacity))
        self._in_flight += answers
        self.metrics.queue(self._in_flight, self._capacity)
        start = time.monotonic()
        try:
            yield
        finally:
            self._in_flight -= answers
            self.metrics.queue(self._in_flight, self._capacity)
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

    async def _description(self, _: Request) -> Response:
        with suppress(ApiError):  # an engine that starts has no names yet
            await self.models()
        return JSONResponse(document(self._listed(), self._limits.max_model_len))

    async def _models(self, request: Request) -> Response:
        await self.models()
        cards = [self._card(name) for name in self._listed()]
        if speaks_anthropic(request.scope):
            return JSONResponse(model_cards(cards))
        return JSONResponse({"object": "list", "data": cards})

    async def _model(self, request: Request) -> Response:
        name = request.path_params["name"]
        await self.models()
        if name not in self._listed():
            raise unknown_model(name, self._listed())
        card = self._card(name)
        return JSONResponse(model_card(card) if speaks_anthropic(request.scope) else card)

    def _split(self, name: str) -> tuple[str, bool]:
        """The engine's name, and whether its answers are to be tested: an adapter's own name may end so too."""
        return best_of.split_name(name) if self._best_of and name not in self._names else (name, False)

    def _listed(self) -> list[str]:
        """The engine's names, and those by which they answer with tests."""
        return [*self._names, *(f"{name}{best_of.SUFFIX}" for name in self._names if self._best_of)]

    def _card(self, name: str) -> dict[str, Any]:
        plain, is_tested = self._split(name)
        base = plain if is_tested else self._names[0]
        return {
            "id": name,
            "object": "model",
            "created": self._started,
            "owned_by": "pocketcoder",
            "parent": None if name == base else base,
            "max_model_len": self._limits.max_model_len,
        }


def _known(error: Exception) -> ApiError:
    if isinstance(error, ApiError):
        return error
    logger.error("an answer failed", exc_info=error)
    return internal()


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error_response(error, anthropic=speaks_anthropic(request.scope))


async def _failed(request: Request, error: Exception) -> Response:
    logger.error("a request failed", exc_info=error)
    return error_response(internal(), anthropic=speaks_anthropic(request.scope))
