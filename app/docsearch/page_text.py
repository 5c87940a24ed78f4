"""What of a page reaches the model: the text that a reader sees, without chat-template tokens, cut short.

Known limits: what a style sheet or a script hides or shows is not known here, nor text in the background's colour.
"""

import codecs
import re
from email.message import Message

from selectolax.lexbor import LexborHTMLParser, LexborNode

from app.docsearch.hiding_styles import hides
from app.docsearch.markup import MAX_VALUE, rebuilt
from app.docsearch.plain_text import FENCE, cleaned, cut, without_links
from app.docsearch.records import Page

__all__ = ["cleaned", "cut", "text_of", "without_links"]
_DROPPED = frozenset(
    """
    audio button canvas datalist dialog embed footer iframe input link meta nav noembed noframes noscript object
    optgroup option rp script source style svg template textarea title track video
    """.split()
)
_BLOCKS = frozenset(
    """
    address article aside blockquote body caption dd details div dl dt fieldset figcaption figure h1 h2 h3 h4 h5 h6
    header hgroup hr li main ol p section summary table tbody tfoot thead tr ul
    """.split()
)
_PARAGRAPHS = frozenset("blockquote dl h1 h2 h3 h4 h5 h6 hr ol p section table ul".split())
_HIDING_CLASSES = frozenset(
    """
    sr-only visually-hidden visuallyhidden screen-reader-text hidden is-hidden invisible d-none headerlink
    """.split()
)
_CODECS = {name: name for name in ("utf-8", "us-ascii", "iso-8859-1", "windows-1252", "utf-16", "utf-16le", "utf-16be")}
_CODECS |= {"utf8": "utf-8", "latin-1": "iso-8859-1", "latin1": "iso-8859-1", "ascii": "us-ascii"}
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""By which a page begins that browsers read as UTF-16, whatever its header says."""


def text_of(page: Page) -> str:
    """The page's visible text, `cleaned`. <pre> blocks become fenced blocks (three backticks); other white space is
    folded, blocks are lines, paragraphs stand apart by a blank line. text/plain and JSON are decoded and cleaned."""
    header = Message()
    header["content-type"] = page.content_type
    codec = "utf-16" if page.body.startswith(_UTF_16) else _CODECS.get(str(header.get_content_charset()), "utf-8")
    if header.get_content_type() != "text/html":
        return cleaned(page.body.decode(codec, "replace"))
    body = LexborHTMLParser(rebuilt(page.body.decode(codec, "replace"))).body
    return cleaned(_visible(body)).strip() if body is not None else ""


def _visible(body: LexborNode) -> str:
    """The text of all nodes that are shown. Walks without recursion: depth is the page's choice."""
    prose: list[str] = []
    done: list[str] = []

    def fold() -> None:
        text = re.sub(r"[ \t]*\n[ \t]*", "\n", re.sub(r"[ \t]+", " ", "".join(prose)))
        done.append(re.sub(r"\n{3,}", "\n\n", text))
        prose.clear()

    todo: list[LexborNode | str] = [body]
    while todo:
        node = todo.pop()
        if isinstance(node, str):
            prose.append(node)
        elif node.is_text_node:
            prose.append(re.sub(r"\s+", " ", node.text_content or ""))
        elif not node.is_element_node or _is_hidden(node):
            continue
        elif node.tag == "pre":
            fold()
            done.append(f"\n{FENCE}\n{_code(node)}\n{FENCE}\n")
        else:
            breaks = _breaks(node.tag or "")
            prose.append(breaks)
            todo.append(breaks if node.tag != "br" else "")
            todo += reversed(list(node.iter(include_text=True)))
    fold()
    return re.sub(r"\n{3,}", "\n\n", "".join(done))


def _code(pre: LexborNode) -> str:
    """The text of a <pre> as it stands, hidden parts left out."""
    pieces: list[str] = []
    todo: list[LexborNode] = [pre]
    while todo:
        node = todo.pop()
        if node.is_text_node:
            pieces.append(node.text_content or "")
        elif node.tag == "br":
            pieces.append("\n")
        elif node.is_element_node and not _is_hidden(node):
            todo += reversed(list(node.iter(include_text=True)))
    return "".join(pieces).strip("\n")


def _breaks(tag: str) -> str:
    if tag in _PARAGRAPHS:
        return "\n\n"
    if tag in _BLOCKS or tag == "br":
        return "\n"
    return " " if tag in ("td", "th") else ""


def _is_hidden(node: LexborNode) -> bool:
    if node.tag in _DROPPED:
        return True
    attributes = {name.lower(): value or "" for name, value in node.attributes.items()}
    if not attributes.keys().isdisjoint(("hidden", "popover")) or _is_true(attributes.get("aria-hidden", "")):
        return True
    if _HIDING_CLASSES.intersection(attributes.get("class", "").lower().split()):
        return True
    style = attributes.get("style", "")
    return len(style) > MAX_VALUE or hides(style)


def _is_true(value: str) -> bool:
    return value.strip().lower() == "true"
