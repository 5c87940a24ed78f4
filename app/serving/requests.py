"""What a request may ask for, checked before any engine sees it.

`parse_chat` and `parse_completion` take the body's bytes and return a dict for vLLM's OpenAI server with the fields
that were given, or raise ApiError: 400 for what is not JSON, 422 for a field, which the message names with its value.
They raise nothing else, whatever the bytes.
"""

import json
import math
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from app.files.text import has_surrogates
from app.serving.errors import ApiError, invalid, malformed
from app.serving.schema import BySchema, ChatRequest, CompletionRequest, Request, ServerTool, Tool
from app.serving.schema_references import leads_nowhere

AnyRequest = TypeVar("AnyRequest", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    max_model_len: int
    """Prompt and answer together, in tokens."""
    max_n: int = 8
    max_answers: int = 2048
    """Answers that one request asks for, over all its prompts. vLLM has a cap of its own on prompts: start it with
    VLLM_MAX_COMPLETION_PROMPTS at least this."""
    max_stop: int = 16
    """vLLM has a cap of its own: start it with VLLM_MAX_STOP_STRINGS at least this."""
    max_stop_chars: int = 256
    max_logprobs: int = 20
    max_schema_bytes: int = 64 * 1024
    """The most bytes of response_format, and of all tools together, as JSON."""
    max_messages: int = 1024
    max_logit_bias: int = 1024
    max_depth: int = 32
    """Lists and objects within each other, anywhere in the body."""
    tools: tuple[str, ...] = ()
    """Tools that the server runs for those who ask."""


def parse_chat(body: bytes, limits: Limits) -> dict[str, Any]:
    return _parse(ChatRequest, body, limits)


def parse_completion(body: bytes, limits: Limits) -> dict[str, Any]:
    return _parse(CompletionRequest, body, limits)


def loaded(body: bytes, limits: Limits) -> dict[str, Any]:
    """The object that the bytes hold, with no text in it that can't be sent on. Raises ApiError."""
    data = _load(body)
    if not isinstance(data, dict):
        raise invalid(f"the body is {_short(data)}: send a JSON object", None)
    for field, value in data.items():
        _check_tree(field, value, limits.max_depth)
    return data


def validated(model: type[AnyRequest], data: dict[str, Any]) -> AnyRequest:
    """Raises ApiError that names the first field that is wrong."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _explain(error, data, model) from None


def checked_chat(data: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """A chat that was put together from another API's request, held to everything that chats are held to."""
    return _fields(validated(ChatRequest, data), limits)


def _parse(model: type[Request], body: bytes, limits: Limits) -> dict[str, Any]:
    return _fields(validated(model, loaded(body, limits)), limits)


def _fields(request: Request, limits: Limits) -> dict[str, Any]:
    _check_caps(request, limits)
    fields = request.model_dump(exclude_unset=True, by_alias=True)
    if isinstance(request, CompletionRequest):
        fields["prompt"] = request.prompt  # left out it has a meaning too
    return {name: value for name, value in fields.items() if value is not None}


def count_answers(body: dict[str, Any]) -> int:
    """How many answers a checked body asks the engine for: `n` for each of its prompts."""
    prompt = body.get("prompt", "")
    prompts = len(prompt) if isinstance(prompt, list) and not isinstance(prompt[0], int) else 1
    return prompts * body.get("n", 1)


def _load(body: bytes) -> Any:
    try:
        return json.loads(body.decode(), parse_constant=_refuse_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise malformed(f"the body is no JSON ({error.msg}, character {error.pos}): mend it") from None
    except RecursionError:
        raise malformed("the body is nested too deep for JSON: flatten it") from None
    except ValueError as error:  # no UTF-8, or a number of thousands of digits
        reason = "no UTF-8" if isinstance(error, UnicodeDecodeError) else "a number that is too long"
        raise malformed(f"the body can't be read ({reason}): send JSON in UTF-8") from None


def _refuse_constant(text: str) -> NoReturn:
    raise malformed(f"{text} is no JSON: send a finite number")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise malformed(f"{text[:40]} is too large for a number: send a finite one")
    return value


def _check_tree(field: str, value: Any, max_depth: int) -> None:
    """Refuse deep nesting and text that can't be sent on, without recursion of our own."""
    if has_surrogates(field):
        raise invalid(f"the field {_short(field)} is no Unicode: half of a surrogate pair is missing", None)
    pending = [(value, 1)]
    while pending:
        node, depth = pending.pop()
        if isinstance(node, str):
            if has_surrogates(node):
                raise invalid(f"{field}: {_short(node)} is no Unicode: half of a surrogate pair is missing", field)
            continue
        if not isinstance(node, dict | list):
            continue
        if depth > max_depth:
            raise invalid(f"{field} is nested more than {max_depth} deep: flatten it", field)
        pending.extend((child, depth + 1) for child in _children(node))


def _children(node: dict[str, Any] | list[Any]) -> Iterator[Any]:
    if isinstance(node, dict):
        yield from node
        yield from node.values()
    else:
        yield from node


def _check_caps(request: Request, limits: Limits) -> None:
    for field, cap in (
        ("max_tokens", limits.max_model_len),
        ("max_completion_tokens", limits.max_model_len),
        ("n", limits.max_n),
        ("top_logprobs", limits.max_logprobs),
        ("logprobs", limits.max_logprobs),
    ):
        value = getattr(request, field, None)
        if value is not None and value > cap:
            raise invalid(f"{field} is {_short(value)}: at most {cap} here", field)
    for field, cap, unit in (
        ("stop", limits.max_stop, "texts"),
        ("messages", limits.max_messages, "messages"),
        ("logit_bias", limits.max_logit_bias, "tokens"),
    ):
        size = len(getattr(request, field, None) or ())
        if size > cap:
            raise invalid(f"{field} has {size} {unit}: at most {cap} here", field)
    longest = max(map(len, request.stop or ()), default=0)
    if longest > limits.max_stop_chars:
        raise invalid(f"stop has a text of {longest} characters: at most {limits.max_stop_chars} here", "stop")
    if isinstance(request, CompletionRequest):
        _check_prompts(request, limits)
    elif isinstance(request, ChatRequest):
        _check_server_tools(request, limits)
    for field in ("response_format", "tools"):
        _check_size(field, request.model_dump(include={field}, exclude_unset=True, by_alias=True), limits)
    for path, schema in _schemas(request):
        if leads_nowhere(schema):
            raise invalid(f"{path} has a $ref that leads to itself alone, so nothing fits it: give it a type", path)


def _schemas(request: Request) -> Iterator[tuple[str, dict[str, Any]]]:
    """The JSON schemas of a request by their paths."""
    if isinstance(request.response_format, BySchema):
        yield "response_format.json_schema.schema", request.response_format.json_schema.schema_
    for number, tool in enumerate(request.tools or () if isinstance(request, ChatRequest) else ()):
        if isinstance(tool, Tool) and tool.function.parameters is not None:
            yield f"tools.{number}.function.parameters", tool.function.parameters


def _check_prompts(request: CompletionRequest, limits: Limits) -> None:
    prompts = request.prompts()
    answers = len(prompts) * (request.n or 1)
    if answers > limits.max_answers:
        message = f"prompt asks for {answers} answers ({len(prompts)} prompts, {request.n or 1} of each)"
        raise invalid(f"{message}: at most {limits.max_answers} in one request", "prompt")
    longest = max((len(prompt) for prompt in prompts if isinstance(prompt, list)), default=0)
    if longest >= limits.max_model_len:
        message = f"prompt has {longest} tokens: with the answer at most {limits.max_model_len} here"
        raise invalid(message, "prompt")


def _check_server_tools(request: ChatRequest, limits: Limits) -> None:
    for number, tool in enumerate(request.tools or ()):
        if isinstance(tool, ServerTool) and tool.type not in limits.tools:
            path, on = f"tools.{number}.type", " and ".join(map(repr, limits.tools)) or "none"
            message = f"{path} is {tool.type!r}: this server runs {on}; leave it out, or turn it on by serving.tools"
            raise invalid(message, path)


def _check_size(field: str, held: dict[str, Any], limits: Limits) -> None:
    size = len(json.dumps(held, ensure_ascii=False).encode())
    if size > limits.max_schema_bytes:
        raise invalid(f"{field} takes {size} bytes as JSON: at most {limits.max_schema_bytes} here", field)


def _explain(error: ValidationError, data: dict[str, Any], model: type[BaseModel]) -> ApiError:
    """The first mistake in words. Pydantic counts every union member on the way; the client's own path is shown."""
    details = error.errors(include_url=False, include_context=False)[0]
    path = _path(details, data)
    if details["type"] == "extra_forbidden":
        parent = ".".join(path.split(".")[:-1])
        known = f": known are {', '.join(model.model_fields)}" if not parent else ""
        return invalid(f"{path} is not supported here: leave it out{known}", path)
    if details["type"] == "missing":
        return invalid(f"{path} is missing: give it", path)
    if not path:  # a rule over several fields, which names them
        return invalid(details["msg"], details["msg"].split()[0])
    return invalid(f"{path} is {_short(details['input'])}: {_reason(details)}", path)


def _reason(details: ErrorDetails) -> str:
    if details["type"].startswith("union_tag"):
        return "its kind is none of those known here; see 'role' or 'type'"
    return details["msg"][0].lower() + details["msg"][1:]


def _path(details: ErrorDetails, data: Any) -> str:
    """Where the mistake is, in the client's words: pydantic's names of union members aren't in the body."""
    names: list[str] = []
    node = data
    for step in details["loc"]:
        if isinstance(node, dict) and step in node or isinstance(node, list) and isinstance(step, int):
            names.append(str(step)[:64])
            node = node[step]  # type: ignore[index]
    if details["type"] == "missing" and not (isinstance(node, type(None)) and names):  # a null is named already
        names.append(str(details["loc"][-1]))
    return ".".join(names)


_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 60
_REPR.maxlevel = 2


def _short(value: Any) -> str:
    return _REPR.repr(value)[:120].encode(errors="replace").decode()
