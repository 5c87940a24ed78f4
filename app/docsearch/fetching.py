"""Fetch one page of the allowed sites: HTTPS, GET, HTTP/1.1, without cookies, credentials or proxies, all bounded.

httpcore, the layer below httpx, follows no redirect, keeps no cookie, decodes nothing and reads no environment by
itself, so that each of these is done here or not at all.
"""

import contextlib
import dataclasses
import datetime
import email.utils
import re
import zlib
from collections.abc import Iterator, Sequence

import httpcore

from app.docsearch.connecting import Deadline, Network, Opener, Resolver, public_certificates, resolve
from app.docsearch.gate import Allowed, checked, split
from app.docsearch.network_mode import require_online
from app.docsearch.records import LIMITS, Limits, Page, Refused

ACCEPT = ("text/html", "text/plain", "application/json")
USER_AGENT = "pocketcoder-docsearch/0.1"
_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_RETRY_AFTER = 86_400.0
_GZIP = 31
"""zlib's word for one gzip layer: 16, and 15 bits of window."""
_PATH = re.compile(r"/(?!/)")


def fetch(
    url: str,
    *,
    allowed: Allowed,
    limits: Limits = LIMITS,
    accept: Sequence[str] = ACCEPT,
    resolver: Resolver | None = None,
    opener: Opener | None = None,
) -> Page:
    """GET the page, redirects included (each through the same gate). Raises Refused, and nothing else.

    accept: media types that may come back. Each call reads ENV anew and uses connections of its own.
    """
    require_online()
    deadline = Deadline(limits.total_seconds)
    opener = opener or Opener()
    network = Network(resolver or resolve, opener, limits, deadline)
    target = checked(url, allowed)
    for _ in range(limits.redirects + 1):
        with _as_refusals(), _connection(target, network, opener) as connection:
            answer = _get(connection, target, limits, accept)
        if isinstance(answer, Page):
            require_online()  # what came while ENV was changed is neither shown nor kept, on a Redis server say
            return answer
        target, allowed = _next(answer, target, allowed)
    raise Refused("too_many_redirects", f"more than {limits.redirects}")


@contextlib.contextmanager
def _as_refusals() -> Iterator[None]:
    try:
        yield
    except (httpcore.TimeoutException, TimeoutError) as error:
        raise Refused("timeout", type(error).__name__) from error
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
        raise Refused("connection", type(error).__name__) from error


@contextlib.contextmanager
def _connection(url: str, network: Network, opener: Opener) -> Iterator[httpcore.HTTPConnection]:
    """For this one request: a connection that is kept could be used after the mode has changed."""
    host, _, _ = split(url)
    connection = httpcore.HTTPConnection(
        httpcore.Origin(b"https", host.encode(), 443),
        ssl_context=opener.tls or public_certificates(),
        http1=True,
        http2=False,
        retries=0,
        network_backend=network,
    )
    try:
        yield connection
    finally:
        connection.close()


def _get(connection: httpcore.HTTPConnection, url: str, limits: Limits, accept: Sequence[str]) -> Page | list[str]:
    """The page, or the Location headers of a redirect."""
    host, path, query = split(url)
    headers = {
        "Host": host,
        "User-Agent": USER_AGENT,
        "Accept": ", ".join(accept),
        "Accept-Encoding": "gzip",
        "Accept-Language": "en",
        "Connection": "close",
    }
    target = httpcore.URL(scheme=b"https", host=host.encode(), port=None, target=f"{path}{query}".encode())
    with connection.stream("GET", target, headers=[*headers.items()]) as response:
        got = _Headers(response.headers, limits)
        if response.status in _REDIRECTS:
            return got.all("location")
        if response.status != 200:
            raise _failed(response.status, got)
        content_type = _content_type(got, accept)
        layers = [word for value in got.all("content-encoding") for word in re.split(r"[\s,]+", value.lower()) if word]
        if layers not in ([], ["identity"], ["gzip"], ["x-gzip"]):
            raise Refused("encoding", "neither plain nor one layer of gzip")
        raw = _bounded(response.iter_stream(), limits.raw_bytes)
        decoded = _unzipped(raw, limits.decoded_bytes) if layers and layers != ["identity"] else raw
        body = b"".join(_bounded(decoded, limits.decoded_bytes))
    return Page(url=url, content_type=content_type, body=body)


class _Headers:
    def __init__(self, headers: Sequence[tuple[bytes, bytes]], limits: Limits) -> None:
        if len(headers) > limits.headers or sum(len(n) + len(v) for n, v in headers) > limits.header_bytes:
            raise Refused("too_large", "too many headers, or too long ones")
        self._headers = [(name.lower().decode("latin-1"), value.decode("latin-1")) for name, value in headers]

    def all(self, name: str) -> list[str]:
        return [value for key, value in self._headers if key == name]


def _content_type(headers: _Headers, accept: Sequence[str]) -> str:
    values = headers.all("content-type")
    if len(values) != 1 or values[0].partition(";")[0].strip().lower() not in accept:
        raise Refused("content_type", f"not one of {', '.join(accept)}")
    return values[0]


def _failed(status: int, headers: _Headers) -> Refused:
    if status in (404, 410):
        return Refused("missing", f"status {status}")
    values = headers.all("retry-after")
    return Refused("unavailable", f"status {status}", retry_after=_seconds(values[0]) if values else None)


def _seconds(retry_after: str) -> float | None:
    """Seconds until the time that a Retry-After header gives, as a number or a date; at most a day."""
    if re.fullmatch(r"\d{1,9}", retry_after, re.ASCII):
        return min(float(retry_after), _MAX_RETRY_AFTER)
    try:
        until = email.utils.parsedate_to_datetime(retry_after)
        left = (until - datetime.datetime.now(datetime.UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(left, 0.0), _MAX_RETRY_AFTER)


def _bounded(chunks: Iterator[bytes], most: int) -> Iterator[bytes]:
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > most:
            raise Refused("too_large", f"more than {most} bytes")
        yield chunk


def _unzipped(chunks: Iterator[bytes], most: int) -> Iterator[bytes]:
    """One layer of gzip undone, never more than `most` bytes and one in memory."""
    unzip = zlib.decompressobj(_GZIP)
    total = 0
    try:
        for chunk in chunks:
            plain = unzip.decompress(chunk, most + 1 - total)
            total += len(plain)
            yield plain
            if unzip.unused_data:
                raise Refused("encoding", "something follows the gzip data")
    except zlib.error as error:
        raise Refused("encoding", "broken gzip data") from error
    if not unzip.eof:
        raise Refused("encoding", "the gzip data has no end")


def _next(locations: list[str], url: str, allowed: Allowed) -> tuple[str, Allowed]:
    """Where a redirect leads, and the list that it was held against.

    API hosts are for requests of our own making, so a redirect may stay on one but not lead to one.
    """
    if len(locations) != 1:
        raise Refused("bad_redirect", f"{len(locations)} Location headers")
    host, _, _ = split(url)
    narrowed = dataclasses.replace(allowed, endpoints=allowed.endpoints & {host})
    target = f"https://{host}{locations[0]}" if _PATH.match(locations[0]) else locations[0]
    try:
        return checked(target, narrowed), narrowed
    except Refused as refused:
        raise Refused("redirect", str(refused)) from None
