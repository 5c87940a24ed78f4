"""The text of the part of an HTML page that an anchor names: a documented object with what is said of it, or a section.

Two marks are put into the page, where the part begins and ends, and looked for in its text: what is hidden is left out
as in any page, the marks with it, and no parser reads what `app.docsearch.markup` has not put together anew.
"""

import dataclasses
import re
import secrets

from app.docsearch.page_text import text_of
from app.docsearch.records import Page

_MAX_CANDIDATES = 50
"""Places that may be the anchor's: it is once on an honest page."""
_NAME = re.compile(rb"<([A-Za-z][A-Za-z0-9]*)")
_LIST_TAGS = re.compile(rb"<(/?)(dl|dt|dd)(?=[\s/>])", re.I)
_HEADINGS = re.compile(rb"<h([1-6])(?=[\s/>])", re.I)
_WITH_CONTENT = frozenset((b"section", b"article", b"div", b"dl", b"dd", b"li", b"p"))


def text_of_part(page: Page, anchor: str) -> str:
    """The visible text of that part; of the whole page where it has none, or hides it."""
    place = _place(page.body, anchor) if anchor and "html" in page.content_type else None
    if place is None:
        return text_of(page)
    start, end = place
    # Marks are words of ASCII, the same in every encoding that a place is found in.
    marks = [f" {secrets.token_hex(12)} " for _ in range(2)]
    marked = page.body[:start] + marks[0].encode() + page.body[start:end] + marks[1].encode() + page.body[end:]
    text = text_of(dataclasses.replace(page, body=marked))
    _, found, part = text.partition(marks[0].strip())
    return part.partition(marks[1].strip())[0].strip() if found else text_of(page)


def _place(body: bytes, anchor: str) -> tuple[int, int] | None:
    """Where the content of the element with this id begins and where the part ends."""
    name = anchor.encode(errors="replace")
    for given in (b'id="%b"' % name, b"id='%b'" % name, b"id=%b>" % name):
        position = -1
        for _ in range(_MAX_CANDIDATES):
            position = body.find(given, position + 1)
            if position < 0:
                break
            tag = body.rfind(b"<", 0, position)
            close = body.find(b">", tag)
            if tag >= 0 and close > position and (element := _NAME.match(body, tag)):
                return close + 1, max(close + 1, _end(body, element[1].lower(), close + 1))
    return None


def _end(body: bytes, name: bytes, start: int) -> int:
    if name == b"dt":
        return _end_of_definition(body, start)
    if heading := re.fullmatch(rb"h([1-6])", name):
        return _end_of_section(body, int(heading[1]), start)
    return _end_of_element(body, name, start) if name in _WITH_CONTENT else len(body)


def _end_of_definition(body: bytes, start: int) -> int:
    """A <dt>, those that follow it, and their <dd>."""
    depth, has_text = 0, False
    for tag in _LIST_TAGS.finditer(body, start):
        is_end, name = bool(tag[1]), tag[2].lower()
        if name == b"dl":
            depth += -1 if is_end else 1
        elif depth == 0 and not is_end and name == b"dt" and has_text:
            return tag.start()
        has_text |= depth == 0 and name == b"dd"
        if depth < 0:
            return tag.start()
    return len(body)


def _end_of_section(body: bytes, level: int, start: int) -> int:
    """To the next heading of the same level or a higher one: MkDocs marks headings, Sphinx sections."""
    for heading in _HEADINGS.finditer(body, start):
        if int(heading[1]) <= level:
            return heading.start()
    return len(body)


def _end_of_element(body: bytes, name: bytes, start: int) -> int:
    depth = 1
    for tag in re.finditer(rb"<(/?)%b(?=[\s/>])" % name, body[start:], re.I):
        depth += -1 if tag[1] else 1
        if depth == 0:
            return start + tag.start()
    return len(body)
