"""The loop in which a model uses the server's tools, for requests that name them.

    ask the engine -> it calls search_docs -> ServerTools.call -> ask again, with the call and its result -> its answer

All rounds share the request's one place in the queue and its one limit of time. A result comes in the `tool` role and
is text: names, schemas, budgets and the number of rounds come from the server and the request alone. A call of a
function of the client's ends the answer, as without tools of the server's; calls of these beside it are refused, since
the client's next request could not hold their results. An engine that is lost is replaced for its round alone, so no
call is made twice.
"""

import asyncio
import dataclasses
import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from functools import partial
from typing import Any, Protocol

from app.serving.engine_protocol import Head
from app.serving.errors import ApiError, invalid, tools_unavailable
from app.serving.metrics import Metrics
from app.serving.tools.bare_calls import wants_json
from app.serving.tools.protocol import ServerTools, ToolReply
from app.serving.tools.rounds import Call, Dialogue, Round
from app.serving.tools.streamed import Parts, StreamedAnswer
from app.serving.tools.tool_events import ToolEvent, ended, started
from app.serving.tools.whole import WholeAnswer
from app.serving.tries import RETRY_S, Deadline, retried

Ask = Callable[[dict[str, Any]], Parts]
"""One answer of one engine: a Head, then the body."""
Heard = AsyncGenerator[Head | bytes | Round, None]
"""A round as the client sees it, and at its end what was said."""
BESIDE_CLIENTS = ToolReply(status="refused", text="", reason="client_call")
UNKNOWN = "unknown"
"""What a name that the model made up is counted as."""
REPEATED = ToolReply(status="refused", text="", reason="repeated")
"""Of a call that was made before with the same arguments. Where a model does nothing else it is asked for its answer,
without tools, and does not see that it repeated itself: small ones go on with what is in their last messages."""
SAME = "The same call has its result above."
MAX_CALLS = 16
"""Of one message; further ones are left out, so that no message takes a thousand turns."""
logger = logging.getLogger(__name__)


class Form(Protocol):
    """How the client gets its answer: `StreamedAnswer` or `WholeAnswer`."""

    def hear(self, parts: Parts, bare: tuple[str, ...]) -> Heard:
        """A round while it comes. bare: names of tools whose calls may come without tags (`bare_calls`)."""
        ...

    def tell(self, told: ToolEvent) -> Iterator[Head | bytes]: ...

    def end(self) -> Iterator[Head | bytes]: ...


class Loop:
    def __init__(self, tools: ServerTools, max_rounds: int, metrics: Metrics) -> None:
        """max_rounds: of one answer, whose calls are run; after them it is asked for without tools."""
        self._tools, self._max_rounds, self._metrics = tools, max_rounds, metrics

    async def answer(self, ask: Ask, body: dict[str, Any], owner: str, deadline: Deadline) -> Parts:
        """A Head, then the body. body: a checked request that names tools of the server's. Raises ApiError."""
        names = tuple(tool["type"] for tool in body["tools"] if tool["type"] != "function")
        request, schemas = await deadline.wait(self._begin(owner, names))
        dialogue = Dialogue(body, schemas)
        form = _form(body)
        bare = () if wants_json(body["messages"], names) else names
        most = 1 if body.get("parallel_tool_calls") is False else MAX_CALLS
        rounds: list[Round] = []
        called: set[tuple[str, str]] = set()
        may_call = self._max_rounds > 0
        while True:
            heard = partial(_heard, form, ask, bare if may_call else ())
            async with aclosing(self._round(heard, dialogue, may_call=may_call)) as parts:
                async for part in parts:
                    if isinstance(part, Round):
                        rounds.append(dataclasses.replace(part, calls=part.calls[:most]))
                    else:
                        yield part
            said = rounds[-1]
            dialogue.count(said)
            if said.is_last or not may_call:
                break
            replies = []
            for call in said.calls:
                is_ours = call.name in names
                for part in form.tell(started(call)) if is_ours else ():
                    yield part
                key = call.name, call.arguments
                reply = REPEATED if key in called else await deadline.wait(self._reply(request, names, call))
                replies.append(reply)
                self._metrics.tool_call(call.name if is_ours else UNKNOWN, reply.status, reply.reason)
                if reply.status != "failed":
                    called.add(key)
                for part in form.tell(ended(call, reply)) if is_ours else ():
                    yield part
            if all(reply is REPEATED for reply in replies):
                may_call = False
                continue
            may_call = len(rounds) < self._max_rounds
            dialogue.add(said, [reply.text or SAME for reply in replies], may_go_on=may_call)
        for part in _ending(form, said, names):
            yield part

    async def _begin(self, owner: str, names: tuple[str, ...]) -> tuple[str, dict[str, dict[str, Any]]]:
        """The id of a new request, and the schemas. Raises ApiError where they are not there."""
        try:
            async with asyncio.timeout(RETRY_S):
                schemas = await self._tools.schemas()
                request = await self._tools.begin(owner) if schemas else ""
        except TimeoutError:
            schemas = {}
        if not schemas:
            raise tools_unavailable(RETRY_S)
        for name in names:
            if name not in schemas:
                raise invalid(f"tools names {name!r}, which is not running here: leave it out", "tools")
        return request, schemas

    async def _round(self, heard: Callable[[dict[str, Any]], Heard], dialogue: Dialogue, *, may_call: bool) -> Heard:
        """One round, asked again with shorter results where they don't fit the engine's context."""
        while True:
            attempt = partial(heard, dialogue.asked(may_call=may_call))
            try:
                async with aclosing(retried(attempt)) as parts:
                    async for part in parts:
                        yield part
                return
            except ApiError as error:
                if error.code != "context_length_exceeded" or not dialogue.shorten():
                    raise

    async def _reply(self, request: str, names: tuple[str, ...], call: Call) -> ToolReply:
        arguments = call.parsed()
        if call.name not in names:
            text = f"There is no tool {call.name[:64]!r}. Tools here: {', '.join(names)}."
            return ToolReply(status="refused", text=text, reason="tool")
        if arguments is None:
            text = "The call was refused (arguments). Write its arguments as a JSON object."
            return ToolReply(status="refused", text=text, reason="arguments")
        try:
            return await self._tools.call(request, call.name, arguments)
        except Exception:
            logger.exception("the tool %s failed", call.name)
            return ToolReply(status="failed", text="The tool failed. Go on without it.", reason="failed")


def _form(body: dict[str, Any]) -> Form:
    functions = frozenset(tool["function"]["name"] for tool in body["tools"] if tool["type"] == "function")
    if body.get("stream"):
        include_usage = bool(body.get("stream_options", {}).get("include_usage"))
        return StreamedAnswer(functions, include_usage=include_usage)
    return WholeAnswer(functions)


async def _heard(form: Form, ask: Ask, bare: tuple[str, ...], asked: dict[str, Any]) -> Heard:
    async with aclosing(ask(asked)) as parts, aclosing(form.hear(parts, bare)) as heard:
        async for part in heard:
            yield part


def _ending(form: Form, said: Round, names: tuple[str, ...]) -> Iterator[Head | bytes]:
    for call in said.calls if said.is_last else ():
        if call.name in names:
            yield from form.tell(ended(call, BESIDE_CLIENTS))
    yield from form.end()
