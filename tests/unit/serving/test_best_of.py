"""`NAME+tests` at the edge: drafts of a scripted engine, run in the real sandbox."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from typing import Any

import httpx
import pytest

from app.best_of.testing import DraftOutcome, Trial
from app.serving.best_of import SUFFIX
from app.serving.edge import Edge
from app.serving.engine_protocol import EngineLostError, Head
from app.serving.errors import invalid, nothing_confined
from app.serving.kinds import CHAT, COMPLETIONS, COUNT_TOKENS, MESSAGES
from app.serving.tools.run_python import PythonRuns
from app.settings import SandboxSettings, ServingSettings

QUESTION = "Write f(xs), the sum of a list.\nf([1, 2]) == 3\nf([]) == 0"
RIGHT = "```python\ndef f(xs):\n    return sum(xs)\n```"
WRONG = "```python\ndef f(xs):\n    return len(xs)\n```"
BODY: dict[str, Any] = {"model": f"base{SUFFIX}", "messages": [{"role": "user", "content": QUESTION}]}
Use = Callable[[httpx.AsyncClient, Edge], Coroutine[Any, Any, Any]]


class Engines:
    """An upstream that says these texts, a request's n of them, one after the other."""

    def __init__(self, *texts: str | Exception) -> None:
        self.texts = list(texts)
        self.bodies: list[dict[str, Any]] = []
        self.hangs, self.closed = False, 0

    async def models(self) -> tuple[list[str], int]:
        return ["base", "sft"], 512

    async def call(self, path: str, body: dict[str, Any]) -> AsyncGenerator[Head | bytes, None]:
        self.bodies.append(json.loads(json.dumps(body)))
        try:
            said = [self.texts.pop(0) for _ in range(body.get("n", 1))]
            yield Head(200, [(b"content-type", b"application/json")])
            if self.hangs:
                await asyncio.sleep(60)
            if isinstance(said[0], Exception):
                raise said[0]
            yield json.dumps(answer(said, body["model"])).encode()
        finally:
            self.closed += 1


def answer(texts: Sequence[Any], model: str) -> dict[str, Any]:
    usage = {"prompt_tokens": 10, "completion_tokens": 5 * len(texts), "total_tokens": 10 + 5 * len(texts)}
    choices = [
        {"index": n, "message": {"role": "assistant", "content": text}, "logprobs": None, "finish_reason": "stop"}
        for n, text in enumerate(texts)
    ]
    kind = {"id": "chat-1", "object": "chat.completion", "created": 1, "model": model}
    return {**kind, "choices": choices, "usage": usage}


class NoSandbox:
    async def trial(self, question: str) -> Trial | None:
        raise nothing_confined()

    async def test(self, trial: Trial, programs: Sequence[str]) -> list[DraftOutcome]:
        raise nothing_confined()


@pytest.fixture(scope="module")
def runs() -> Iterator[PythonRuns]:
    made = PythonRuns(SandboxSettings(timeout_s=1, num_workers=1))
    yield made
    made.close()


