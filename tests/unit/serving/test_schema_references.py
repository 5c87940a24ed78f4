"""Schemas whose grammar lets no token through, at which the engine failed, and those that only look like them."""

import json
from typing import Any

import pytest

from app.serving.anthropic.asked import parse_messages
from app.serving.errors import ApiError
from app.serving.requests import Limits, parse_chat
from app.serving.schema_references import leads_nowhere
from tests.costs import takes_less_than

SELF: dict[str, Any] = {"$ref": "#/$defs/a"}
NOWHERE: list[dict[str, Any]] = [
    {"$ref": "#"},
    {"$defs": {"a": SELF}, **SELF},
    {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": SELF}, "type": "array", "items": SELF},
    {"anyOf": [{"$ref": "#"}]},
    {"allOf": [{"$ref": "#"}, {"type": "object"}]},
    {"type": "object", "properties": {"a": {"$ref": "#/properties/b"}, "b": {"$ref": "#/properties/a"}}},
    {"type": "array", "items": {"$ref": "#/items"}},
    {"anyOf": [{"$defs": {}, "oneOf": [{"$ref": "#/anyOf/0"}]}]},
]
SOMEWHERE: list[dict[str, Any]] = [
    {"$defs": {"a": {"anyOf": [SELF, {"type": "string"}]}}, **SELF},
    {"oneOf": [{"$ref": "#"}, {"type": "null"}]},
    {"type": "object", "properties": {"next": {"$ref": "#"}}},
    {"$defs": {"a": SELF}, "type": "string"},
    {"$ref": "#/nowhere"},
    {"$ref": "https://example.org/a"},
    {"const": {"$ref": "#/const"}},
    {"type": "array", "items": {"$ref": "#/const/0"}, "const": [{"$ref": "#"}]},
    {"$defs": {"a/b": {"type": "string"}}, "$ref": "#/$defs/a~1b"},
    {"anyOf": [], "allOf": 5, "$defs": 5},
    {},
]


@pytest.mark.parametrize("schema", NOWHERE, ids=json.dumps)
def test_a_reference_that_comes_back_to_itself_is_seen(schema: dict[str, Any]) -> None:
    assert leads_nowhere(schema)


@pytest.mark.parametrize("schema", SOMEWHERE, ids=json.dumps)
def test_what_can_be_written_stays(schema: dict[str, Any]) -> None:
    assert not leads_nowhere(schema)


def test_it_is_refused_by_its_path_in_every_form() -> None:
    chat = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    shape = {"type": "json_schema", "json_schema": {"name": "s", "schema": NOWHERE[0]}}
    tool = {"type": "function", "function": {"name": "f", "parameters": NOWHERE[0]}}
    for fields, path in (({"response_format": shape}, "response_format.json"), ({"tools": [tool]}, "tools.0.function")):
        with pytest.raises(ApiError, match=f"{path}.* has a .ref that leads to itself") as caught:
            parse_chat(json.dumps({**chat, **fields}).encode(), Limits(max_model_len=100))
        assert caught.value.status == 422
    theirs = {**chat, "max_tokens": 5, "tools": [{"name": "f", "input_schema": NOWHERE[0]}]}
    with pytest.raises(ApiError, match="leads to itself"):
        parse_messages(json.dumps(theirs).encode(), Limits(max_model_len=100))


def test_a_long_chain_costs_little() -> None:
    chain: dict[str, Any] = {f"a{n}": {"anyOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(800)}
    with takes_less_than(2):
        assert not leads_nowhere({"$defs": chain, "$ref": "#/$defs/a0"})
        chain["a800"] = {"$ref": "#/$defs/a0"}
        assert leads_nowhere({"$defs": chain, "$ref": "#/$defs/a0"})
