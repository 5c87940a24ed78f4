"""A fetch against real sockets on loopback: the cases of tests/cases/fetch.jsonl, and what else a server may try."""

import dataclasses
import gzip
import socket
import ssl
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.docsearch.fetching import fetch
from app.docsearch.gate import ALLOWED
from app.docsearch.records import Limits, Page, Refused
from tests.loopback_sites import LOOPBACK, Answer, Sites, redirect, reply

URL = "https://docs.python.org/3/"
MIB = 1024 * 1024
Serve = Callable[[Answer], Sites]


def got(sites: Sites, url: str = URL, **kwargs: Any) -> Page:
    return fetch(url, **{"allowed": ALLOWED, "resolver": sites.resolver, "opener": sites.opener} | kwargs)


def reason(sites: Sites, url: str = URL, **kwargs: Any) -> str:
    with pytest.raises(Refused) as refused:
        got(sites, url, **kwargs)
    return refused.value.reason


def test_a_page_comes_as_it_is_by_a_request_that_tells_nothing_of_the_user(serve: Serve) -> None:
    sites = serve(lambda host, target: reply(f"<p>{host}{target}</p>".encode()))
    page = got(sites, "https://DOCS.python.org:443/3/library/json.html?a=b#c")
    assert page.url == "https://docs.python.org/3/library/json.html?a=b"
    assert page.body == b"<p>docs.python.org/3/library/json.html?a=b</p>"
    assert page.content_type == "text/html; charset=utf-8"
    line, *headers = sites.requests[0].rstrip().split("\r\n")
    assert line == "GET /3/library/json.html?a=b HTTP/1.1"
    names = {header.partition(":")[0].lower() for header in headers}
    assert names == {"host", "user-agent", "accept", "accept-encoding", "accept-language", "connection"}


def test_n_2_a_name_is_resolved_once_and_its_checked_address_is_connected_to(serve: Serve) -> None:
    sites = serve(lambda host, target: reply())
    answers = iter([[LOOPBACK], ["127.0.0.2"], ["127.0.0.3"]])
    asked, connected = [], []

    def resolver(host: str) -> list[str]:
        asked.append(host)
        return next(answers)

    def connect(address: str, port: int, seconds: float) -> socket.socket:
        connected.append(address)
        return sites.opener.connect(address, port, seconds)

    got(sites, resolver=resolver, opener=dataclasses.replace(sites.opener, connect=connect))
    assert asked == ["docs.python.org"] and connected == [LOOPBACK]


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["::ffff:127.0.0.1"], ["8.8.8.8", ""], []]
)
def test_one_address_that_is_not_public_refuses_the_name_and_nothing_is_connected_to(
    serve: Serve, addresses: list[str]
) -> None:
    sites = serve(lambda host, target: reply())
    strict = dataclasses.replace(sites.opener, also_public=frozenset())
    assert reason(sites, resolver=lambda host: addresses, opener=strict) == "ip"
    assert sites.connections == 0


def test_n_4_a_slow_resolver_ends_with_its_limit(serve: Serve) -> None:
    sites = serve(lambda host, target: reply())
    start, stop = time.monotonic(), threading.Event()
    limits = Limits(resolver_seconds=0.2)
    assert reason(sites, resolver=lambda host: stop.wait(30) and [] or [LOOPBACK], limits=limits) == "timeout"
    stop.set()
    assert time.monotonic() - start < 2 and Limits().resolver_seconds == 3
    assert sites.connections == 0


def test_a_name_that_does_not_exist_is_a_word_of_its_own(serve: Serve) -> None:
    def resolver(host: str) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    assert reason(serve(lambda host, target: reply()), resolver=resolver) == "dns"


