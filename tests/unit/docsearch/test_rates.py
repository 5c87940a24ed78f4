"""Searches of a key and requests to a source are limited within a stretch of time, over all requests."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.docsearch.marking import refused_text
from app.docsearch.rates import Rate, Rates
from app.docsearch.records import Refused
from app.docsearch.search import DocsSearch
from app.stage_settings.docsearch import DocsearchSettings
from tests.unit.docsearch import made_up_sites as made_up
from tests.unit.docsearch.conftest import Serve
from tests.unit.docsearch.test_search import decisions, reaching


def is_taken(rates: Rates, kind: str = "key", who: str = "laptop") -> bool:
    try:
        rates.take(kind, who)
    except Refused as refused:
        assert refused.reason == "rate"
        return False
    return True


def test_no_stretch_of_a_minute_holds_more_than_it_may() -> None:
    now = [0.0]
    rates = Rates({"key": Rate(calls=3, seconds=60)}, clock=lambda: now[0])
    taken: list[float] = []
    for tick in range(2000):
        now[0] = tick / 7
        if is_taken(rates):
            taken.append(now[0])
    assert len(taken) == 3 * 5
    assert all(sum(start <= at < start + 60 for at in taken) <= 3 for start in taken)


def test_a_refusal_says_how_long_to_wait_and_does_not_count() -> None:
    now = [0.0]
    rates = Rates({"key": Rate(calls=1, seconds=60)}, clock=lambda: now[0])
    assert is_taken(rates)
    now[0] = 59.5
    with pytest.raises(Refused, match="1 calls in 60 s are used; the next in 1 s"):
        rates.take("key", "laptop")
    now[0] = 60.0
    assert is_taken(rates)


def test_each_key_and_each_source_has_its_own_and_others_none() -> None:
    rates = Rates({"key": Rate(calls=1, seconds=60), "readthedocs": Rate(calls=1, seconds=60)})
    assert [is_taken(rates, "key", who) for who in ("a", "b", "a")] == [True, True, False]
    assert [is_taken(rates, "readthedocs", "") for _ in range(2)] == [True, False]
    assert all(is_taken(rates, "python", "") for _ in range(100))


def test_threads_share_it() -> None:
    rates = Rates({"key": Rate(calls=50, seconds=60)})
    with ThreadPoolExecutor(16) as threads:
        assert sum(threads.map(lambda _: is_taken(rates), range(500))) == 50


def test_a_key_is_held_to_its_rate_over_all_its_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENV", "offline")
    search = DocsSearch(DocsearchSettings(offline=False, searches_per_minute=6), tmp_path)

    def reasons(owner: str, requests: int) -> list[str]:
        came = []
        for request in [search.begin(owner) for _ in range(requests)]:
            for _ in range(2):
                with pytest.raises(Refused) as refused:
                    search.search("json.loads", request=request)
                came.append(refused.value.reason)
        return came

    assert reasons("laptop", 4) == ["offline"] * 6 + ["rate"] * 2
    assert reasons("desk", 3) == ["offline"] * 6, "another key's searches are its own"
    rows = [json.loads(line) for line in (tmp_path / "decisions.jsonl").read_text().splitlines()]
    assert [row["verdict"] for row in rows if row["reason"] == "rate"] == ["block"] * 2
    assert refused_text(Refused("rate", "secret")).startswith("The search was refused (rate). There were too many")


def test_a_source_that_was_asked_as_often_as_it_may_be_is_not_reached(serve: Serve, tmp_path: Path) -> None:
    settings = DocsearchSettings(readthedocs=("requests", "rich"), readthedocs_per_minute=2)
    sites = serve(made_up.site)
    search = DocsSearch(settings, tmp_path, fetch=reaching(sites))
    for query in ("requests timeout", "rich table"):
        search.search(query, "readthedocs", request=search.begin())
    before = sites.connections
    with pytest.raises(Refused, match="rate: readthedocs: 2 calls"):
        search.search("requests session", "readthedocs", request=search.begin())
    assert sites.connections == before
    assert decisions(tmp_path)[-2:] == [
        ("fetch", "block", "rate", "requests.readthedocs.io"),
        ("search", "block", "rate", ""),
    ]
    assert search.search("requests timeout", "readthedocs", request=search.begin()).is_cached
    answer = search.search("json.loads", request=search.begin())
    assert answer.found, "the other sources go on"
