"""The two indexes that Sphinx puts beside a site: `objects.inv` (what is documented, and where) and `searchindex.js`
(titles and words by page).

Read with bounds, since they come from elsewhere. `sphobjinv` reads the first too, but unpacks it without a bound.
Formats: Sphinx's documentation, "sphinx.ext.intersphinx", and sphinx/search/__init__.py, versions 5 to 8.
"""

import dataclasses
import itertools
import json
import math
import re
import zlib
from collections import defaultdict
from typing import Any

from app.docsearch.ranking import names_in, words_in
from app.docsearch.records import Refused

MAX_INVENTORY_BYTES = 16 << 20
_ENTRY = re.compile(r"(?P<name>\S++(?:\s++\S++)*?)\s++(?P<role>[\w-]+:[\w-]+)\s++-?\d++\s++(?P<place>\S*+)\s++.*")
"""Without ways back (++), so that a line of a thousand spaces takes no longer than one of letters."""
_HEAD = b"# Sphinx inventory version 2"
_CODE_ROLES = ("py:", "c:")
_MAX_LINE, _MAX_TITLES = 2000, 50_000
"""Beyond them nothing is honest, and to look would take long."""
_LEAST_STEM = 4


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A part of a page. Example: Place(path="library/json.html", anchor="json.loads", title="json.loads")"""

    path: str
    anchor: str
    title: str


def read_inventory(body: bytes) -> dict[str, Place]:
    """Documented objects of code by name. Raises Refused("format")."""
    parts = body.split(b"\n", 4)
    if len(parts) < 5 or parts[0].strip() != _HEAD or b"zlib" not in parts[3]:
        raise Refused("format", "no Sphinx inventory of version 2")
    decoder = zlib.decompressobj()
    try:
        text = decoder.decompress(parts[4], MAX_INVENTORY_BYTES)
    except zlib.error:
        raise Refused("format", "a Sphinx inventory that can't be unpacked") from None
    if decoder.unconsumed_tail:
        raise Refused("too_large", "a Sphinx inventory")
    found: dict[str, Place] = {}
    for line in text.decode(errors="replace").splitlines():
        entry = _ENTRY.fullmatch(line) if len(line) <= _MAX_LINE else None
        if entry is None or not entry["role"].startswith(_CODE_ROLES):
            continue
        name, place = entry["name"], entry["place"]
        path, _, anchor = (place[:-1] + name if place.endswith("$") else place).partition("#")
        found.setdefault(name, Place(path=path, anchor=anchor, title=name))
    return found


def read_search_index(body: bytes) -> dict[str, Any]:
    """What `Search.setIndex` is called with. Raises Refused("format")."""
    text = body.decode(errors="replace").strip().rstrip(";")
    start, end = text.find("("), text.rfind(")")
    try:
        index = json.loads(text[start + 1 : end])
        if text[:start] != "Search.setIndex" or not isinstance(index, dict):
            raise ValueError
        names = index["docnames"]
        if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise ValueError
    except (ValueError, KeyError, RecursionError):
        raise Refused("format", "no search index of Sphinx") from None
    return index


def named(inventory: dict[str, Place], query: str) -> list[Place]:
    """Objects that the query names, by their whole name (json.loads) or its end (loads), the most exact first."""
    by_end: dict[str, list[Place]] = defaultdict(list)
    for name, place in inventory.items():
        by_end[name.rpartition(".")[2]].append(place)
    found: dict[str, Place] = {}
    names = names_in(query)
    for name in names:
        if name in inventory and ("." in name or name not in words_in(query) or len(names) == 1):
            found[name] = inventory[name]
    for name in names:
        ends = by_end.get(name.rpartition(".")[2], []) if "_" in name or f"{name}(" in query else []
        for place in ends[:3]:
            found.setdefault(place.title, place)
    return list(found.values())


def matching(index: dict[str, Any], query: str, *, top: int) -> list[Place]:
    """Pages whose titles and texts hold the query's words, best first: a word weighs by how few pages have it, in a
    section's title eight times as much as in the text."""
    docnames, asked = index["docnames"], words_in(query)
    scores: dict[int, float] = defaultdict(float)
    for word in asked:
        for table, weight in (("terms", 1.0), ("titleterms", 4.0)):
            pages = _pages(index.get(table), word, len(docnames))
            for page in pages:
                scores[page] += weight * math.log(1 + len(docnames) / len(pages))
    best_title: dict[int, tuple[float, str, str]] = {}
    titles = index.get("alltitles")
    for title, places in itertools.islice(titles.items(), _MAX_TITLES) if isinstance(titles, dict) else ():
        own_words = words_in(title[:200])[:12]
        share = sum(_matches(word, own) for word in asked for own in own_words) / max(len(asked), 1)
        for page, anchor in _pairs(places, len(docnames)) if share else ():
            best_title[page] = max(best_title.get(page, (0.0, "", "")), (share, anchor, title))
    for page, (share, _, _) in best_title.items():
        scores[page] += 8.0 * share
    found = []
    for page in sorted(scores, key=lambda page: (-scores[page], page))[:top]:
        _, anchor, title = best_title.get(page, (0.0, "", ""))
        found.append(Place(path=f"{docnames[page]}.html", anchor=anchor, title=title or _title(index, page)))
    return found


def _pages(table: Any, word: str, count: int) -> set[int]:
    """Pages of the index's stems that the word has. The index is stemmed by rules that are not known here."""
    if not isinstance(table, dict):
        return set()
    for end in range(len(word), min(_LEAST_STEM, len(word)) - 1, -1):
        held = table.get(word[:end], table.get(f"{word[:end]}i"))  # library becomes librari
        if held is not None:
            numbers = held if isinstance(held, list) else [held]
            return {number for number in numbers if type(number) is int and 0 <= number < count}
    return set()


def _matches(asked: str, own: str) -> bool:
    return asked == own or (
        min(len(asked), len(own)) >= _LEAST_STEM and (asked.startswith(own) or own.startswith(asked))
    )


def _pairs(places: Any, count: int) -> list[tuple[int, str]]:
    pairs = []
    for place in places if isinstance(places, list) else []:
        if isinstance(place, list) and len(place) == 2 and type(place[0]) is int and 0 <= place[0] < count:
            pairs.append((place[0], place[1] if isinstance(place[1], str) else ""))
    return pairs


def _title(index: dict[str, Any], page: int) -> str:
    titles = index.get("titles")
    title = titles[page] if isinstance(titles, list) and page < len(titles) else index["docnames"][page]
    return title if isinstance(title, str) else ""