@pytest.mark.parametrize(
    ("to", "detail"),
    [
        ("http://127.0.0.1:8000/", "syntax"),  # N-5
        ("https://projects-own-domain.dev/en/", "domain"),  # N-14
        ("https://127.0.0.1/", "ip_literal"),
        ("//evil.com/", "syntax"),
        ("https://docs.python.org@evil.com/", "syntax"),
        ("https://api.stackexchange.com/2.3/", "domain"),
        ("/../../etc", "dot_segment"),
        ("file:///etc/passwd", "syntax"),
        ("", "syntax"),
    ],
)
def test_n_5_n_14_a_redirect_off_the_list_is_refused_and_says_why(serve: Serve, to: str, detail: str) -> None:
    sites = serve(lambda host, target: redirect(to))
    with pytest.raises(Refused) as refused:
        got(sites, "https://pandas.readthedocs.io/")
    assert refused.value.reason == "redirect" and refused.value.detail.startswith(detail)
    assert sites.connections == 1


def test_n_10_three_redirects_are_followed_and_a_fourth_is_not(serve: Serve) -> None:
    hops = {"/3/": "https://fastapi.tiangolo.com/1", "/1": "/2", "/2": "https://docs.python.org/end"}
    sites = serve(lambda host, target: redirect(hops[target]) if target in hops else reply(target.encode()))
    page = got(sites)
    assert page.url == "https://docs.python.org/end" and page.body == b"/end"
    assert sites.names == ["docs.python.org", "fastapi.tiangolo.com", "fastapi.tiangolo.com", "docs.python.org"]
    hops["/end"] = "/further"
    assert reason(sites) == "too_many_redirects"


@pytest.mark.parametrize("locations", [[], ["/a", "/b"]])
def test_n_12_a_redirect_with_no_or_two_places_is_refused(serve: Serve, locations: list[str]) -> None:
    lines = "".join(f"Location: {place}\r\n" for place in locations)
    head = f"HTTP/1.1 302 Found\r\n{lines}Content-Length: 0\r\n\r\n"
    assert reason(serve(lambda host, target: [head.encode()])) == "bad_redirect"


def test_n_13_a_refresh_is_not_followed(serve: Serve) -> None:
    body = b'<meta http-equiv="refresh" content="0; url=https://evil.com/">'
    sites = serve(lambda host, target: reply(body, refresh="0; url=https://evil.com/"))
    assert got(sites).body == body
    assert sites.connections == 1


def endless(piece: bytes, pause: float = 0.0) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n"
    while True:
        yield b"%x\r\n%s\r\n" % (len(piece), piece)
        time.sleep(pause)


def test_n_16_an_endless_body_ends_at_two_mebibytes(serve: Serve) -> None:
    assert Limits().raw_bytes == 2 * MIB
    assert reason(serve(lambda host, target: endless(b"a" * 65536))) == "too_large"


def test_a_body_of_exactly_the_limit_comes_whole(serve: Serve) -> None:
    assert len(got(serve(lambda host, target: reply(b"a" * 2 * MIB))).body) == 2 * MIB
    assert reason(serve(lambda host, target: reply(b"a" * (2 * MIB + 1)))) == "too_large"


def zipped(data: bytes, **headers: str) -> list[bytes]:
    return reply(data, content_encoding="gzip", **headers)


def test_gzip_is_undone_up_to_four_mebibytes(serve: Serve) -> None:
    assert got(serve(lambda host, target: zipped(gzip.compress(b"a" * 4 * MIB)))).body == b"a" * 4 * MIB
    assert reason(serve(lambda host, target: zipped(gzip.compress(b"a" * (4 * MIB + 1))))) == "too_large"


def test_a_bomb_is_not_unpacked_beyond_the_limit(serve: Serve) -> None:
    """200 MB in 200 kB. What is held in memory is bounded too: the largest piece that zlib gives back."""
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(b"\0" * MIB) for _ in range(200)) + packer.flush()
    assert len(bomb) < 300_000
    sites = serve(lambda host, target: zipped(bomb))
    tracemalloc.start()
    assert reason(sites) == "too_large"
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 24 * MIB


