"""Anthropic's Messages API through its own package: every field that it has is known by name, and what its clients send
and read is what they know. Engines here are scripts.
"""

import asyncio
import json
import typing
from typing import Any

import httpx2
import pytest
from pydantic import BaseModel

from app.serving.anthropic import schema
from app.serving.anthropic.asked import parse_count, parse_messages
from app.serving.edge import Edge
from app.serving.errors import ApiError
from app.serving.requests import Limits
from app.settings import ServingSettings
from tests.unit.serving.tools import scripts
from tests.unit.serving.tools.scripts import SEARCH, Engines, Says, Tools

anthropic = pytest.importorskip("anthropic", reason="the anthropic package comes with `make setup-dev`")

from anthropic import types  # noqa: E402
from anthropic.types import message_count_tokens_params as counts  # noqa: E402
from anthropic.types import message_create_params as creates  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

LIMITS = Limits(max_model_len=4096, tools=("search_docs",))
USER = {"role": "user", "content": "hi"}
WEATHER = {"name": "weather", "description": "d", "input_schema": {"type": "object"}}
ASKED: dict[str, Any] = {"model": "base", "max_tokens": 64, "messages": [USER]}
PAIRS: list[tuple[Any, type[BaseModel]]] = [
    (creates.MessageCreateParamsStreaming, schema.MessagesRequest),
    (counts.MessageCountTokensParams, schema.CountRequest),
    (types.UserMessageParam, schema.UserTurn),
    (types.AssistantMessageParam, schema.AssistantTurn),
    (types.SystemMessageParam, schema.SystemTurn),
    (types.TextBlockParam, schema.Text),
    (types.ThinkingBlockParam, schema.Thinking),
    (types.ToolUseBlockParam, schema.ToolUse),
    (types.ToolResultBlockParam, schema.ToolResult),
    (types.ToolParam, schema.CustomTool),
    (types.ToolChoiceAutoParam, schema.Choice),
    (types.ToolChoiceToolParam, schema.NamedChoice),
    (types.OutputConfigParam, schema.OutputConfig),
    (types.ThinkingConfigEnabledParam, schema.ThinkingConfig),
]


def parsed(**fields: Any) -> dict[str, Any]:
    return parse_messages(json.dumps({**ASKED, **fields}).encode(), LIMITS)


@pytest.mark.parametrize(("theirs", "ours"), PAIRS, ids=lambda kind: kind.__name__)
def test_every_field_that_anthropic_has_is_known_by_name(theirs: Any, ours: type[BaseModel]) -> None:
    known = {field.alias or name for name, field in ours.model_fields.items()}
    assert set(typing.get_type_hints(theirs)) - known == set()


