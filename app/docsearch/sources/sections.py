"""The part of an HTML page that an anchor names: a documented object with its text, or a section."""

import dataclasses
import html

from selectolax.lexbor import LexborHTMLParser, LexborNode

from app.docsearch.records import Page

UTF8 = "text/html; charset=utf-8"
_MAX_HEADING_PARTS = 400


def part_of(page: Page, anchor: str) -> Page:
    """The page with nothing but that part; the whole page where it has no such part."""
    if not anchor or "html" not in page.content_type:
        return page
    tree = LexborHTMLParser(page.body)
    for node in tree.css("[id]"):
        if node.attributes.get("id") == anchor:
            whole = _within(node, _html(node))
            return dataclasses.replace(page, body=whole.encode(errors="replace"), content_type=UTF8)
    return page


def _within(node: LexborNode, part: str) -> str:
    """The part with the tags that it lies in, for what they say holds of it: it may be hidden, or a menu."""
    above = node.parent
    while above is not None and above.tag not in ("-undef", "-document", "html", ""):
        attributes = "".join(f' {name}="{html.escape(value or "")}"' for name, value in above.attributes.items())
        part = f"<{above.tag}{attributes}>{part}</{above.tag}>"
        above = above.parent
    return part


def _html(node: LexborNode) -> str:
    if node.tag == "dt" and node.parent is not None and node.parent.tag == "dl":
        return _definition(node)
    if node.tag in ("h1", "h2", "h3", "h4", "h5", "h6"):  # MkDocs marks headings, Sphinx sections
        return _below(node)
    return node.html or ""


def _definition(term: LexborNode) -> str:
    """A <dt> with the <dt> that follow it and their <dd>."""
    parts, node = [term.html or ""], term.next
    while node is not None:
        if node.tag == "dt" and any(part.startswith("<dd") for part in parts):
            break
        if node.tag in ("dt", "dd"):
            parts.append(node.html or "")
        node = node.next
    return f"<dl>{''.join(parts)}</dl>"


def _below(heading: LexborNode) -> str:
    parts, node = [heading.html or ""], heading.next
    while node is not None and len(parts) < _MAX_HEADING_PARTS:
        tag = node.tag or ""
        if len(tag) == 2 and tag[0] == "h" and tag[1].isdigit() and tag <= (heading.tag or ""):
            break
        parts.append(node.html or "")
        node = node.next
    return "".join(parts)
