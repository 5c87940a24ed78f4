"""Everything that OpenAI's API has is known by name: walked over the types of its own package, so that a field which
comes with a new version is noticed. And what its clients send is taken as they send it.
"""

import asyncio
import json
import re
import typing
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from app.serving.edge import Edge
from app.serving.errors import ApiError
from app.serving.messages import AssistantMessage, FunctionCall, SystemMessage, TextPart, ToolCall, ToolMessage
from app.serving.requests import Limits, parse_chat, parse_completion
from app.serving.schema import ChatRequest, CompletionRequest, Function, JsonSchema, StreamOptions, Tool
from app.settings import ServingSettings
from tests.conftest import ROOT
from tests.unit.serving.tools import scripts
from tests.unit.serving.tools.scripts import BODY, SEARCH, Engines, Says, Tools

openai = pytest.importorskip("openai", reason="the openai package comes with the extra `cpu` or with vLLM")

from openai.types import chat as chats  # noqa: E402
from openai.types import completion_create_params as completions  # noqa: E402
from openai.types.chat import chat_completion_message_function_tool_call_param as tool_calls  # noqa: E402
from openai.types.chat import completion_create_params as chat_params  # noqa: E402
from openai.types.shared_params import FunctionDefinition, response_format_json_schema  # noqa: E402

LIMITS = Limits(max_model_len=4096)
USER = {"role": "user", "content": "hi"}
CALL = {"id": "c1", "type": "function", "function": {"name": "search_docs", "arguments": "{}"}}
REFUSED = {
    "functions": [{"name": "f"}],
    "function_call": {"name": "f"},
    "audio": {"voice": "alloy", "format": "wav"},
    "web_search_options": {"search_context_size": "low"},
    "moderation": {"model": "omni-moderation-latest"},
}
"""Fields of a chat that this server has nothing for, with a value of OpenAI's."""
WITHOUT_EFFECT = {
    "user": "u",
    "metadata": {"a": "b"},
    "store": True,
    "service_tier": "auto",
    "reasoning_effort": "low",
    "safety_identifier": "s",
    "prompt_cache_key": "k",
    "prompt_cache_options": {"mode": "implicit"},
    "prompt_cache_retention": "24h",
    "prediction": {"type": "content", "content": "x"},
    "verbosity": "low",
    "modalities": ["text"],
}


def chat(**fields: Any) -> dict[str, Any]:
    return parse_chat(json.dumps({"model": "m", "messages": [USER], **fields}).encode(), LIMITS)


def completion(**fields: Any) -> dict[str, Any]:
    return parse_completion(json.dumps({"model": "m", "prompt": "def f(", **fields}).encode(), LIMITS)


PAIRS: list[tuple[Any, type[BaseModel]]] = [
    (chat_params.CompletionCreateParamsStreaming, ChatRequest),
    (completions.CompletionCreateParamsStreaming, CompletionRequest),
    (chats.ChatCompletionDeveloperMessageParam, SystemMessage),
    (chats.ChatCompletionSystemMessageParam, SystemMessage),
    (chats.ChatCompletionUserMessageParam, SystemMessage),
    (chats.ChatCompletionAssistantMessageParam, AssistantMessage),
    (chats.ChatCompletionToolMessageParam, ToolMessage),
    (chats.ChatCompletionContentPartTextParam, TextPart),
    (chats.ChatCompletionStreamOptionsParam, StreamOptions),
    (chats.ChatCompletionFunctionToolParam, Tool),
    (FunctionDefinition, Function),
    (chats.ChatCompletionMessageFunctionToolCallParam, ToolCall),
    (tool_calls.Function, FunctionCall),
    (response_format_json_schema.JSONSchema, JsonSchema),
]


@pytest.mark.parametrize(("theirs", "ours"), PAIRS, ids=lambda kind: kind.__name__)
def test_every_field_that_openai_has_is_known_by_name(theirs: Any, ours: type[BaseModel]) -> None:
    known = {field.alias or name for name, field in ours.model_fields.items()}
    assert set(typing.get_type_hints(theirs)) - known == set()


def test_no_kind_of_message_is_missing_but_the_one_that_tools_replaced() -> None:
    kinds = {kind.__name__ for kind in typing.get_args(chats.ChatCompletionMessageParam)}
    assert kinds - {kind.__name__ for kind, _ in PAIRS} == {"ChatCompletionFunctionMessageParam"}


