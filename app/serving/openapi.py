"""The API's own description (OpenAPI 3.1), made from the models that requests are held to: `GET /openapi.json`.

It says what a request may hold and which models there are. Rules over several fields, and what only the engine knows,
are not in it, so a request that fits the description may still be refused with one sentence.
"""

import copy
import functools
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.serving.anthropic.schema import CountRequest, MessagesRequest
from app.serving.schema import ChatRequest, CompletionRequest

JSON, EVENTS = "application/json", "text/event-stream"
COMPONENTS = "#/components/schemas/"
OPENAI, ANTHROPIC = "Error", "AnthropicError"
TEXT: dict[str, Any] = {"type": "string"}
REQUESTS: tuple[type[BaseModel], ...] = (ChatRequest, CompletionRequest, MessagesRequest, CountRequest)
KEYS: list[dict[str, list[str]]] = [{"bearer": []}, {"header": []}]
REFUSED = (400, 401, 403, 404, 408, 413, 422, 429, 500, 503, 504)
PLAIN = (400, 401, 403, 404, 500, 503)


def document(names: Sequence[str], room: int) -> dict[str, Any]:
    """The description of a server with these models and this room for prompt and answer, in tokens."""
    described = copy.deepcopy(_document())
    for model in REQUESTS:
        properties = described["components"]["schemas"][model.__name__]["properties"]
        if names:
            properties["model"]["enum"] = list(names)
        for field in ("max_tokens", "max_completion_tokens"):
            if model is not MessagesRequest and field in properties:  # there it may be more than there is
                properties[field]["maximum"] = room
    return described


@functools.cache
def _document() -> dict[str, Any]:
    _, schemas = models_json_schema([(model, "validation") for model in REQUESTS], ref_template=COMPONENTS + "{model}")
    chat, completion, messages, count = (model.__name__ for model in REQUESTS)
    return {
        "openapi": "3.1.0",
        "info": {"title": "pocketcoder", "version": "1"},
        "paths": {
            "/health": {"get": _operation("Whether an engine answers", "Health", errors=(503,), is_open=True)},
            "/v1/models": {"get": _operation("Names of the base model and of its adapters", "Models", errors=PLAIN)},
            "/v1/models/{name}": {"get": {**_operation("One of them", "Model", errors=PLAIN), "parameters": [_name()]}},
            "/v1/chat/completions": {"post": _operation("Answer a chat", "Answer", asked=chat)},
            "/v1/completions": {"post": _operation("Go on with a text", "Answer", asked=completion)},
            "/v1/messages": {"post": _operation("Answer a chat", "Answer", asked=messages, errors_as=ANTHROPIC)},
            "/v1/messages/count_tokens": {
                "post": _operation("Count a chat's tokens", "Count", asked=count, errors_as=ANTHROPIC, streams=False)
            },
            "/metrics": {"get": _operation("What was counted, for Prometheus", None, errors=PLAIN)},
            "/openapi.json": {"get": _operation("This description", "Answer", errors=PLAIN)},
        },
        "components": {"schemas": schemas["$defs"] | _answers(), "securitySchemes": _keys()},
    }


def _operation(
    summary: str,
    answer: str | None,
    *,
    asked: str = "",
    errors: tuple[int, ...] = REFUSED,
    errors_as: str = OPENAI,
    streams: bool = True,
    is_open: bool = False,
) -> dict[str, Any]:
    """answer, asked: names of schemas; None: plain text. errors: statuses beside 200."""
    content: dict[str, Any] = {JSON: {"schema": _ref(answer)}} if answer else {"text/plain": {"schema": TEXT}}
    if asked and streams:
        content[EVENTS] = {}
    operation: dict[str, Any] = {
        "summary": summary,
        "security": [] if is_open else KEYS,
        "responses": {
            "200": {"description": "The answer", "content": content},
            **{str(status): _refusal(status, "Health" if is_open else errors_as) for status in errors},
        },
    }
    if asked:
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": _ref(asked)}}}
    return operation


def _refusal(status: int, shape: str) -> dict[str, Any]:
    refusal: dict[str, Any] = {"description": "Refused, or failed", "content": {JSON: {"schema": _ref(shape)}}}
    if status in (429, 503):
        refusal["headers"] = {"Retry-After": {"schema": {"type": "integer", "minimum": 1}, "description": "Seconds"}}
    return refusal


def _answers() -> dict[str, Any]:
    entry = {"type": "object", "required": ["id"], "properties": {"id": TEXT}}
    error = _object(message=TEXT, type=TEXT, param={"type": ["string", "null"]}, code=TEXT)
    return {
        "Health": _object(status=TEXT),
        "Models": _object(data={"type": "array", "items": entry}),
        "Model": entry,
        "Answer": {"type": "object"},
        "Count": _object(input_tokens={"type": "integer", "minimum": 0}),
        OPENAI: _object(error=error),
        ANTHROPIC: _object(type={"const": "error"}, error=_object(type=TEXT, message=TEXT)),
    }


def _keys() -> dict[str, Any]:
    return {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    }


def _name() -> dict[str, Any]:
    return {"name": "name", "in": "path", "required": True, "schema": TEXT}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": COMPONENTS + name}
