"""What the guard of documentation search hands on: pages, limits, and why something was refused."""

import dataclasses

MIB = 1024 * 1024


class Refused(Exception):  # noqa: N818  (an outcome, as often wanted as not)
    """The guard said no.

    reason is one word, the one behind `block:` in tests/cases. Of the gate: too_long, non_ascii, syntax, label,
    ip_literal, domain, bad_percent, encoded_separator, dot_segment. Of a fetch: offline, dns, ip, peer, timeout,
    connection, redirect, too_many_redirects, bad_redirect, too_large, encoding, content_type, missing, unavailable.
    """

    def __init__(self, reason: str, detail: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        """For people and the log; never holds text of a page."""
        self.retry_after = retry_after
        """Seconds that the site asked to be left alone for, with `unavailable`."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One answer with status 200."""

    url: str
    """Where it came from in the end, as the gate rebuilt it."""
    content_type: str
    """The whole header, for example "text/html; charset=utf-8"."""
    body: bytes
    """Decoded, at most Limits.decoded_bytes."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one fetch, redirects included, and of the text that comes of it."""

    total_seconds: float = 10.0
    resolver_seconds: float = 3.0
    raw_bytes: int = 2 * MIB
    """Of the body as sent."""
    decoded_bytes: int = 4 * MIB
    redirects: int = 3
    headers: int = 100
    header_bytes: int = 64 * 1024
    words: int = 500
    characters: int = 4000


LIMITS = Limits()
