"""What clients see whatever happens behind the edge: queue, time, lost engines. Engines here are scripts."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import httpx
import pytest

from app.serving.edge import Edge
from app.serving.engine_protocol import EngineLostError, Head
from app.serving.errors import ApiError, invalid
from app.serving.kinds import CHAT, COMPLETIONS, MESSAGES
from app.settings import ServingSettings

JSON = Head(200, [(b"content-type", b"application/json"), (b"content-length", b"999")])
EVENTS = Head(200, [(b"content-type", b"text/event-stream")])
BODY = {"model": "base", "messages": [{"role": "user", "content": "hi"}]}
Script = Callable[["Engines", int], AsyncGenerator[Head | bytes, None]]


class Engines:
    """An upstream that plays `script(self, number of the call)`."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.bodies: list[dict[str, Any]] = []
        self.names = ["base", "sft"]
        self.closed = 0
        self.down = False

    async def models(self) -> tuple[list[str], int]:
        if self.down:
            raise EngineLostError("starting", may_repeat=True)
        return self.names, 512

    async def call(self, path: str, body: dict[str, Any]) -> AsyncGenerator[Head | bytes, None]:
        self.bodies.append(body)
        try:
            async for part in self.script(self, len(self.bodies)):
                yield part
        finally:
            self.closed += 1


async def whole(engines: Engines, number: int) -> AsyncGenerator[Head | bytes, None]:
    yield JSON
    yield b'{"ok": '
    yield b"true}"


async def slow(engines: Engines, number: int) -> AsyncGenerator[Head | bytes, None]:
    yield EVENTS
    yield b"data: 1\n\n"
    await asyncio.sleep(60)


