"""The tools behind one door: names to schemas, arguments held to them, calls counted, answers marked.

A request is begun for the owner of an API key and has budgets of its own: docsearch.searches, which the search counts,
and RUNS runs of a program, counted here. Its id stays on the server's side. To be used within one event loop.
"""

import asyncio
import copy
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import best_match

from app.docsearch.budget import MAX_REQUESTS, REQUEST_SECONDS
from app.docsearch.found import Answer
from app.docsearch.marking import refused_text, tool_text
from app.docsearch.records import Refused
from app.prompting.tool_schema import RUN_PYTHON_TOOL, SEARCH_DOCS_TOOL
from app.serving.tools.protocol import Passage, ToolReply
from app.serving.tools.run_report import refused as no_run_left

SEARCH_DOCS, RUN_PYTHON = "search_docs", "run_python"
RUNS = 2
"""Of a program in one request: one, and one after a repair."""
logger = logging.getLogger(__name__)


class Search(Protocol):
    """The documentation search, wherever it runs."""

    async def begin(self, owner: str) -> str:
        """The id of a request that may search; owner: whose searches a minute are counted together."""
        ...

    async def search(self, query: str, source: str | None, request: str) -> Answer:
        """Raises Refused."""
        ...


class Runner(Protocol):
    """The sandbox, wherever it runs."""

    async def run(self, code: str, tests: str, runs_left: int) -> ToolReply:
        """runs_left: this run included."""
        ...


@dataclass(slots=True, kw_only=True)
class _Request:
    owner: str
    ends: float
    runs_left: int = RUNS
    search: str = ""
    """Its id there; begun with its first search."""
    beginning: asyncio.Lock = field(default_factory=asyncio.Lock)


class Tools:
    """Implements `app.serving.tools.protocol.ServerTools`."""

    def __init__(
        self,
        search: Search | None,
        runner: Runner | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """None for what is turned off: there is no such tool then."""
        self._search, self._runner, self._clock = search, runner, clock
        self._schemas: dict[str, dict[str, Any]] = {}
        if search is not None:
            self._schemas[SEARCH_DOCS] = SEARCH_DOCS_TOOL
        if runner is not None:
            self._schemas[RUN_PYTHON] = RUN_PYTHON_TOOL
        self._validators = {
            name: Draft202012Validator(tool["function"]["parameters"]) for name, tool in self._schemas.items()
        }
        self._requests: OrderedDict[str, _Request] = OrderedDict()
        """By id, the oldest first."""

    async def schemas(self) -> dict[str, dict[str, Any]]:
        return copy.deepcopy(self._schemas)

    async def begin(self, owner: str) -> str:
        request, now = secrets.token_urlsafe(24), self._clock()
        self._requests[request] = _Request(owner=owner, ends=now + REQUEST_SECONDS)
        while len(self._requests) > MAX_REQUESTS or next(iter(self._requests.values())).ends <= now:
            self._requests.popitem(last=False)
        return request

    async def call(self, request: str, name: str, arguments: Mapping[str, Any]) -> ToolReply:
        held = self._requests.get(request)
        if held is None or held.ends <= self._clock():
            return _refused("request", "This conversation's tools have ended: answer without them.")
        if name not in self._schemas:
            return _refused("tool", f"There is no such tool: there is {' and '.join(self._schemas) or 'none'}.")
        if problem := best_match(self._validators[name].iter_errors(dict(arguments))):
            return _refused("arguments", _said(problem))
        try:
            if name == SEARCH_DOCS:
                return await self._search_docs(held, arguments["query"], arguments.get("source"))
            return await self._run_python(held, arguments)
        except Exception:  # whatever became of the process behind it: the answer goes on without this tool
            logger.exception("the tool %s failed", name)
            return ToolReply(status="failed", text="The tool failed. Go on without it.", reason="failed")

    async def _search_docs(self, held: _Request, query: str, source: str | None) -> ToolReply:
        assert self._search is not None, "only what has a schema is called"
        async with held.beginning:  # two calls at once have one budget
            held.search = held.search or await self._search.begin(held.owner)
        try:
            answer = await self._search.search(query, source, held.search)
        except Refused as refused:
            return ToolReply(status="refused", text=refused_text(refused), reason=refused.reason)
        passages = tuple(
            Passage(source=found.source, title=found.title, url=found.url, words=len(found.text.split()))
            for found in answer.found
        )
        return ToolReply(status="ok", text=tool_text(answer), passages=passages)

    async def _run_python(self, held: _Request, arguments: Mapping[str, Any]) -> ToolReply:
        assert self._runner is not None, "only what has a schema is called"
        if held.runs_left < 1:
            return no_run_left()
        runs_left, held.runs_left = held.runs_left, held.runs_left - 1
        return await self._runner.run(arguments["code"], arguments.get("tests", ""), runs_left)


def _refused(reason: str, way_out: str) -> ToolReply:
    return ToolReply(status="refused", text=f"The call was refused ({reason}). {way_out}", reason=reason)


def _said(problem: ValidationError) -> str:
    """What is wrong with the arguments, without repeating a value that may be of any length."""
    if problem.validator in ("required", "additionalProperties"):
        return f"{problem.message[:200]}."
    place = ".".join(map(str, problem.absolute_path)) or "The arguments"
    return f"{place}: {problem.validator} must be {problem.validator_value!r:.200}."