def test_a_conversation_with_calls_becomes_the_chat_that_templates_know() -> None:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "How warm?", "cache_control": {"type": "ephemeral"}}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "I ask.", "signature": "s"},
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Bern"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "20"}]},
                {"type": "text", "text": "And?"},
            ],
        },
    ]
    system = [{"type": "text", "text": "x-anthropic-billing-header: 7"}, {"type": "text", "text": "Be brief."}]
    choice = {"type": "any", "disable_parallel_tool_use": True}
    body = parsed(system=system, messages=messages, tools=[WEATHER, SEARCH], tool_choice=choice, stop_sequences=["X"])
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "How warm?"},
        {
            "role": "assistant",
            "content": "Let me see.",
            "reasoning": "I ask.",
            "tool_calls": [
                {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "t1", "content": "20"},
        {"role": "user", "content": "And?"},
    ]
    assert [tool.get("function", tool).get("name", tool["type"]) for tool in body["tools"]] == [
        "weather",
        "search_docs",
    ]
    assert (body["tool_choice"], body["parallel_tool_calls"], body["stop"]) == ("required", False, ["X"])


def test_thinking_is_off_unless_it_is_asked_for() -> None:
    for thinking, is_on in ((None, False), ({"type": "disabled"}, False), ({"type": "adaptive"}, True)):
        assert parsed(thinking=thinking)["chat_template_kwargs"] == {"enable_thinking": is_on}
    assert parsed(thinking={"type": "enabled", "budget_tokens": 1024})["chat_template_kwargs"]["enable_thinking"]


def test_more_tokens_than_there_is_room_for_are_all_that_there_are() -> None:
    """The field can't be left out, and clients made for large models name 32,000."""
    assert "max_tokens" not in parsed(max_tokens=32_000) and parsed(max_tokens=5)["max_tokens"] == 5


def test_a_schema_for_the_answer_is_passed_on() -> None:
    shape = {"type": "object", "properties": {"a": {"type": "integer"}}}
    body = parsed(output_config={"format": {"type": "json_schema", "schema": shape}, "effort": "low"})
    assert body["response_format"]["json_schema"]["schema"] == shape


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"max_tokens": None}, "max_tokens is missing"),
        ({"messages": [USER, {"role": "assistant", "content": "The"}]}, "messages end with the assistant's"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "this is a text model"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "a tool's type is"),
        ({"tools": [{**WEATHER, "name": "two words"}]}, "tools.0.name is 'two words'"),
        ({"tool_choice": {"type": "tool", "name": "x"}}, "tool_choice names a tool that is not among the tools"),
        ({"tool_choice": {"type": "any"}}, "tool_choice needs tools"),
        ({"temperature": 1.5}, "temperature is 1.5"),
        ({"stop_sequences": ["a"] * 17}, "stop_sequences is"),
        ({"mcp_servers": [{"url": "https://example.org"}]}, "mcp_servers is .*: this server connects to no others"),
        ({"no_such_field": 1}, "no_such_field is not supported here"),
    ],
)
def test_what_is_wrong_is_named_with_the_way_out(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ApiError, match=words):
        parsed(**fields)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
BLOCKS = st.one_of(
    JSON,
    st.fixed_dictionaries(
        {"type": st.sampled_from(schema.BLOCKS)},
        optional={"text": JSON, "id": JSON, "name": JSON, "input": JSON, "tool_use_id": st.just("t"), "content": JSON},
    ),
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system"]), "content": JSON | st.lists(BLOCKS, max_size=3)}
    ),
    max_size=3,
)


@given(
    fields=st.dictionaries(st.sampled_from(sorted(schema.MessagesRequest.model_fields)), JSON, max_size=4),
    messages=MESSAGES | st.just([USER]),
)
@settings(max_examples=150, deadline=None)
def test_any_value_of_any_field_becomes_a_chat_or_is_refused(fields: dict[str, Any], messages: Any) -> None:
    counted = {name: value for name, value in fields.items() if name in schema.CountRequest.model_fields}
    for parse, more in ((parse_messages, {**ASKED, "messages": messages, **fields}),
                        (parse_count, {"model": "base", "messages": messages, **counted})):  # fmt: skip
        try:
            chat = parse(json.dumps(more).encode(), LIMITS)
        except ApiError as error:
            assert error.status in (400, 422) and error.message.encode()
        else:
            assert json.loads(json.dumps(chat, allow_nan=False)) == chat


def test_tools_of_the_server_count_with_their_schemas() -> None:
    body = parse_count(json.dumps({"model": "base", "messages": [USER], "tools": [SEARCH]}).encode(), LIMITS)
    assert body["tools"][0]["function"]["name"] == "search_docs"


def through_the_package(ask: Any, *script: Says, **settings: Any) -> Any:
    async def go() -> Any:
        edge = Edge(Engines(*script), ServingSettings(**settings), tools=Tools())
        transport = httpx2.ASGITransport(edge.app())
        options: Any = {"base_url": "http://127.0.0.1", "api_key": "pk-x", "max_retries": 0}
        async with anthropic.AsyncAnthropic(**options, http_client=httpx2.AsyncClient(transport=transport)) as client:
            return await ask(client)

    return asyncio.run(go())


