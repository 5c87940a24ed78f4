"""Errors reach a client as OpenAI's package knows them: the right exception, the message, and when to try again."""

import asyncio
import json
import pickle
from typing import Any

import httpx
import pytest

from app.serving import errors
from app.serving.errors import ApiError, error_event, error_response


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (errors.unauthenticated("m"), 401, "authentication_error"),
        (errors.forbidden("m"), 403, "permission_error"),
        (errors.unknown_route(), 404, "invalid_request_error"),
        (errors.unknown_model("x", ["m"]), 404, "invalid_request_error"),
        (errors.wrong_method("GET", "POST"), 405, "invalid_request_error"),
        (errors.slow_body(30), 408, "timeout_error"),
        (errors.too_large(10), 413, "invalid_request_error"),
        (errors.invalid("m", "n"), 422, "invalid_request_error"),
        (errors.queue_full(2), 429, "rate_limit_error"),
        (errors.internal(), 500, "server_error"),
        (errors.unavailable("m", 5), 503, "server_error"),
        (errors.slow_answer(60), 504, "timeout_error"),
    ],
)
def test_every_error_has_openais_shape_and_survives_a_pickle(error: ApiError, status: int, kind: str) -> None:
    response = error_response(pickle.loads(pickle.dumps(error)))
    held = json.loads(response.body)["error"]
    assert (response.status_code, held["type"]) == (status, kind)
    assert set(held) == {"message", "type", "param", "code"} and held["message"] == str(error)


def test_a_client_is_told_when_to_come_back_and_when_not_to() -> None:
    assert error_response(errors.queue_full(0.2)).headers["retry-after"] == "1"
    assert error_response(errors.unavailable("starting", 4.1)).headers["retry-after"] == "5"
    assert error_response(errors.slow_answer(60)).headers["x-should-retry"] == "false"
    assert error_response(errors.unauthenticated("m")).headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("message", "param", "code"),
    [
        ("Token id 60000 is out of vocabulary", None, "invalid_value"),
        ("This model's maximum context length is 512 tokens. However, ...", "prompt", "context_length_exceeded"),
    ],
)
def test_what_an_engine_refuses_has_openais_shape_too(message: str, param: str | None, code: str) -> None:
    """vLLM's code is the status, a number; clients with types take a text or null alone."""
    body = json.dumps({"error": {"message": message, "type": "BadRequestError", "param": None, "code": 400}}).encode()
    error = errors.from_engine(400, body)
    assert (error.status, error.message, error.type, error.param, error.code) == (
        400, message, "invalid_request_error", param, code
    )  # fmt: skip


@pytest.mark.parametrize("body", [b"", b"[]", b"no JSON", b'{"error": "x"}', b'{"error": {"message": "/secret"}}'])
def test_a_failure_of_an_engine_tells_no_secrets(body: bytes) -> None:
    error = errors.from_engine(500, body)
    assert (error.status, error.code, "secret" in error.message) == (500, "internal_error", False)


def test_openais_package_raises_an_error_in_the_middle_of_a_stream() -> None:
    openai = pytest.importorskip("openai")
    chunk = {"id": "1", "object": "text_completion", "created": 0, "model": "m", "choices": []}
    body = f"data: {json.dumps(chunk)}\n\n" + error_event(errors.unavailable("the engine\nended", 5))
    client = openai.AsyncOpenAI(
        api_key="k", base_url="http://x/v1", max_retries=0, http_client=_answering(openai, body)
    )

    async def read() -> list[Any]:
        got = []
        with pytest.raises(openai.APIError, match="the engine\nended") as caught:
            async for piece in await client.completions.create(model="m", prompt="p", stream=True):
                got.append(piece)
        assert caught.value.code == "engine_unavailable"
        return got

    assert len(asyncio.run(read())) == 1


def _answering(openai: Any, body: str) -> Any:
    """An HTTP client of the kind that this version of openai takes, which answers everything with this stream."""
    library = httpx
    if not issubclass(openai.DefaultAsyncHttpxClient, httpx.AsyncClient):
        library = pytest.importorskip("httpx2")
    headers = {"content-type": "text/event-stream"}
    transport = library.MockTransport(lambda request: library.Response(200, text=body, headers=headers))
    return library.AsyncClient(transport=transport)
