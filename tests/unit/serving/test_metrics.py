"""What Prometheus is told, after requests of each outcome. Engines here are scripts."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from app.serving.edge import Edge
from app.serving.errors import ApiError
from app.serving.kinds import CHAT, COMPLETIONS
from app.serving.metrics import Metrics
from app.settings import ServingSettings
from tests.unit.serving.tools import scripts
from tests.unit.serving.tools.scripts import BODY, SEARCH, Engines, Says, Tools


def edge_after(*bodies: dict[str, Any], script: tuple[Says, ...] = (Says(content="Hi."),), **settings: Any) -> Edge:
    """An edge that was asked all of this."""

    async def go() -> Edge:
        edge = Edge(Engines(*script), ServingSettings(**settings), tools=Tools())
        for body in bodies:
            parts = edge.answer(COMPLETIONS if "prompt" in body else CHAT, json.dumps({**BODY, **body}).encode())
            try:
                async for _ in parts:
                    pass
            except ApiError:
                pass
        return edge

    return asyncio.run(go())


def requests(edge: Edge, outcome: str) -> float:
    return edge.metrics.value("pocketcoder_requests_total", {"route": CHAT, "outcome": outcome})


def test_tokens_first_tokens_and_the_queue_are_counted() -> None:
    metrics = edge_after({}, {"stream": True}, max_num_seqs=3, max_waiting=4).metrics
    for kind, tokens in (("prompt", 20), ("answer", 10)):
        assert metrics.value("pocketcoder_tokens_total", {"kind": kind}) == tokens
    assert metrics.value("pocketcoder_time_to_first_token_seconds_count") == 1
    assert metrics.value("pocketcoder_queue_answers") == 0 and metrics.value("pocketcoder_queue_capacity") == 7


def test_requests_are_counted_by_what_came_of_them() -> None:
    edge = edge_after({}, {"model": "nobody"}, {"no_such": 1}, {}, requests_per_minute=3)
    outcomes = {
        name: requests(edge, name) for name in ("ok", "model_not_found", "invalid_value", "rate_limit_exceeded")
    }
    assert set(outcomes.values()) == {1.0}, outcomes


def test_a_client_that_leaves_is_told_apart_and_what_was_drawn_for_it_is_counted() -> None:
    async def go() -> Edge:
        edge = Edge(Engines(Says(content="A long answer.")), ServingSettings())
        parts = edge.answer(CHAT, json.dumps({**BODY, "stream": True}).encode())
        await anext(parts)
        await parts.aclose()
        return edge

    assert requests(asyncio.run(go()), "left") == 1


def test_verdicts_of_tools_are_counted_and_no_name_that_the_model_made_up_is_a_label() -> None:
    script = (
        Says(calls=[scripts.search("zip"), ("evil\nname", "{}")]),
        Says(content="It pairs."),
    )
    metrics = edge_after({"tools": [SEARCH]}, script=script).metrics
    labels = {"tool": "search_docs", "status": "ok", "reason": ""}
    assert metrics.value("pocketcoder_tool_calls_total", labels) == 1
    labels = {"tool": "unknown", "status": "refused", "reason": "tool"}
    assert metrics.value("pocketcoder_tool_calls_total", labels) == 1
    assert b"evil" not in metrics.text()


def test_an_answer_chosen_among_drafts_is_counted_by_what_it_passed() -> None:
    metrics = Metrics()
    metrics.best_of("passed", drafts=8, tokens=900)
    metrics.best_of("repaired", drafts=9, tokens=1100)
    assert metrics.value("pocketcoder_best_of_total", {"outcome": "passed"}) == 1
    assert metrics.value("pocketcoder_best_of_tokens_total") == 2000
    assert metrics.value("pocketcoder_best_of_drafts_sum") == 17


def test_they_are_served_in_prometheus_own_format() -> None:
    edge = edge_after({})

    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(edge.app())
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get("/metrics")

    response = asyncio.run(get())
    assert response.headers["content-type"].startswith("text/plain; version=")
    lines = [line for line in response.text.splitlines() if line and not line.startswith("#")]
    assert all(float(line.rpartition(" ")[2]) >= 0 for line in lines)
    assert 'pocketcoder_tokens_total{kind="answer"} 5.0' in lines


@pytest.mark.parametrize(("most", "answered"), [(60, 3), (45, 2), (5, 1)])
def test_a_keys_tokens_are_what_its_answers_took(most: int, answered: int) -> None:
    """Each takes 15. Before it begins 26 are set aside for it, or as many as a minute has."""
    edge = edge_after(*[{"max_tokens": 5}] * 3, tokens_per_minute=most)
    assert requests(edge, "ok") == answered