def run(engines: Engines, tester: Any, use: Use, **settings: Any) -> Any:
    async def go() -> Any:
        edge = Edge(engines, ServingSettings(**{"best_of": 3, **settings}), tester=tester)
        transport = httpx.ASGITransport(edge.app(), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await use(client, edge)

    return asyncio.run(go())


def post(engines: Engines, tester: Any, path: str = CHAT, **fields: Any) -> httpx.Response:
    async def use(client: httpx.AsyncClient, _: Edge) -> httpx.Response:
        return await client.post(path, json=BODY | fields)

    response: httpx.Response = run(engines, tester, use)
    return response


def test_the_draft_that_passes_is_the_answer_and_all_tokens_count(runs: PythonRuns) -> None:
    engines = Engines(WRONG, RIGHT, "I can't.")
    found = post(engines, runs).json()
    assert [choice["message"]["content"] for choice in found["choices"]] == [RIGHT]
    assert (found["model"], found["choices"][0]["index"], found["usage"]["completion_tokens"]) == (BODY["model"], 0, 15)
    told = found["best_of"]
    assert (told["drafts"], told["examples"], told["passed"], told["drafts_passed"]) == (3, 2, 2, 1)
    assert (told["chosen_by"], told["repaired"], told["failed"], told["tokens"]) == ("examples", False, None, 15)
    (asked,) = engines.bodies
    assert (asked["model"], asked["n"], asked["temperature"]) == ("base", 3, 0.7)


def test_what_fails_is_repaired_once_with_the_values_of_the_failing_example(runs: PythonRuns) -> None:
    engines = Engines(WRONG, WRONG, WRONG, RIGHT)
    found = post(engines, runs, temperature=1.5).json()
    assert found["choices"][0]["message"]["content"] == RIGHT and found["usage"]["completion_tokens"] == 20
    assert (found["best_of"]["chosen_by"], found["best_of"]["repaired"]) == ("repair", True)
    _, repair = engines.bodies
    assert [turn["role"] for turn in repair["messages"]] == ["user", "assistant", "user"]
    assert "`f([1, 2])` returns `2`, but it has to return `3`" in repair["messages"][-1]["content"]
    assert (repair["n"], repair["temperature"]) == (1, 1.5)


@pytest.mark.parametrize(
    "error", [invalid("maximum context length", "prompt"), EngineLostError("killed", may_repeat=False)]
)
def test_a_repair_that_can_not_be_drawn_leaves_the_best_draft_and_what_it_fails(
    runs: PythonRuns, error: Exception
) -> None:
    found = post(Engines(WRONG, WRONG, "no", error), runs).json()
    assert found["choices"][0]["message"]["content"] == WRONG
    failed = found["best_of"]["failed"]
    assert (failed["example"], failed["got"], found["best_of"]["passed"]) == ("f([1, 2]) == 3", "2", 1)


def test_a_stream_tells_what_is_done_and_ends_with_the_same_report(runs: PythonRuns) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    response = post(Engines(WRONG, WRONG, WRONG, RIGHT), runs, **options)
    *lines, done = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    chunks = [json.loads(line) for line in lines]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    assert done == "[DONE]" and len({chunk["id"] for chunk in chunks}) == 1
    assert [d["best_of"]["stage"] for d in deltas if "best_of" in d] == ["drafting", "testing", "repairing"]
    assert "".join(delta.get("content", "") for delta in deltas) == RIGHT
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop" and chunks[-2]["best_of"]["chosen_by"] == "repair"
    assert chunks[-1]["usage"]["completion_tokens"] == 20


def test_a_question_without_code_gets_one_draft_and_nothing_is_run(runs: PythonRuns) -> None:
    engines = Engines("A zip.")
    found = post(engines, runs, messages=[{"role": "user", "content": "What does zip do?"}]).json()
    assert found["choices"][0]["message"]["content"] == "A zip."
    assert (found["best_of"]["drafts"], found["best_of"]["chosen_by"], engines.bodies[0]["n"]) == (1, "first", 1)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"tools": [{"type": "run_python"}]}, "tools does not go with 'base+tests'"),
        ({"response_format": {"type": "json_object"}}, "response_format does not go with"),
        ({"logprobs": True}, "logprobs does not go with"),
        ({"n": 2}, "n is 2"),
        ({"temperature": 0}, "the same draft again and again"),
        ({"model": "base+tests+tests"}, "is not served here"),
    ],
)
def test_what_does_not_go_with_drafts_is_refused_in_a_sentence(
    runs: PythonRuns, fields: dict[str, Any], said: str
) -> None:
    engines = Engines()
    response = post(engines, runs, **fields)
    assert response.status_code in (404, 422) and said in response.json()["error"]["message"]
    assert not engines.bodies