def run(
    engines: Engines,
    use: Callable[[httpx.AsyncClient, Edge], Coroutine[Any, Any, Any]],
    **settings: Any,
) -> Any:
    async def go() -> Any:
        edge = Edge(engines, ServingSettings(**{"max_num_seqs": 1, "max_waiting": 1, **settings}))
        transport = httpx.ASGITransport(edge.app(), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await use(client, edge)

    return asyncio.run(go())


def post(engines: Engines, *, path: str = CHAT, body: dict[str, Any] = BODY, **settings: Any) -> httpx.Response:
    return run(engines, lambda client, _: client.post(path, json=body), **settings)


def events(response: httpx.Response) -> list[str]:
    return [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]


def test_an_answer_is_the_engines_own() -> None:
    response = post(Engines(whole))
    assert (response.status_code, response.json()) == (200, {"ok": True})


def test_a_stream_arrives_while_it_grows() -> None:
    async def use(_: httpx.AsyncClient, edge: Edge) -> list[Head | bytes]:
        parts = edge.answer(CHAT, json.dumps({**BODY, "stream": True}).encode())
        first = [await asyncio.wait_for(anext(parts), 5) for _ in range(2)]
        await parts.aclose()
        return first

    engines = Engines(slow)
    assert run(engines, use) == [EVENTS, b"data: 1\n\n"]
    assert engines.closed == 1, "a client that leaves must abort its request"


def test_a_place_is_free_again_after_a_client_left() -> None:
    async def use(client: httpx.AsyncClient, edge: Edge) -> int:
        for _ in range(5):
            parts = edge.answer(CHAT, json.dumps({**BODY, "stream": True}).encode())
            await anext(parts)
            await parts.aclose()
        engines.script = whole
        return (await client.post(CHAT, json=BODY)).status_code

    engines = Engines(slow)
    assert run(engines, use) == 200


def test_a_full_queue_answers_429_and_when_to_try_again() -> None:
    async def use(client: httpx.AsyncClient, edge: Edge) -> httpx.Response:
        held = [edge.answer(CHAT, json.dumps({**BODY, "stream": True}).encode()) for _ in range(2)]
        for parts in held:
            await anext(parts)
        refused = await client.post(CHAT, json=BODY)
        for parts in held:
            await parts.aclose()
        return refused

    response = run(Engines(slow), use)
    assert response.status_code == 429
    assert int(response.headers["retry-after"]) >= 1
    assert response.json()["error"]["code"] == "queue_full"


def test_each_answer_of_a_batch_takes_a_place() -> None:
    async def use(client: httpx.AsyncClient, edge: Edge) -> list[int]:
        batch = {"model": "base", "prompt": [[1], [2], [3]], "n": 2, "stream": True}
        held = edge.answer(COMPLETIONS, json.dumps(batch).encode())
        await anext(held)
        counted = [edge._in_flight]
        for prompts in (["a"] * 5, ["a"] * 4):  # 10 places, 6 of them taken
            parts = edge.answer(COMPLETIONS, json.dumps({**batch, "prompt": prompts, "n": 1}).encode())
            try:
                await anext(parts)
            except ApiError as error:
                counted.append(error.status)
            else:
                counted.append(edge._in_flight)
                await parts.aclose()
        await held.aclose()
        return [*counted, edge._in_flight]

    assert run(Engines(slow), use, max_num_seqs=2, max_waiting=8) == [6, 429, 10, 0]


def test_a_batch_that_is_larger_than_the_queue_is_let_in_when_nothing_else_is_there() -> None:
    async def use(client: httpx.AsyncClient, edge: Edge) -> list[int]:
        body = {"model": "base", "prompt": ["a"] * 32}
        held = edge.answer(CHAT, json.dumps({**BODY, "stream": True}).encode())
        await anext(held)
        busy = (await client.post(COMPLETIONS, json=body)).status_code
        await held.aclose()
        return [busy, (await client.post(COMPLETIONS, json=body)).status_code]

    async def script(engines: Engines, number: int) -> AsyncGenerator[Head | bytes, None]:
        async for part in (slow if number == 1 else whole)(engines, number):
            yield part

    assert run(Engines(script), use) == [429, 200]


def test_an_unknown_model_is_named_with_those_that_are_there() -> None:
    response = post(Engines(whole), body={**BODY, "model": "zz"})
    assert response.status_code == 404
    assert response.json()["error"]["message"] == "model 'zz' is not served here: use 'base' or 'sft'"


def test_an_adapter_that_is_new_is_found_without_restart() -> None:
    async def use(client: httpx.AsyncClient, _: Edge) -> list[int]:
        before = await client.post(CHAT, json={**BODY, "model": "new"})
        engines.names.append("new")
        after = await client.post(CHAT, json={**BODY, "model": "new"})
        return [before.status_code, after.status_code]

    engines = Engines(whole)
    assert run(engines, use) == [404, 200]


def test_the_limit_of_time_holds_whatever_the_client_asks() -> None:
    async def never(engines: Engines, number: int) -> AsyncGenerator[Head | bytes, None]:
        await asyncio.sleep(60)
        yield JSON

    engines = Engines(never)
    headers = {"x-request-timeout-seconds": "0"}
    response = run(engines, lambda client, _: client.post(CHAT, json=BODY, headers=headers), timeout_s=0.05)
    assert (response.status_code, response.json()["error"]["code"]) == (504, "timeout")
    assert engines.closed == 1


def test_time_that_ends_in_a_stream_is_an_event_of_it() -> None:
    response = post(Engines(slow), body={**BODY, "stream": True}, timeout_s=0.05)
    one, error = events(response)
    assert one == "1"
    assert json.loads(error)["error"]["code"] == "timeout"


@pytest.mark.parametrize("stream", [False, True])
def test_an_engine_that_is_lost_before_it_answers_costs_the_client_nothing(stream: bool) -> None:
    async def script(engines: Engines, number: int) -> AsyncGenerator[Head | bytes, None]:
        if number == 1:
            yield EVENTS  # the head alone is nothing that a client has seen
            raise EngineLostError("killed", may_repeat=True)
        yield EVENTS
        yield b"data: 2\n\n"

    response = post(Engines(script), body={**BODY, "stream": stream})
    assert events(response) == ["2"]


def test_an_engine_that_is_lost_in_a_stream_ends_it_with_a_clean_error() -> None:
    async def script(engines: Engines, number: int) -> AsyncGenerator[Head | bytes, None]:
        yield EVENTS
        yield b"data: 1\n\n"
        raise EngineLostError("killed", may_repeat=True)

    engines = Engines(script)
    response = post(engines, body={**BODY, "stream": True})
    one, error = events(response)
    assert one == "1"
    assert json.loads(error)["error"]["code"] == "engine_unavailable"
    assert len(engines.bodies) == 1, "half an answer must not be followed by another"


def test_a_request_that_killed_its_engine_is_not_given_to_the_next() -> None:
    async def script(engines: Engines, number: int) -> AsyncGenerator[Head | bytes, None]:
        raise EngineLostError("died of it", may_repeat=False)
        yield

    engines = Engines(script)
    response = post(engines)
    assert (response.status_code, len(engines.bodies)) == (503, 1)
    assert response.headers["x-should-retry"] == "false", "the openai package repeats a 503 by itself"


def test_a_request_is_tried_twice_at_most() -> None:
    async def script(engines: Engines, number: int) -> AsyncGenerator[Head | bytes, None]:
        raise EngineLostError("killed", may_repeat=True)
        yield

    engines = Engines(script)
    assert post(engines).status_code == 503
    assert len(engines.bodies) == 2


def test_what_the_engine_refuses_keeps_its_status() -> None:
    async def script(engines: Engines, number: int) -> AsyncGenerator[Head | bytes, None]:
        raise invalid("this model has no such tokens", "suffix")
        yield

    response = post(Engines(script), path=COMPLETIONS, body={"model": "base", "prompt": "a", "suffix": "b"})
    assert (response.status_code, response.json()["error"]["param"]) == (422, "suffix")


def test_a_bug_in_the_middle_of_a_stream_ends_it_with_an_event() -> None:
    async def script(engines: Engines, number: int) -> AsyncGenerator[Head | bytes, None]:
        yield EVENTS
        yield b"data: 1\n\n"
        raise KeyError("/secret/path")

    one, error = events(post(Engines(script), body={**BODY, "stream": True}))
    assert one == "1" and "secret" not in error
    assert json.loads(error)["error"]["code"] == "internal_error"


def test_a_client_that_stops_reading_gives_its_place_back() -> None:
    """The server cancels the request while it waits to send."""
    engines = Engines(slow)

    async def go() -> int:
        edge = Edge(engines, ServingSettings(max_num_seqs=1, max_waiting=0))
        body = json.dumps({**BODY, "stream": True}).encode()
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])
        blocked = asyncio.Event()

        async def receive() -> Any:
            return next(messages, None) or await asyncio.Event().wait()

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                blocked.set()
                await asyncio.Event().wait()

        scope = {"type": "http", "method": "POST", "path": CHAT, "headers": [], "query_string": b"", "root_path": ""}
        scope["asgi"] = {"version": "3.0", "spec_version": "2.3"}  # type: ignore[assignment]
        task = asyncio.create_task(edge.app()({**scope, "server": ("127.0.0.1", 1)}, receive, send))
        await asyncio.wait_for(blocked.wait(), 5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return edge._in_flight

    assert asyncio.run(go()) == 0
    assert engines.closed == 1


def test_more_engines_have_more_places() -> None:
    async def go() -> int:
        edge = Edge(Engines(slow), ServingSettings(max_num_seqs=2, max_waiting=1), num_engines=3)
        held = [edge.answer(CHAT, json.dumps({**BODY, "stream": True}).encode()) for _ in range(7)]
        for parts in held:
            await anext(parts)
        with pytest.raises(ApiError, match="as many requests as it can hold"):
            await anext(edge.answer(CHAT, json.dumps(BODY).encode()))
        for parts in held:
            await parts.aclose()
        return edge._in_flight

    assert asyncio.run(go()) == 0


def test_a_bug_is_a_plain_500_that_tells_no_secrets() -> None:
    async def script(engines: Engines, number: int) -> AsyncGenerator[Head | bytes, None]:
        raise KeyError("/secret/path")
        yield

    response = post(Engines(script))
    assert (response.status_code, "secret" in response.text) == (500, False)


def test_models_are_listed_with_their_base_and_room() -> None:
    async def use(client: httpx.AsyncClient, _: Edge) -> tuple[Any, Any, int]:
        listed, one = (await client.get("/v1/models")).json(), (await client.get("/v1/models/sft")).json()
        return listed, one, (await client.get("/v1/models/zz")).status_code

    listed, one, missing = run(Engines(whole), use)
    assert [(card["id"], card["parent"], card["max_model_len"]) for card in listed["data"]] == [
        ("base", None, 512),
        ("sft", "base", 512),
    ]
    assert one == listed["data"][1]
    assert missing == 404


def test_health_says_whether_an_engine_answers() -> None:
    async def use(client: httpx.AsyncClient, _: Edge) -> list[int]:
        up = (await client.get("/health")).status_code
        engines.down = True
        return [up, (await client.get("/health")).status_code]

    engines = Engines(whole)
    assert run(engines, use) == [200, 503]


def test_max_tokens_beyond_what_the_engine_has_room_for_is_refused() -> None:
    async def use(client: httpx.AsyncClient, _: Edge) -> int:
        await client.get("/health")
        return (await client.post(CHAT, json={**BODY, "max_tokens": 513})).status_code

    assert run(Engines(whole), use) == 422


@pytest.mark.parametrize(("code", "said", "outcome"), [(500, "its log says why", "internal_error"),
                                                       (400, "/secret", "invalid_value")])  # fmt: skip
def test_an_error_in_the_middle_of_a_stream_is_told_and_counted_as_one_outside(
    code: int, said: str, outcome: str
) -> None:
    async def breaking(_: Engines, __: int) -> AsyncGenerator[Head | bytes, None]:
        yield EVENTS
        yield b"data: 1\n\n"
        yield b'data: {"error": {"message": "/secret", "type": "X", "param": null, "code": %d}}\n\n' % code
        yield b"data: [DONE]\n\n"

    async def use(client: httpx.AsyncClient, edge: Edge) -> tuple[httpx.Response, float]:
        response = await client.post(CHAT, json={**BODY, "stream": True})
        return response, edge.metrics.value("pocketcoder_requests_total", {"route": CHAT, "outcome": outcome})

    response, counted = run(Engines(breaking), use)
    first, error = events(response)
    assert (first, counted) == ("1", 1) and said in json.loads(error)["error"]["message"]


def test_a_stream_that_is_cut_off_is_no_whole_message() -> None:
    async def cut(_: Engines, __: int) -> AsyncGenerator[Head | bytes, None]:
        choice = {"index": 0, "delta": {"content": "Half a"}, "finish_reason": None}
        yield EVENTS
        yield f"data: {json.dumps({'id': 'x', 'model': 'base', 'choices': [choice]})}\n\n".encode()

    response = post(Engines(cut), path=MESSAGES, body={**BODY, "stream": True, "max_tokens": 9})
    assert "Half a" in response.text and "event: error" in response.text and "message_stop" not in response.text
