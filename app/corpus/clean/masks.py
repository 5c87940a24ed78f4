"""Spans of a text, and the placeholder that each is replaced by.

A placeholder stands inside the string or comment that held the value, so the code still parses.
"""

import functools
from collections.abc import Iterable
from typing import TypeAlias

API_KEY, TOKEN, PASSWORD, PRIVATE_KEY = "<API_KEY>", "<TOKEN>", "<PASSWORD>", "<PRIVATE_KEY>"
EMAIL, PHONE, IBAN, CARD, IP_ADDRESS = "<EMAIL>", "<PHONE>", "<IBAN>", "<CARD>", "<IP_ADDRESS>"
Span: TypeAlias = tuple[int, int, str]
"""Start, end and placeholder."""


def mask(text: str, spans: list[Span]) -> str:
    """The text with each span replaced by its placeholder. spans: in order, none inside another."""
    pieces: list[str] = []
    position = 0
    for start, end, placeholder in spans:
        pieces += (text[position:start], placeholder)
        position = end
    return "".join((*pieces, text[position:]))


def apart(spans: Iterable[Span]) -> list[Span]:
    """The spans in order; of two that overlap the first, of two with one start the longer.

    They may come in any order.
    """
    kept: list[Span] = []
    for span in sorted(spans, key=lambda span: (span[0], -span[1], span[2])):
        if not kept or span[0] >= kept[-1][1]:
            kept.append(span)
    return kept


@functools.lru_cache(maxsize=1)  # secrets, addresses and telephone numbers are looked for in the same text
def lowered(text: str) -> str:
    """The text in lower case, each character at its place: 'İ' for one becomes two characters otherwise. Half a
    surrogate pair, which no UTF-8 has, becomes a question mark."""
    low = text.lower()
    if len(low) != len(text):
        low = "".join(c.lower() if c.isascii() else c for c in text)
    return low if low.isascii() else low.encode("utf-8", "replace").decode("utf-8")