@pytest.mark.parametrize("parse", [chat, completion])
def test_null_of_any_field_is_the_same_as_leaving_it_out(parse: Any) -> None:
    theirs = PAIRS[0][0] if parse is chat else PAIRS[1][0]
    fields = set(typing.get_type_hints(theirs)) - {"model", "messages", "prompt"}
    for field in sorted(fields):
        assert parse(**{field: None}) == parse(), field
    assert parse(**dict.fromkeys(fields)) == parse(no_such_field=None) == parse()


def test_null_in_a_message_a_part_or_a_tool_is_left_out_and_in_a_schema_it_stays() -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": None}], "name": None}
    assert chat(messages=[message])["messages"] == [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    parameters = {"type": "object", "properties": {"a": {"enum": [None, 1], "default": None}}}
    tool = {"type": "function", "function": {"name": "f", "description": None, "parameters": parameters}, "x": None}
    assert chat(tools=[tool])["tools"][0]["function"] == {"name": "f", "parameters": parameters}
    shape = {"type": "json_schema", "json_schema": {"name": "s", "schema": parameters, "description": None}}
    assert chat(response_format=shape)["response_format"]["json_schema"] == {"name": "s", "schema": parameters}


def test_what_means_nothing_to_one_local_model_is_taken_and_has_no_effect() -> None:
    assert {name for name, field in ChatRequest.model_fields.items() if field.exclude} == {*WITHOUT_EFFECT, *REFUSED}
    assert chat(**WITHOUT_EFFECT) == chat()
    assert completion(user="u", best_of=1, suffix="", n=1) == completion(n=1)
    options = {"include_usage": True, "include_obfuscation": False}
    assert chat(stream=True, stream_options=options)["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("field", REFUSED)
def test_what_this_server_has_nothing_for_is_refused_with_the_way_out_and_empty_it_passes(field: str) -> None:
    with pytest.raises(ApiError) as caught:
        chat(**{field: REFUSED[field]})
    assert (caught.value.status, caught.value.param) == (422, field)
    assert re.match(rf"{field} is .+: .*(send|ask for|check) ", caught.value.message)
    assert chat(**{field: []}) == chat(**{field: {}}) == chat()


def test_the_docs_name_every_field_that_is_dropped_or_refused() -> None:
    page = (ROOT / "docs/serving.md").read_text()
    assert [field for field in (*WITHOUT_EFFECT, *REFUSED, "include_obfuscation") if f"`{field}`" not in page] == []


def test_no_tools_are_the_same_as_none_and_leave_nothing_to_choose() -> None:
    assert chat(tools=[]) == chat(tools=[], tool_choice="auto") == chat(tools=[], tool_choice="none") == chat()
    with pytest.raises(ApiError, match="tool_choice needs tools"):
        chat(tools=[], tool_choice="required")


def test_the_sentence_about_parts_shows_the_part_as_it_is_written() -> None:
    with pytest.raises(ApiError) as caught:
        chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}])
    assert 'only {"type": "text"} parts are taken' in caught.value.message


def test_a_developers_message_is_the_systems_since_templates_leave_it_out() -> None:
    assert chat(messages=[{"role": "developer", "content": "be brief"}])["messages"][0]["role"] == "system"


ANSWER = chats.ChatCompletionMessage(
    role="assistant", content="x", refusal=None, annotations=[], audio=None, function_call=None, tool_calls=None
)
CITED = chats.ChatCompletionMessage.model_validate(
    {
        "role": "assistant",
        "content": "x",
        "annotations": [
            {
                "type": "url_citation",
                "url_citation": {"start_index": 0, "end_index": 1, "title": "t", "url": "https://example.org"},
            }
        ],
    }
)


