"""Fetch one page of the allowed sites: resolve once, check every address, connect to the one that was checked."""

import dataclasses
import ssl
from collections.abc import Callable, Sequence

import httpcore

from app.docsearch.gate import Allowed
from app.docsearch.records import LIMITS, Limits, Page

ACCEPT = ("text/html", "text/plain", "application/json")
Resolver = Callable[[str], Sequence[str]]
"""Host name to all of its addresses as text; OSError where there is none."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Opener:
    """How connections are opened. Tests bring one that counts their loopback servers as public."""

    also_public: frozenset[str] = frozenset()
    """Addresses that count as public as well."""
    port: int = 443
    """That is connected to; the URL itself can name no port."""
    tls: ssl.SSLContext | None = None
    """None: certificates of `certifi`."""
    backend: httpcore.NetworkBackend = dataclasses.field(default_factory=httpcore.SyncBackend)
    """Is given addresses, never names."""


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
    raise NotImplementedError
