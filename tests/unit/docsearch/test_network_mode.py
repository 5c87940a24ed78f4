"""Unless ENV is exactly `online`, no name is resolved and no socket opened: the guard's cases of policy.jsonl."""

import contextlib
import dataclasses
import functools
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from app.docsearch.connecting import Deadline, Network, Opener, connect_to_address, resolve
from app.docsearch.fetching import fetch
from app.docsearch.found import Answer as Found
from app.docsearch.gate import ALLOWED
from app.docsearch.network_mode import require_online
from app.docsearch.records import Limits, Refused
from app.docsearch.search import DocsSearch
from app.stage_settings.docsearch import DocsearchSettings
from tests.conftest import ROOT
from tests.loopback_sites import Answer, Sites, reply
from tests.unit.docsearch import made_up_sites as made_up

URL = "https://docs.python.org/3/"
OFFLINE = ["offline", "training", "", "ONLINE", "Online", " online", "online ", "online\n", "1", "true", None]
Serve = Callable[[Answer], Sites]


def set_mode(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    if value is None:
        monkeypatch.delenv("ENV", raising=False)
    else:
        monkeypatch.setenv("ENV", value)


@pytest.fixture
def network_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of what was called of the socket module; nothing gets through."""
    calls: list[str] = []

    def refused(name: str) -> Callable[..., None]:
        def call(*_: object, **__: object) -> None:
            calls.append(name)
            raise OSError(f"{name} was called")

        return call

    class NoSocket(socket.socket):
        def __init__(self, *_: object, **__: object) -> None:
            refused("socket")()

    monkeypatch.setattr(socket, "socket", NoSocket)
    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, refused(name))
    return calls


@pytest.mark.parametrize("value", OFFLINE)
def test_p_1_p_2_no_socket_is_opened_and_no_name_resolved(
    monkeypatch: pytest.MonkeyPatch, network_calls: list[str], value: str | None
) -> None:
    set_mode(monkeypatch, value)
    for url in (URL, "https://evil.com/", "nonsense"):
        with pytest.raises(Refused) as refused:
            fetch(url, allowed=ALLOWED)
        assert refused.value.reason == "offline"
    assert network_calls == []


def test_the_test_above_would_see_a_call(monkeypatch: pytest.MonkeyPatch, network_calls: list[str]) -> None:
    monkeypatch.setenv("ENV", "online")
    with pytest.raises(Refused) as refused:
        fetch(URL, allowed=ALLOWED)
    assert refused.value.reason == "dns" and network_calls == ["getaddrinfo"]
    with pytest.raises(Refused):
        fetch(URL, allowed=ALLOWED, resolver=lambda host: ["8.8.8.8"])
    assert network_calls == ["getaddrinfo", "socket"]


@pytest.mark.parametrize("value", OFFLINE)
def test_p_1_the_connect_layer_asks_for_itself(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    """So that no other way to it, such as a client built while online, leads past the mode."""
    asked: list[str] = []
    network = Network(lambda host: asked.append(host) or ["8.8.8.8"], Opener(), Limits(), Deadline(1))
    set_mode(monkeypatch, value)
    with pytest.raises(Refused) as refused:
        network.connect_tcp("docs.python.org", 443)
    assert refused.value.reason == "offline" and asked == []


def test_the_mode_is_asked_again_between_resolving_and_connecting(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    sites = serve(lambda host, target: reply())

    def resolver(host: str) -> list[str]:
        monkeypatch.setenv("ENV", "offline")
        return sites.resolver(host)

    with pytest.raises(Refused) as refused:
        fetch(URL, allowed=ALLOWED, resolver=resolver, opener=sites.opener)
    assert refused.value.reason == "offline" and sites.connections == 0


def test_p_4_after_a_switch_the_next_call_is_refused_and_no_connection_is_kept(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    sites = serve(lambda host, target: reply())
    fetch(URL, allowed=ALLOWED, resolver=sites.resolver, opener=sites.opener)
    monkeypatch.setenv("ENV", "training")
    with pytest.raises(Refused) as refused:
        fetch(URL, allowed=ALLOWED, resolver=sites.resolver, opener=sites.opener)
    assert refused.value.reason == "offline" and (sites.connections, len(sites.requests)) == (1, 1)
    monkeypatch.setenv("ENV", "online")
    fetch(URL, allowed=ALLOWED, resolver=sites.resolver, opener=sites.opener)
    assert sites.connections == 2
    require_online()


def test_a_redirect_after_a_switch_is_refused(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(host: str, target: str) -> list[bytes]:
        monkeypatch.setenv("ENV", "offline")
        return reply(b"", status="302 Found", location="/next")

    sites = serve(answer)
    with pytest.raises(Refused) as refused:
        fetch(URL, allowed=ALLOWED, resolver=sites.resolver, opener=sites.opener)
    assert refused.value.reason == "offline" and sites.connections == 1


QUESTION = "fastapi requests json.loads path parameters"
"""Asks every source: it names FastAPI and a project."""
ALL_ON = DocsearchSettings(readthedocs=("requests",), stackoverflow=True, serpapi_key_env="SERPAPI_KEY", results=10)
RESULTS = {"organic_results": [{"title": "Errors", "link": "https://docs.python.org/3/tutorial/errors.html"}]}


class Watched:
    """A search with all sources on, whose ENV becomes `training` at one of the events that it notes: a name that is
    resolved, or a request that is answered."""

    def __init__(self, serve: Serve, monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
        import redis

        self._sites, self._patch, self._url = serve(self._answer), monkeypatch, redis_url
        self._redis = redis.Redis.from_url(redis_url)
        monkeypatch.setenv("SERPAPI_KEY", "of-nobody")

    def _note(self, event: str) -> None:
        self.events.append(event)
        if len(self.events) == self._last:
            self._patch.setenv("ENV", "training")
            self._before = self._asked_of_redis()

    def _resolve(self, host: str) -> list[str]:
        self._note(f"name {host}")
        return self._sites.resolver(host)

    def _answer(self, host: str, target: str) -> Iterable[bytes]:
        self._note(f"answer {host}")
        if host == "serpapi.com":
            return reply(json.dumps(RESULTS).encode(), content_type="application/json")
        return made_up.site(host, target)

    def _asked_of_redis(self) -> int:
        return int(self._redis.info("stats")["total_commands_processed"])

    def search(self, folder: Path, *, last: int) -> Found:
        """Nothing is in the cache to begin with. last: the event, from 1, at which ENV is changed."""
        self._patch.setenv("ENV", "online")
        self._redis.flushall()
        self.events: list[str] = []
        self._last, connections = last, self._sites.connections
        reaching = functools.partial(fetch, resolver=self._resolve, opener=self._sites.opener)
        settings = ALL_ON.model_copy(update={"redis_url": self._url})
        try:
            search = DocsSearch(settings, folder, fetch=reaching)
            return search.search(QUESTION, request=search.begin())
        finally:
            answered = [event for event in self.events if event.startswith("answer")]
            assert self._sites.connections - connections == len(answered), "no connection without a request"
            self.redis_after = self._asked_of_redis() - self._before - 1 if last else 0

    def close(self) -> None:
        self._redis.close()


@pytest.fixture
def watched(serve: Serve, monkeypatch: pytest.MonkeyPatch, redis_url: str) -> Iterator[Watched]:
    with contextlib.closing(Watched(serve, monkeypatch, redis_url)) as made:
        yield made


def test_p_4_wherever_the_mode_changes_in_a_search_nothing_more_is_asked_of_anybody(
    watched: Watched, tmp_path: Path
) -> None:
    """Of no resolver, no site, and no Redis server; and what had come before is not shown."""
    assert watched.search(tmp_path, last=0).found
    events = watched.events
    hosts = "docs.python.org fastapi.tiangolo.com requests.readthedocs.io api.stackexchange.com serpapi.com".split()
    assert {event.partition(" ")[2] for event in events} == set(hosts)
    for last in range(1, len(events) + 1):
        with pytest.raises(Refused) as refused:
            watched.search(tmp_path, last=last)
        assert (refused.value.reason, watched.events, watched.redis_after) == ("offline", events[:last], 0), last


def test_an_address_is_connected_to_without_asking_a_resolver(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    sites = serve(lambda host, target: reply())

    def fails(*_: object, **__: object) -> None:
        raise AssertionError("a name was resolved")

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    assert fetch(URL, allowed=ALLOWED, resolver=sites.resolver, opener=sites.opener).body
    with pytest.raises(OSError):
        connect_to_address("256.1.1.1.invalid", 9, 0.2)


def test_names_are_resolved_without_local_search_domains(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    entry = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 443))
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_, **__: asked.append(host) or [entry, entry])
    assert resolve("docs.python.org") == ["8.8.8.8"] and asked == ["docs.python.org."]


def test_the_check_of_cases_needs_no_network() -> None:
    """As a user runs it, ENV unset, in a process whose socket module refuses everything."""
    code = (
        "import socket, sys\n"
        "def no(*a, **k): raise SystemExit('network')\n"
        "socket.getaddrinfo = no; socket.socket.connect = no\n"
        "from app.cli import main\n"
        "main(['docsearch', '--check-urls', 'tests/cases/url_guard.jsonl', '--json'])\n"
    )
    env = {key: value for key, value in os.environ.items() if key != "ENV"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["differing"] == []


def test_opener_of_the_product_counts_no_address_as_public() -> None:
    assert dataclasses.asdict(Opener()) == {
        "also_public": frozenset(),
        "port": 443,
        "tls": None,
        "connect": connect_to_address,
    }
