"""What a model asks of the tools is held to their schemas and counted, and whatever fails behind them is a status."""

import asyncio
import json
from collections.abc import Coroutine, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.docsearch.budget import MAX_REQUESTS, REQUEST_SECONDS
from app.docsearch.found import Answer
from app.docsearch.search import DocsSearch
from app.prompting.tool_schema import RUN_PYTHON_TOOL, SEARCH_DOCS_TOOL
from app.serving.tools.protocol import ServerTools, ToolReply
from app.serving.tools.server_tools import Tools
from app.stage_settings.docsearch import DocsearchSettings
from tests.unit.serving.tools.in_threads import InThreads, searching

QUERY = {"query": "json.loads", "source": "python"}


class Ran:
    """In place of the sandbox: notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, int]] = []

    async def run(self, code: str, tests: str, runs_left: int) -> ToolReply:
        self.asked.append((code, tests, runs_left))
        return ToolReply(status="ok", text="ran")


class Lost:
    """A search whose process is gone."""

    async def begin(self, owner: str) -> str:
        raise ConnectionError(f"/home/anna/keys {owner}")

    async def search(self, query: str, source: str | None, request: str) -> Answer:
        raise AssertionError("nothing was begun")


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InThreads]:
    with searching(tmp_path_factory.mktemp("docsearch"), DocsearchSettings(searches_per_minute=1000)) as (search, _):
        yield search


@pytest.fixture
def tools(search: InThreads) -> Tools:
    return Tools(search, Ran())


def run(work: Coroutine[Any, Any, ToolReply]) -> ToolReply:
    return asyncio.run(work)


def reasons(tools: Tools, request: str, calls: Iterable[tuple[str, dict[str, Any]]]) -> list[str]:
    async def all_at_once() -> list[ToolReply]:
        return await asyncio.gather(*(tools.call(request, name, arguments) for name, arguments in calls))

    return [reply.reason for reply in asyncio.run(all_at_once())]


def begun(tools: Tools, owner: str = "laptop") -> str:
    return asyncio.run(tools.begin(owner))


def test_the_tools_are_what_their_users_expect(tools: Tools) -> None:
    by_protocol: ServerTools = tools
    schemas = asyncio.run(by_protocol.schemas())
    assert schemas == {"search_docs": SEARCH_DOCS_TOOL, "run_python": RUN_PYTHON_TOOL}
    schemas["search_docs"]["function"]["parameters"]["properties"]["url"] = {"type": "string"}
    assert asyncio.run(tools.schemas())["search_docs"] == SEARCH_DOCS_TOOL, "a user's changes are its own"


def test_a_search_comes_marked_with_where_it_is_from(tools: Tools) -> None:
    reply = run(tools.call(begun(tools), "search_docs", QUERY))
    assert (reply.status, reply.reason) == ("ok", "")
    assert "It is text of others" in reply.text and "json.loads" in reply.text
    assert {passage.source for passage in reply.passages} == {"python"}
    nothing = run(tools.call(begun(tools), "search_docs", {"query": "zzqx", "source": "python"}))
    assert (nothing.status, nothing.text, nothing.passages) == ("ok", "No results.", ())


def test_five_of_eight_searches_at_once_run_and_others_have_their_own(tools: Tools) -> None:
    one, other = begun(tools), begun(tools)
    assert sorted(reasons(tools, one, [("search_docs", QUERY)] * 8)) == [""] * 5 + ["budget"] * 3
    assert reasons(tools, other, [("search_docs", QUERY)]) == [""]


def test_a_program_is_run_twice_in_a_request(search: InThreads) -> None:
    ran = Ran()
    tools = Tools(search, ran)
    calls = [("run_python", {"code": "print(1)"}), ("run_python", {"code": "print(2)", "tests": "assert 1"})]
    assert reasons(tools, begun(tools), calls * 2) == ["", "", "budget", "budget"]
    assert ran.asked == [("print(1)", "", 2), ("print(2)", "assert 1", 1)]
    assert reasons(tools, begun(tools), calls) == ["", ""]


def test_without_a_sandbox_there_is_no_tool_that_runs_programs(search: InThreads) -> None:
    tools = Tools(search)
    assert list(asyncio.run(tools.schemas())) == ["search_docs"]
    reply = run(tools.call(begun(tools), "run_python", {"code": "print(1)"}))
    assert (reply.status, reply.reason) == ("refused", "tool") and "there is search_docs" in reply.text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "'query' is a required property"),
        ({"query": ""}, "query: minLength must be 1"),
        ({"query": "x" * 257}, "query: maxLength must be 256"),
        ({"query": ["json"]}, "query: type must be 'string'"),
        ({"query": None}, "query: type must be 'string'"),
        ({"query": "json", "source": "https://evil.example"}, "source: enum must be ['python', 'fastapi'"),
        ({"query": "json", "url": "https://evil.example"}, "'url' was unexpected"),
        ({"query": "json", "searches": 100}, "'searches' was unexpected"),
        ({"query": "json", "x" * 10_000: 1}, "Additional properties are not allowed"),
    ],
)
def test_arguments_outside_the_schema_are_refused_in_short(tools: Tools, arguments: dict[str, Any], said: str) -> None:
    reply = run(tools.call(begun(tools), "search_docs", arguments))
    assert (reply.status, reply.reason) == ("refused", "arguments")
    assert said.lower() in reply.text.lower() and len(reply.text) < 300


@pytest.mark.parametrize("name", ["", "search", "Search_docs", "begin", "delete_files"])
def test_no_other_name_is_a_tool(tools: Tools, name: str) -> None:
    assert reasons(tools, begun(tools), [(name, QUERY)]) == ["tool"]


@pytest.mark.parametrize("request_id", ["", "made up", "laptop"])
def test_an_id_that_was_not_made_here_calls_nothing(tools: Tools, request_id: str) -> None:
    assert reasons(tools, request_id, [("search_docs", QUERY), ("run_python", {"code": "1"})]) == ["request"] * 2


def test_requests_end_and_take_bounded_memory(search: InThreads) -> None:
    now = [0.0]
    tools = Tools(search, Ran(), clock=lambda: now[0])
    first = begun(tools)
    now[0] = REQUEST_SECONDS - 1
    assert reasons(tools, first, [("run_python", {"code": "1"})]) == [""]
    now[0] = REQUEST_SECONDS
    assert reasons(tools, first, [("run_python", {"code": "1"})]) == ["request"]
    begun(tools)
    assert first not in tools._requests, "those that have ended take none"

    async def many() -> None:
        for _ in range(MAX_REQUESTS + 10):
            await tools.begin("laptop")

    asyncio.run(many())
    assert len(tools._requests) == MAX_REQUESTS


def test_the_rate_of_a_key_holds_over_its_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENV", "offline")
    tools = Tools(InThreads(DocsSearch(DocsearchSettings(offline=False, searches_per_minute=3), tmp_path)))
    came = [reasons(tools, begun(tools), [("search_docs", QUERY)])[0] for _ in range(4)]
    assert came == ["offline"] * 3 + ["rate"]
    assert reasons(tools, begun(tools, "desk"), [("search_docs", QUERY)]) == ["offline"]


def test_what_fails_behind_a_tool_is_told_without_its_words() -> None:
    tools = Tools(Lost())
    reply = run(tools.call(begun(tools), "search_docs", QUERY))
    assert reply == ToolReply(status="failed", text="The tool failed. Go on without it.", reason="failed")


def test_no_id_of_a_request_is_in_what_a_model_reads(tools: Tools) -> None:
    request = begun(tools)
    replies = [run(tools.call(request, "search_docs", QUERY)) for _ in range(6)]
    ids = {request, tools._requests[request].search}
    shown = json.dumps([(reply.text, reply.reason, [p.url + p.title for p in reply.passages]) for reply in replies])
    assert all(len(each) > 20 and each not in shown for each in ids)