CALLS = Says(reasoning="Hm.", content="Let me see.", calls=[("weather", '{"city": "Bern"}')], finish="tool_calls")
SAID = [
    ("thinking", "Hm."),
    ("text", "Let me see."),
    ("tool_use", {"city": "Bern"}),
]


def seen(message: Any) -> list[tuple[str, Any]]:
    return [
        (block.type, getattr(block, {"thinking": "thinking", "text": "text", "tool_use": "input"}[block.type]))
        for block in message.content
    ]


def test_a_message_has_the_blocks_that_the_model_said() -> None:
    message = through_the_package(lambda client: client.messages.create(**ASKED, tools=[WEATHER]), CALLS)
    assert isinstance(message, types.Message) and seen(message) == SAID
    assert (message.stop_reason, message.usage.input_tokens, message.usage.output_tokens) == ("tool_use", 10, 5)
    assert message.id.startswith("msg_") and message.model == "base"


def test_a_stream_put_together_is_the_same_message() -> None:
    async def ask(client: Any) -> Any:
        async with client.messages.stream(**ASKED, tools=[WEATHER]) as stream:
            kinds = [event.type async for event in stream]
            return kinds, await stream.get_final_message()

    kinds, message = through_the_package(ask, CALLS)
    assert seen(message) == SAID and message.stop_reason == "tool_use"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (10, 5)
    assert (kinds[0], kinds[-1], kinds.count("content_block_stop")) == ("message_start", "message_stop", 3)


def test_a_call_that_was_forced_is_a_call_to_who_looks_at_the_reason() -> None:
    """The engine says "stop" of it."""
    forced = Says(calls=[("weather", "{}")], finish="stop")
    choice = {"type": "tool", "name": "weather"}
    message = through_the_package(
        lambda client: client.messages.create(**ASKED, tools=[WEATHER], tool_choice=choice), forced
    )
    assert message.stop_reason == "tool_use"


def test_the_servers_tools_run_for_these_clients_too() -> None:
    message = through_the_package(
        lambda client: client.messages.create(**ASKED, tools=[SEARCH]),
        Says(content="Let me look.", calls=[scripts.search("zip")]),
        Says(content="It pairs."),
    )
    assert seen(message) == [("text", "Let me look.\n\nIt pairs.")]
    (event,) = message.model_extra["tool_events"]
    assert (event["type"], event["status"]) == ("search_docs", "ok")


def test_errors_have_anthropics_form_before_and_in_the_middle_of_a_stream() -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        through_the_package(lambda client: client.messages.create(**ASKED, tools=[{"type": "nothing"}]), CALLS)
    assert caught.value.body["error"]["type"] == "invalid_request_error"
    with pytest.raises(anthropic.NotFoundError, match="is not served here"):
        through_the_package(lambda client: client.messages.create(**{**ASKED, "model": "claude"}), CALLS)

    async def ask(client: Any) -> list[Any]:
        return [event async for event in await client.messages.create(**ASKED, stream=True)]

    with pytest.raises(anthropic.APIStatusError, match="the engine died"):
        through_the_package(ask, Says(content="Half a", lost="after"))


def test_models_are_listed_in_the_form_of_who_asks() -> None:
    async def ask(client: Any) -> Any:
        return [model async for model in client.models.list()], await client.models.retrieve("base")

    models, one = through_the_package(ask, CALLS)
    assert [(model.id, model.type) for model in models] == [("base", "model")] and one.created_at.year > 2000


def test_a_rate_refuses_these_clients_in_their_form() -> None:
    async def ask(client: Any) -> Any:
        await client.messages.create(**ASKED)
        with pytest.raises(anthropic.RateLimitError, match="1 requests a minute") as caught:
            await client.messages.create(**ASKED)
        return caught.value

    error = through_the_package(ask, CALLS, requests_per_minute=1)
    assert error.body["error"]["type"] == "rate_limit_error" and int(error.response.headers["retry-after"]) > 50
