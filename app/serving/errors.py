"""Errors as OpenAI's API shapes them: `{"error": {"message", "type", "param", "code"}}`; and for those who speak
Anthropic's, `{"type": "error", "error": {"type", "message"}}`.

Clients choose their exception by the HTTP status (openai-python's `_make_status_error`) and show the message; in the
middle of a stream, where the status is spent, an event with the same object makes openai-python raise APIError.
"""

import json
import math
import re
from typing import Any

from starlette.responses import JSONResponse

NO_STORE = {"Cache-Control": "no-store"}
ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_ERROR_EVENT = re.compile(rb'^data: (\{\s?"error":.*)$', re.M)


class ApiError(Exception):
    """A request that is refused or failed. The message is for the client: it names the cause and the way out."""

    def __init__(
        self,
        status: int,
        message: str,
        type: str,
        code: str,
        param: str | None = None,
        retry_after: float | None = None,
        allow: str | None = None,
    ) -> None:
        """allow: the methods that the path takes, for a 405 (RFC 9110)."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.code = code
        self.param = param
        self.retry_after = retry_after
        self.allow = allow

    def __reduce__(self) -> tuple[Any, ...]:
        """So that it crosses from a Ray actor whole."""
        fields = self.status, self.message, self.type, self.code, self.param, self.retry_after, self.allow
        return ApiError, fields


def unauthenticated(message: str) -> ApiError:
    return ApiError(401, message, "authentication_error", "invalid_api_key")


def forbidden(message: str) -> ApiError:
    return ApiError(403, message, "permission_error", "forbidden")


def unknown_route() -> ApiError:
    return ApiError(404, "there is nothing at this path", "invalid_request_error", "not_found")


def unknown_model(name: str, known: list[str]) -> ApiError:
    message = f"model {name[:200]!r} is not served here: use {' or '.join(map(repr, known))}"
    return ApiError(404, message, "invalid_request_error", "model_not_found", param="model")


def wrong_method(method: str, allowed: str) -> ApiError:
    message = f"this path takes {allowed}, not {method[:20]}"
    return ApiError(405, message, "invalid_request_error", "method_not_allowed", allow=allowed)


def slow_body(seconds: float) -> ApiError:
    return ApiError(408, f"the body did not arrive within {seconds:g} s: send it again", "timeout_error", "timeout")


def slow_answer(seconds: float) -> ApiError:
    message = f"no answer within {seconds:g} s: ask for fewer tokens, or stream"
    return ApiError(504, message, "timeout_error", "timeout")


def too_large(limit: int) -> ApiError:
    message = f"the body is larger than {limit} bytes: send less"
    return ApiError(413, message, "invalid_request_error", "request_too_large")


def malformed(message: str) -> ApiError:
    return ApiError(400, message, "invalid_request_error", "malformed_request")


def invalid(message: str, param: str | None) -> ApiError:
    return ApiError(422, message, "invalid_request_error", "invalid_value", param=param)


def queue_full(retry_after: float) -> ApiError:
    message = f"the server has as many requests as it can hold: try again in {math.ceil(retry_after)} s"
    return ApiError(429, message, "rate_limit_error", "queue_full", retry_after=retry_after)


def rate_limited(cause: str, retry_after: float) -> ApiError:
    message = f"{cause}: try again in {math.ceil(retry_after)} s"
    return ApiError(429, message, "rate_limit_error", "rate_limit_exceeded", retry_after=retry_after)


def unavailable(message: str, retry_after: float) -> ApiError:
    """The engine is starting or down; the message says which."""
    return ApiError(503, message, "server_error", "engine_unavailable", retry_after=retry_after)


def tools_unavailable(retry_after: float) -> ApiError:
    """The process that runs the server's own tools is not there."""
    message = "the server's tools (application `tools`) are not running: leave them out, or try again soon"
    return ApiError(503, message, "server_error", "tools_unavailable", "tools", retry_after)


def nothing_confined() -> ApiError:
    """The machine can't confine programs, so that none is run."""
    message = "programs can't be confined on this server, so no answer is tested: ask the model's plain name"
    return ApiError(503, message, "server_error", "tests_unavailable", "model")


def engine_died(retry_after: float, *, may_repeat: bool) -> ApiError:
    if may_repeat:
        message = "the engine died while it answered, and another one is starting: send the request again"
        return unavailable(message, retry_after)
    message = "the engine died of this request, or under it: another one is starting; ask for something smaller"
    return ApiError(503, message, "server_error", "engine_died")


def internal() -> ApiError:
    """A bug. Its text stays in the server's log: it may hold paths, prompts or settings."""
    return ApiError(500, "the server failed at this request: its log says why", "server_error", "internal_error")


def from_engine(status: int, body: bytes) -> ApiError:
    """What vLLM refused, in OpenAI's shape: its own has the status, a number, for a code, and clients read a text."""
    try:
        error = json.loads(body)["error"]
        message, param = str(error["message"]), error.get("param")
    except (ValueError, KeyError, TypeError):
        return internal()
    if status >= 500:
        return internal()
    too_long = "maximum context length" in message
    code = "context_length_exceeded" if too_long else "invalid_value"
    return ApiError(status, message, "invalid_request_error", code, "prompt" if too_long else param)


def error_in(events: bytes) -> ApiError | None:
    """What an engine's stream says of an error in its middle, but for the words of a failure of its own; None where it
    says of none."""
    found = _ERROR_EVENT.search(events)
    if found is None:
        return None
    try:
        code = json.loads(found[1])["error"]["code"]
    except (ValueError, LookupError, TypeError):
        code = None
    return from_engine(code if isinstance(code, int) else 500, found[1])


def error_body(error: ApiError) -> dict[str, Any]:
    return {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}


def anthropic_body(error: ApiError) -> dict[str, Any]:
    """Kinds and statuses are Anthropic's, whose clients know no 422. They look for the words "prompt is too long" when
    they want to know whether to shorten a conversation."""
    status = anthropic_status(error)
    kind = ANTHROPIC_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    is_long = error.code == "context_length_exceeded"
    return {
        "type": "error",
        "error": {"type": kind, "message": ("prompt is too long: " if is_long else "") + error.message},
    }


def anthropic_status(error: ApiError) -> int:
    return 400 if error.status == 422 else error.status


def error_response(error: ApiError, *, anthropic: bool = False) -> JSONResponse:
    """The response, in OpenAI's form or in Anthropic's. Retry-After is rounded up to whole seconds, as HTTP has it."""
    headers = dict(NO_STORE)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if error.allow is not None:
        headers["Allow"] = error.allow
    if error.status == 504 or error.code == "engine_died":
        headers["x-should-retry"] = "false"  # openai-python repeats a 5xx twice: the same would happen again
    if anthropic:
        return JSONResponse(anthropic_body(error), anthropic_status(error), headers)
    return JSONResponse(error_body(error), error.status, headers)


def error_event(error: ApiError) -> str:
    """One server-sent event; the caller ends the stream after it, without [DONE], since the answer is not whole."""
    return f"data: {json.dumps(error_body(error))}\n\n"
