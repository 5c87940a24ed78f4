"""The fetches of one search: counted, timed and logged; a site's index out of the cache, where it is there."""

import base64
import dataclasses
import time
from collections.abc import Callable
from typing import Any

from app.docsearch.cache import Cache, key_of
from app.docsearch.decisions import DecisionLog
from app.docsearch.fetching import ACCEPT
from app.docsearch.found import DocsSource, Get
from app.docsearch.gate import Allowed, split
from app.docsearch.network_mode import require_online
from app.docsearch.rates import Rates
from app.docsearch.records import LIMITS, MIB, Page, Refused

INDEX_ACCEPT = (*ACCEPT, "application/octet-stream", "application/javascript", "text/javascript")
INDEX_LIMITS = dataclasses.replace(LIMITS, total_seconds=20.0, raw_bytes=8 * MIB, decoded_bytes=32 * MIB)
"""Of a whole site's index, which is fetched once in docsearch.cache_days."""
SEARCH_SECONDS = 30.0
MAX_FETCHES = 10
"""Of one search."""
Fetch = Callable[..., Page]
"""`app.docsearch.fetching.fetch`, or the same with the addresses of tests."""


class Fetches:
    def __init__(
        self, request: str, *, fetch: Fetch, cache: Cache, allowed: Allowed, log: DecisionLog, rates: Rates
    ) -> None:
        self._request, self._fetch, self._cache, self._allowed, self._log = request, fetch, cache, allowed, log
        self._rates = rates
        self._ends, self._left = time.monotonic() + SEARCH_SECONDS, MAX_FETCHES
        self._pages: dict[str, Page] = {}
        """What this search has fetched: two of its passages may be of one page."""
        self._indexes: dict[str, Page] = {}
        """Those of them that are indexes, by their key in the cache, until it is known whether they can be read."""

    def of(self, source: DocsSource) -> Get:
        """The fetch as this source sees it."""

        def get(url: str, *, is_index: bool = False) -> Page:
            require_online()  # before the cache
            key = key_of("page", url)
            if is_index and (held := _read_page(self._cache.get(key))):
                return held
            if url in self._pages:
                return self._pages[url]
            self._pages[url] = page = self._logged(url, source, is_index)
            if is_index:
                self._indexes[key] = page
            return page

        return get

    def settle_indexes(self, *, were_read: bool) -> None:
        """Keep the indexes that were fetched, or forget them. One that can't be read is not kept: a page that says
        "back soon", with status 200, would be a site's index for days."""
        for key, page in self._indexes.items() if were_read else ():
            body = base64.b64encode(page.body).decode()
            self._cache.put(key, {"url": page.url, "content_type": page.content_type, "body": body})
        self._indexes.clear()

    def _logged(self, url: str, source: DocsSource, is_index: bool) -> Page:
        start, host = time.monotonic(), host_of(url)
        try:
            page = self._bounded(url, source, host, is_index)
        except Refused as refused:
            seconds = time.monotonic() - start
            self._log.write(self._request, "fetch", "block", reason=refused.reason, host=host, seconds=seconds)
            raise
        seconds = time.monotonic() - start
        self._log.write(self._request, "fetch", "allow", host=host, num_bytes=len(page.body), seconds=seconds)
        return page

    def _bounded(self, url: str, source: DocsSource, host: str, is_index: bool) -> Page:
        seconds = self._ends - time.monotonic()
        if self._left < 1 or seconds <= 0:
            raise Refused("timeout", "this search has fetched as much as one may")
        self._left -= 1
        if host in source.hosts:  # what is asked, beside pages that it leads to
            self._rates.take(source.name)
        limits = INDEX_LIMITS if is_index else LIMITS
        limits = dataclasses.replace(limits, total_seconds=min(limits.total_seconds, seconds))
        # An API's host is reached by the source that asks it, never by a link out of its answer.
        is_endpoint = host in source.hosts and not self._allowed.holds(host)
        allowed = self._allowed.with_endpoints((host,)) if is_endpoint else self._allowed
        return self._fetch(url, allowed=allowed, limits=limits, accept=INDEX_ACCEPT if is_index else ACCEPT)


def host_of(url: str) -> str:
    """For logs: a question mark where the gate would not read the URL."""
    try:
        return split(url)[0]
    except Refused:
        return "?"


def _read_page(held: Any) -> Page | None:
    """Nothing where somebody else wrote into the cache."""
    try:
        return Page(url=held["url"], content_type=held["content_type"], body=base64.b64decode(held["body"]))
    except (TypeError, KeyError, ValueError):
        return None