def test_only_chats_are_tested_in_whichever_form_they_come(runs: PythonRuns) -> None:
    async def use(client: httpx.AsyncClient, _: Edge) -> list[httpx.Response]:
        refused = await client.post(COMPLETIONS, json={"model": BODY["model"], "prompt": "def f"})
        asked = BODY | {"max_tokens": 64}
        streamed = await client.post(MESSAGES, json=asked | {"stream": True})
        return [refused, streamed, await client.post(MESSAGES, json=asked)]

    refused, streamed, message = run(Engines(WRONG, RIGHT, WRONG, WRONG, RIGHT, WRONG), runs, use)
    assert refused.status_code == 422 and "answers chats alone" in refused.json()["error"]["message"]
    assert message.json()["content"] == [{"type": "text", "text": RIGHT}]
    events = [json.loads(line[6:]) for line in streamed.text.splitlines() if line.startswith("data: ")]
    assert "".join(one["delta"].get("text", "") for one in events if one["type"] == "content_block_delta") == RIGHT
    assert events[-1]["type"] == "message_stop"
    told = [message.json()["best_of"], events[-2]["delta"]["best_of"]]
    assert [(one["passed"], one["chosen_by"]) for one in told] == [(2, "examples")] * 2


def test_tokens_of_a_question_are_counted_under_either_name(runs: PythonRuns) -> None:
    class Tokenizer(Engines):
        async def call(self, path: str, body: dict[str, Any]) -> AsyncGenerator[Head | bytes, None]:
            self.bodies.append(body)
            yield Head(200, [])
            yield b'{"count": 7}'

    engines = Tokenizer()
    assert post(engines, runs, COUNT_TOKENS).json() == {"input_tokens": 7}
    assert engines.bodies[0]["model"] == "base"


def test_the_names_are_listed_with_their_model_unless_drafts_are_switched_off(runs: PythonRuns) -> None:
    async def use(client: httpx.AsyncClient, _: Edge) -> tuple[dict[str, Any], httpx.Response]:
        cards = (await client.get("/v1/models")).json()["data"]
        return {card["id"]: card["parent"] for card in cards}, await client.get("/v1/models/sft+tests")

    cards, one = run(Engines(), runs, use)
    assert cards == {"base": None, "sft": "base", "base+tests": "base", "sft+tests": "sft"}
    assert one.json()["id"] == "sft+tests"
    cards, one = run(Engines(), runs, use, best_of=0)
    assert list(cards) == ["base", "sft"] and one.status_code == 404


def test_where_nothing_can_be_confined_nothing_is_drawn() -> None:
    engines = Engines(RIGHT)
    response = post(engines, NoSandbox())
    assert response.status_code == 503 and "plain name" in response.json()["error"]["message"]
    assert not engines.bodies


def test_a_client_that_leaves_ends_the_drawing_and_frees_its_places(runs: PythonRuns) -> None:
    engines = Engines(WRONG, RIGHT, WRONG, WRONG, RIGHT, WRONG)
    engines.hangs = True

    async def use(client: httpx.AsyncClient, edge: Edge) -> int:
        parts = edge.answer(CHAT, json.dumps(BODY | {"stream": True}).encode())
        for _ in range(3):  # its Head, the beginning, and that it drafts
            await asyncio.wait_for(anext(parts), 5)
        waiting = asyncio.ensure_future(anext(parts))
        await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await parts.aclose()
        engines.hangs = False
        return (await client.post(CHAT, json=BODY)).status_code

    assert run(engines, runs, use, max_num_seqs=3, max_waiting=0) == 200
    assert engines.closed == 2


def test_drafts_take_as_many_places_as_they_are(runs: PythonRuns) -> None:
    async def use(client: httpx.AsyncClient, edge: Edge) -> httpx.Response:
        held = edge.answer(CHAT, json.dumps(BODY | {"stream": True}).encode())
        await anext(held)
        try:
            return await client.post(CHAT, json=BODY | {"model": "base"})
        finally:
            await held.aclose()

    assert run(Engines(), runs, use, max_num_seqs=3, max_waiting=0).status_code == 429
