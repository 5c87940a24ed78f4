"""Passages of documentation, and a search over a few of them: what training dialogues and the suite `search_docs` show.

The search is deterministic and local: BM25 (Robertson and Zaragoza 2009, k1 = 1.2, b = 0.75) over words in lower case
without a plural's s. It takes the place of the real one, whose results change from day to day.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

from pydantic import Field

from app.prompting.tool_schema import Source
from app.stage_settings.base import Settings

_WORD = re.compile(r"[^\W_]+")
STOP_WORDS = frozenset(
    "a an and are as at be by can do does for from how i if in is it its me my of on or that the to was what when "
    "which who with you your".split()
)
"""They tell nothing of what is searched for."""
_K1, _B = 1.2, 0.75


class Passage(Settings):
    """A piece of documentation that a search may bring up."""

    source: Source
    text: str = Field(min_length=20)


def search(passages: Sequence[Passage], query: str, source: str | None = None, *, top: int = 2) -> list[Passage]:
    """The passages that fit best, best first, ties in the order given; fewer when fewer share a word with the query."""
    pool = [passage for passage in passages if source in (None, passage.source)]
    texts = [Counter(_words(passage.text)) for passage in pool]
    mean = sum(map(Counter.total, texts)) / max(len(texts), 1)
    scores = [0.0] * len(pool)
    for word in sorted(set(_words(query))):
        holders = sum(word in text for text in texts)
        rarity = math.log(1 + (len(texts) - holders + 0.5) / (holders + 0.5))
        for index, text in enumerate(texts):
            count = text[word]
            scores[index] += rarity * count * (_K1 + 1) / (count + _K1 * (1 - _B + _B * text.total() / mean))
    ranked = sorted(range(len(pool)), key=lambda index: -scores[index])
    return [pool[index] for index in ranked[:top] if scores[index] > 0]


def _words(text: str) -> list[str]:
    words = [word.lower() for word in _WORD.findall(text)]
    return [word[:-1] if len(word) > 3 and word.endswith("s") else word for word in words if word not in STOP_WORDS]
