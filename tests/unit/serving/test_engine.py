"""What an engine refuses before vLLM sees it, and how the refusals of vLLM are passed on. The app is a stub."""

import asyncio
import importlib
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.serving.engine import Engine, _server_of_vllm
from app.serving.engine_protocol import EngineLostError, Head
from app.serving.errors import ApiError

PATH = "/v1/chat/completions"


def call(body: dict[str, Any], *, status: int = 200, always_guesses: bool = False, dies: bool = False) -> list[Any]:
    state: Any = SimpleNamespace(errored=False)

    async def answer(request: Request) -> Response:
        state.errored = dies
        return JSONResponse({"error": {"message": "it said no", "type": "X", "param": None, "code": status}}, status)

    app = Starlette(routes=[Route(PATH, answer, methods=["POST"])])
    engine = Engine(app, state, None, "m", None, None, [], always_guesses)  # type: ignore[arg-type]

    async def go() -> list[Any]:
        return [part async for part in engine.call(PATH, {"model": "m", **body})]

    return asyncio.run(go())


@pytest.mark.parametrize("field", ["min_p", "logit_bias"])
def test_a_bias_that_guesses_would_pass_over_is_refused_with_the_setting_that_takes_it(field: str) -> None:
    value: Any = {"min_p": 0.1, "logit_bias": {"5": -100}}[field]
    with pytest.raises(ApiError, match=f"{field} does not go .* serving.speculation=none") as caught:
        call({field: value}, always_guesses=True)
    assert (caught.value.status, caught.value.param) == (422, field)
    assert isinstance(call({field: value})[0], Head)


@pytest.mark.parametrize("body", [{"min_p": 0}, {"min_p": 0.0}, {"logit_bias": {}}, {}], ids=str)
def test_a_bias_that_changes_nothing_passes(body: dict[str, Any]) -> None:
    assert isinstance(call(body, always_guesses=True)[0], Head)


def test_a_refusal_of_vllm_is_an_error_of_the_api_and_a_failure_tells_nothing() -> None:
    with pytest.raises(ApiError, match="it said no") as caught:
        call({}, status=400)
    assert (caught.value.status, caught.value.code) == (400, "invalid_value")
    with pytest.raises(ApiError) as caught:
        call({}, status=500)
    assert (caught.value.status, "said" in caught.value.message) == (500, False)


def test_what_a_dead_engine_says_is_no_refusal() -> None:
    with pytest.raises(EngineLostError):
        call({}, status=500, dies=True)


def test_the_functions_of_vllms_own_server_are_found_where_either_release_has_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed")
    names = ("make_arg_parser", "validate_parsed_serve_args", "build_app", "init_app_state")
    assert all(callable(getattr(_server_of_vllm(), name)) for name in names)
    earlier = ModuleType("vllm.entrypoints.openai.api_server")
    monkeypatch.setitem(sys.modules, "vllm.entrypoints.launchers.app", None)
    monkeypatch.setitem(sys.modules, earlier.__name__, earlier)
    monkeypatch.setattr(importlib.import_module("vllm.entrypoints.openai"), "api_server", earlier, raising=False)
    assert _server_of_vllm() is earlier
