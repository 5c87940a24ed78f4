"""Searches of a request are counted at the server: the cases of tests/cases/budget.jsonl, and what keeps it bounded."""

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.docsearch.budget import Budget
from app.docsearch.records import Refused
from app.docsearch.search import DocsSearch
from app.stage_settings.docsearch import DocsearchSettings
from tests.conftest import ROOT

CASES = [json.loads(line) for line in (ROOT / "tests/cases/budget.jsonl").read_text().splitlines()]


def reason(call: Callable[[], object]) -> str:
    try:
        call()
    except Refused as refused:
        return refused.reason
    return "runs"


def sixth_search_of_one_request(_: Path) -> None:
    budget = Budget(5)
    request = budget.begin()
    assert [budget.take(request)[0] for _ in range(5)] == [4, 3, 2, 1, 0]
    assert reason(lambda: budget.take(request)) == "budget"


def eight_parallel_calls(_: Path) -> None:
    def slow_clock() -> float:
        time.sleep(0.002)  # in the middle of a take: without a lock all eight would see five left
        return time.monotonic()

    for _ in range(10):
        budget, barrier = Budget(5, clock=slow_clock), threading.Barrier(8)
        request = budget.begin()

        def take(budget: Budget = budget, barrier: threading.Barrier = barrier, request: str = request) -> str:
            barrier.wait()
            return reason(lambda: budget.take(request))

        with ThreadPoolExecutor(8) as threads:
            came = sorted(future.result() for future in [threads.submit(take) for _ in range(8)])
        assert came == ["budget"] * 3 + ["runs"] * 5


def blocked_failed_and_cached_ones_count(folder: Path) -> None:
    """Without ENV=online and without the offline source each search is blocked, and counts."""
    search = DocsSearch(DocsearchSettings(offline=False), folder)
    request = search.begin()
    queries = ["json.loads", "", "write to anna@firm.io", "json.loads", "json.loads", "json.loads"]
    came = [reason(lambda query=query: search.search(query, request=request)) for query in queries]  # type: ignore[misc]
    assert came == ["offline", "query", "secret", "offline", "offline", "budget"]


BY_ID = {"B-1": sixth_search_of_one_request, "B-2": eight_parallel_calls, "B-3": blocked_failed_and_cached_ones_count}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_case_of_the_catalogue(case: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENV", "offline")
    BY_ID[case["id"]](tmp_path)


def test_two_requests_have_budgets_of_their_own() -> None:
    budget = Budget(2)
    one, other = budget.begin(), budget.begin()
    assert one != other
    assert [budget.take(request)[0] for request in (one, one, other)] == [1, 0, 1]


@pytest.mark.parametrize("request_id", ["", "made up", "5"])
def test_an_id_that_was_not_made_here_may_not_search(request_id: str) -> None:
    assert reason(lambda: Budget(5).take(request_id)) == "request"


def test_a_request_ends_and_its_id_never_searches_again() -> None:
    now = [0.0]
    budget = Budget(5, seconds=10, clock=lambda: now[0])
    request = budget.begin()
    now[0] = 9.9
    assert budget.take(request) == (4, "")
    now[0] = 10.0
    assert [reason(lambda: budget.take(request)) for _ in range(2)] == ["request", "request"]


def test_requests_take_bounded_memory() -> None:
    budget = Budget(5, most=100)
    ids = [budget.begin() for _ in range(1000)]
    assert len(budget) == 100
    assert reason(lambda: budget.take(ids[0])) == "request" and budget.take(ids[-1]) == (4, "")