@pytest.mark.parametrize(
    ("answer", "passed"),
    [
        (ANSWER.model_dump(), {"content": "x"}),
        (CITED.model_dump(), {"content": "x"}),
        ({"role": "assistant", "content": "x", "tool_calls": []}, {"content": "x", "tool_calls": []}),
        ({"role": "assistant", "content": None, "tool_calls": [CALL]}, {"tool_calls": [CALL]}),
        ({"role": "assistant", "content": [], "tool_calls": [CALL]}, {"tool_calls": [CALL]}),
        ({"role": "assistant", "content": None, "refusal": "no"}, {"content": "no"}),
        (
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
            {"content": [{"type": "text", "text": "no"}]},
        ),
        (
            {"role": "assistant", "content": "x", "reasoning_content": "r", "provider_fields": None},
            {"content": "x", "reasoning_content": "r"},
        ),
        ({"role": "assistant", "content": "x", "type": "text"}, {"content": "x"}),
        ({"role": "assistant", "content": None, "reasoning": "r"}, {"content": "", "reasoning": "r"}),
    ],
    ids=[
        *("as it came", "cited", "no calls", "calls", "empty parts", "refusal", "refusal part", "reasoning", "type"),
        "cut off in its thought",
    ],
)
def test_an_answer_can_be_sent_back_as_it_came(answer: dict[str, Any], passed: dict[str, Any]) -> None:
    assert chat(messages=[USER, answer, USER])["messages"][1] == {"role": "assistant", **passed}


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"messages": None}, "messages"),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0.content"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
    ],
)
def test_a_field_that_is_null_though_needed_is_named_once(fields: dict[str, Any], path: str) -> None:
    with pytest.raises(ApiError, match=f"^{path} is missing"):
        chat(**fields)


SEARCHES = (Says(content="Let me look.", calls=[scripts.search("zip")]), Says(content="It pairs."))
TWICE = (Says(calls=[scripts.search("map"), scripts.search("filter")]), *SEARCHES)


def through_the_package(ask: Any, *script: Says) -> Any:
    async def go() -> Any:
        edge = Edge(Engines(*script or SEARCHES), ServingSettings(), tools=Tools())
        transport = httpx.ASGITransport(edge.app())
        options: Any = {"base_url": "http://127.0.0.1/v1", "api_key": "pk-x", "max_retries": 0}
        async with openai.AsyncOpenAI(**options, http_client=httpx.AsyncClient(transport=transport)) as client:
            return await ask(client)

    return asyncio.run(go())


def test_events_of_the_servers_tools_come_through_the_package_and_can_be_sent_back() -> None:
    async def ask(client: Any) -> Any:
        return await client.chat.completions.create(**BODY, tools=[SEARCH])

    done = through_the_package(ask)
    message = done.choices[0].message
    (event,) = message.model_extra["tool_events"]
    assert (event["type"], event["status"], event["passages"][0]["title"]) == ("search_docs", "ok", "zip")
    assert message.content == "Let me look.\n\nIt pairs." and done.usage.total_tokens == 30
    sent_back = chat(messages=[USER, message.model_dump(), USER])["messages"][1]
    assert sent_back == {"role": "assistant", "content": message.content, "tool_calls": []}


def test_a_stream_with_events_is_one_stream_to_the_package() -> None:
    async def ask(client: Any) -> list[Any]:
        options = {"stream": True, "stream_options": {"include_usage": True}, "tool_choice": SEARCH}
        return [chunk async for chunk in await client.chat.completions.create(**BODY, tools=[SEARCH], **options)]

    chunks = through_the_package(ask)
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == "Let me look.\n\nIt pairs."
    events = [event for delta in deltas for event in (delta.model_extra or {}).get("tool_events", ())]
    assert [event["status"] for event in events] == ["started", "ok"]
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason] == ["stop"]
    assert len({chunk.id for chunk in chunks}) == 1 and chunks[-1].usage.total_tokens == 30
    assert not any(delta.tool_calls for delta in deltas)


def test_the_helper_that_puts_a_stream_together_takes_every_event() -> None:
    """It knows lists in a delta by their `index` alone, and raises without one."""

    async def ask(client: Any) -> Any:
        async with client.chat.completions.stream(**BODY, tools=[SEARCH]) as stream:
            texts = [event.delta async for event in stream if event.type == "content.delta"]
            return texts, await stream.get_final_completion()

    texts, done = through_the_package(ask, *TWICE)
    message = done.choices[0].message
    assert message.content == "".join(texts) == "Let me look.\n\nIt pairs."
    assert [event["status"] for event in message.model_extra["tool_events"]] == ["started", "ok"] * 3
    assert chat(messages=[USER, message.model_dump(), USER])["messages"][1]["content"] == message.content


def test_parse_takes_the_servers_tools_beside_its_own_fields() -> None:
    """It takes functions alone under `tools`."""

    async def ask(client: Any) -> Any:
        return await client.chat.completions.parse(**BODY, extra_body={"tools": [SEARCH]})

    message = through_the_package(ask, *TWICE).choices[0].message
    assert message.content == "Let me look.\n\nIt pairs." and len(message.model_extra["tool_events"]) == 3
