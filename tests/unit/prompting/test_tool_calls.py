"""Calls are read in every dialect and never run; Java's and JavaScript's values are read as they are meant."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.evaluation.suites.source_values import read_source, write_source
from app.prompting.tool_calls import Call, MalformedCallError, call_text, parse_calls

WEATHER = Call(name="get_weather", arguments={"city": "Oslo", "days": 3})
DIALECTS = {
    "hermes": '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}\n</tool_call>',
    "hermes, after prose": 'So:\n<tool_call>{"name":"get_weather","arguments":{"city":"Oslo","days":3}}</tool_call>',
    "hermes, cut off after the call": '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}',
    "smollm2": '<tool_call>[{"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}]</tool_call>',
    "fence in tags": '<tool_call>```json\n{"name":"get_weather","arguments":{"city":"Oslo","days":3}}\n```</tool_call>',
    "fence": '```json\n[{"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}]\n```',
    "bare object": '{"name": "get_weather", "parameters": {"city": "Oslo", "days": 3}}',
    "bare array, then prose": '[{"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}] That is all.',
    "bare after prose": 'I call:\n{"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}',
    "openai": json.dumps(
        {"type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo", "days": 3}'}}
    ),
    "python": "[get_weather(city='Oslo', days=3)]",
    "python in a fence": "```python\n[get_weather(city='Oslo', days=3)]\n```",
}
PROSE = [
    "",
    "The weather is fine.",
    "[]",
    "<tool_call>[]</tool_call>",
    '{"city": "Oslo"}',
    '{"name": "Oslo", "age": 3}',
    "[1, 2, 3]",
    "[Oslo](https://example.org) is a city.",
    "```python\nprint(get_weather(city='Oslo'))\n```",
    '{"name": "get_weather", "description": "Weather.", "parameters": {"type": "object", "properties": {}}}',
]
MALFORMED = [
    "<tool_call></tool_call>",
    "<tool_call>get the weather</tool_call>",
    '<tool_call>{"name": "get_weather"}</tool_call>',
    '<tool_call>{"name": "get_weather", "arguments": [1]}</tool_call>',
    '<tool_call>{"name": "get_weather", "arguments": {"city": "Oslo"</tool_call>',
    '<tool_call>{"name": "f", "arguments": {}} and so on</tool_call>',
    '{"name": "get_weather", "arguments": {"city": ',
    "[get_weather(city='Oslo', days=3), 5]",
    "[get_weather(city='Oslo', *days)]",
    "[get_weather(city='Oslo'",
    '<tool_call>{"name": "f", "arguments": {"x": ' + "[" * 5000 + "]" * 5000 + "}}</tool_call>",
]


SOURCE = st.lists(st.sampled_from(list("[](){}<>,:;'\"\\ na1") + ["new HashMap<>() {{ put(", "Map.of("]), max_size=20)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_call_is_read_in_every_dialect(dialect: str) -> None:
    assert parse_calls(DIALECTS[dialect]) == [WEATHER]


def test_several_calls_are_read_in_their_order() -> None:
    two = [WEATHER, Call(name="hotel.book", arguments={"city": "Rome", "ids": [1, 2], "who": "guest.name"})]
    assert parse_calls(call_text(two)) == two
    array = json.dumps([{"name": call.name, "arguments": call.arguments} for call in two])
    assert parse_calls(array) == parse_calls(f"<tool_call>{array}</tool_call>") == two
    assert parse_calls(array[1:-1].replace("}}, {", "}}\n{")) == two
    python = "[get_weather(city='Oslo', days=3), hotel.book(city='Rome', ids=(1, 2), who=guest.name)]"
    assert parse_calls(python) == two


def test_code_inside_an_argument_is_not_taken_for_the_reply() -> None:
    call = Call(name="write", arguments={"text": '```json\n[{"name": "f", "arguments": {}}]\n```'})
    assert parse_calls(call_text([call])) == [call]
    assert parse_calls(json.dumps({"name": call.name, "arguments": call.arguments})) == [call]


@pytest.mark.parametrize("reply", PROSE)
def test_prose_holds_no_call(reply: str) -> None:
    assert parse_calls(reply) == []


@pytest.mark.parametrize("reply", MALFORMED)
def test_a_broken_call_is_malformed(reply: str) -> None:
    with pytest.raises(MalformedCallError):
        parse_calls(reply)


def test_python_calls_are_never_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    [call] = parse_calls(f"[f(x=__import__('pathlib').Path({str(marker)!r}).touch())]")
    assert call.arguments["x"].startswith("__import__") and not marker.exists()


@pytest.mark.parametrize(
    ("text", "kind", "items", "value"),
    [
        ("5", "integer", "any", 5),
        ("5L", "integer", "any", 5),
        ("5n", "integer", "any", 5),
        ("five", "integer", "any", "five"),
        ("2.5f", "number", "any", 2.5),
        ("true", "boolean", "any", True),
        ("'text'", "string", "any", "text"),
        ("new ArrayList<>(Arrays.asList(1L, 2L))", "array", "integer", [1, 2]),
        ("new ArrayList<String>() {{ add(\"a, b\"); add('c'); }}", "array", "string", ["a, b", "c"]),
        ("new ArrayList<>()", "array", "string", []),
        ('new String[]{"-v", "60"}', "array", "string", ["-v", "60"]),
        ("List.of(1, 2)", "array", "integer", [1, 2]),
        ("['a', true, 3, 2.5, [1]]", "array", "any", ["a", True, 3, 2.5, [1]]),
        ("new Array(1, 2)", "array", "integer", [1, 2]),
        ("myList", "array", "integer", "myList"),
        ('new HashMap<String, Object>() {{ put("a", 1); put("b", "x"); }}', "object", "any", {"a": 1, "b": "x"}),
        ("new HashMap<>()", "object", "any", {}),
        ('Map.of("a", 1, "b", true)', "object", "any", {"a": 1, "b": True}),
        ("{a: [f('x')], 'b': {c: 1}, d: g}", "object", "any", {"a": ["f('x')"], "b": {"c": 1}, "d": "g"}),
        ("42", "any", "any", "42"),
    ],
)
def test_java_and_javascript_source_is_read_as_values(text: str, kind: Any, items: Any, value: Any) -> None:
    assert read_source(text, kind, items) == value


@settings(deadline=None)
@given(
    text=st.text() | SOURCE.map("".join),
    kind=st.sampled_from(["string", "integer", "number", "array", "object", "any"]),
)
def test_any_source_is_read(text: str, kind: Any) -> None:
    read_source(text, kind)
    read_source("[" * 3000 + text, kind)


@settings(deadline=None)
@given(value=st.lists(st.text("abcXYZ_ ,.'", max_size=8) | st.integers() | st.booleans(), max_size=4))
def test_written_source_is_read_again(value: list[Any]) -> None:
    for language in ("java", "javascript"):
        read = read_source(write_source({"list": value}, language), "object")
        assert read == {"list": value}
        assert [type(entry) for entry in read["list"]] == [type(entry) for entry in value]