@pytest.mark.parametrize(
    "answer",
    [
        reply(gzip.compress(gzip.compress(b"a")), content_encoding="gzip, gzip"),
        reply(b"a", content_encoding="gzip, gzip, br"),  # N-18
        reply(b"a", content_encoding="br"),
        reply(zlib.compress(b"a"), content_encoding="deflate"),
        reply(b"a", content_encoding="gzip"),  # and is not
        reply(gzip.compress(b"a" * 1000)[:-9], content_encoding="gzip"),
        reply(gzip.compress(b"a") + b"more", content_encoding="gzip"),
        [b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\nContent-Encoding: gzip\r\n\r\n"],
    ],
)
def test_n_18_anything_but_one_layer_of_gzip_is_refused(serve: Serve, answer: list[bytes]) -> None:
    assert reason(serve(lambda host, target: answer)) == "encoding"


def drip(_host: str, _target: str) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 1000\r\n\r\n"
    for _ in range(1000):
        yield b"a"
        time.sleep(0.02)


def drip_headers(_host: str, _target: str) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n"
    for number in range(1000):
        yield b"X-%d: y\r\n" % number
        time.sleep(0.02)


def interim(_host: str, _target: str) -> Iterator[bytes]:
    while True:
        yield b"HTTP/1.1 103 Early Hints\r\n\r\n"
        time.sleep(0.02)


def silent(_host: str, _target: str) -> Iterator[bytes]:
    time.sleep(3)
    yield b""


@pytest.mark.parametrize("answer", [drip, drip_headers, interim, silent])
def test_n_19_the_deadline_is_for_all_of_it_not_for_one_read(serve: Serve, answer: Answer) -> None:
    assert Limits().total_seconds == 10
    start = time.monotonic()
    assert reason(serve(answer), limits=Limits(total_seconds=0.5)) == "timeout"
    assert 0.4 < time.monotonic() - start < 1.5


def test_the_deadline_is_for_all_redirects_together(serve: Serve) -> None:
    def slow(host: str, target: str) -> Iterator[bytes]:
        time.sleep(0.3)
        yield from redirect("/again")

    start = time.monotonic()
    assert reason(serve(slow), limits=Limits(total_seconds=0.5)) == "timeout"
    assert time.monotonic() - start < 1.5


def test_a_server_that_never_finishes_its_handshake_is_left_at_the_deadline(serve: Serve) -> None:
    sites = serve(lambda host, target: reply())
    with socket.create_server((LOOPBACK, 0)) as mute:
        opener = dataclasses.replace(sites.opener, port=mute.getsockname()[1])
        start = time.monotonic()
        assert reason(sites, opener=opener, limits=Limits(total_seconds=0.5)) == "timeout"
        assert time.monotonic() - start < 1.5


@pytest.mark.parametrize(
    "kind", ["application/pdf", "image/png", "application/octet-stream", "text/html2", "", "text/x; text/html"]
)
def test_n_24_other_content_types_are_refused(serve: Serve, kind: str) -> None:
    assert reason(serve(lambda host, target: reply(content_type=kind))) == "content_type"


def test_a_template_may_ask_for_another_content_type(serve: Serve) -> None:
    sites = serve(lambda host, target: reply(content_type="application/octet-stream"))
    assert got(sites, accept=("application/octet-stream",)).body
    assert "accept: application/octet-stream\r\n" in sites.requests[0].lower()


def test_n_26_a_cookie_is_not_sent_back(serve: Serve) -> None:
    sites = serve(lambda host, target: reply(set_cookie="a=b; Path=/") if target == "/2" else redirect("/2"))
    got(sites)
    got(sites, "https://docs.python.org/2")
    assert len(sites.requests) == 3 and not any("cookie" in request.lower() for request in sites.requests)


@pytest.mark.parametrize(
    ("status", "word", "retry_after"),
    [("403 Forbidden", "unavailable", 3600.0), ("429 Too Many Requests", "unavailable", 3600.0)]
    + [("503 Service Unavailable", "unavailable", 3600.0), ("404 Not Found", "missing", None)],
)
def test_n_28_a_site_that_will_not_is_asked_once_and_its_pause_is_told(
    serve: Serve, status: str, word: str, retry_after: float | None
) -> None:
    sites = serve(lambda host, target: reply(b"", status=status, retry_after="3600"))
    with pytest.raises(Refused) as refused:
        got(sites)
    assert (refused.value.reason, refused.value.retry_after) == (word, retry_after)
    assert len(sites.requests) == 1


@pytest.mark.parametrize(
    ("header", "seconds"), [("99999999", 86400.0), ("soon", None), ("Mon, 01 Jan 2024 00:00:00 GMT", 0.0), ("-5", None)]
)
def test_a_pause_is_a_day_at_most_and_nonsense_is_none(serve: Serve, header: str, seconds: float | None) -> None:
    with pytest.raises(Refused) as refused:
        got(serve(lambda host, target: reply(b"", status="503 No", retry_after=header)))
    assert refused.value.retry_after == seconds


def test_n_29_a_socket_that_leads_elsewhere_is_refused_before_anything_is_sent(serve: Serve) -> None:
    sites = serve(lambda host, target: reply())

    def elsewhere(address: str, port: int, seconds: float) -> socket.socket:
        return socket.create_connection((LOOPBACK, port), seconds)

    opener = dataclasses.replace(sites.opener, connect=elsewhere)
    assert reason(sites, resolver=lambda host: ["8.8.8.8"], opener=opener) == "peer"
    assert sites.requests == []


def test_n_30_only_http_1_1_is_spoken_whatever_is_offered(certificate_folder: Any, serve: Serve) -> None:
    sites = serve(lambda host, target: reply(alt_svc='h3=":443", h2=":443"', upgrade="h2c"))
    sites._tls.set_alpn_protocols(["h2", "http/1.1"])
    got(sites)
    got(sites)
    assert all(request.startswith("GET /3/ HTTP/1.1\r\n") for request in sites.requests)
    assert reason(serve(lambda host, target: [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])) == "connection"


def test_a_certificate_of_another_name_or_authority_is_refused(serve: Serve) -> None:
    sites = serve(lambda host, target: reply())
    wider = dataclasses.replace(ALLOWED, hosts=frozenset({"other.org"}))
    assert reason(sites, "https://other.org/", allowed=wider) == "connection"
    assert reason(sites, opener=dataclasses.replace(sites.opener, tls=None)) == "connection"
    assert sites.requests == []
    assert dataclasses.replace(sites.opener, tls=None).tls is None
    context = ssl.create_default_context()
    assert context.check_hostname


def test_proxies_and_passwords_of_the_environment_are_not_asked(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    (tmp_path / ".netrc").write_text("machine docs.python.org login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    sites = serve(lambda host, target: reply())
    got(sites)
    assert "authorization" not in sites.requests[0].lower()


def test_too_many_headers_or_too_long_ones_are_refused(serve: Serve) -> None:
    many = {f"x_{number}": "y" for number in range(101)}
    assert reason(serve(lambda host, target: reply(**many))) == "too_large"
    assert reason(serve(lambda host, target: reply(x="y" * 70_000))) == "too_large"
    assert reason(serve(lambda host, target: reply(x="y" * 300_000))) in ("too_large", "connection")


def test_a_request_of_ours_may_name_an_api_and_a_redirect_may_not_lead_to_one(serve: Serve) -> None:
    api = "https://api.stackexchange.com/2.3/search"
    hops = {"/2.3/search": "/2.3/moved", "/3/": "https://api.stackexchange.com/2.3/moved"}
    sites = serve(lambda host, target: redirect(hops[target]) if target in hops else reply())
    with_api = ALLOWED.with_endpoints(["api.stackexchange.com"])
    assert reason(sites, api) == "domain"
    assert got(sites, api, allowed=with_api).url == "https://api.stackexchange.com/2.3/moved"
    assert reason(sites, allowed=with_api) == "redirect"


def test_a_connection_that_breaks_is_a_refusal(serve: Serve) -> None:
    short = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 10\r\n\r\nabc"
    assert reason(serve(lambda host, target: [short])) == "connection"
    assert reason(serve(lambda host, target: [b"\0\1\2 nonsense\r\n\r\n"])) == "connection"
    sites = serve(lambda host, target: reply())
    sites.close()
    assert reason(sites) == "connection"
