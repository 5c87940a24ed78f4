"""HTML put together anew before a parser reads it: only tags and the attributes that are asked for, no deep nesting.

The HTML standard makes parsers take time that grows with the square of the nesting, of a tag's attributes and of
formatting left open: 4 MiB of <div> take minutes, four thousand <b> gigabytes. What a parser is given here has none of
it.
"""

import re
from collections import Counter

MAX_OPEN = 400
"""Elements that may be open at once; what lies deeper, with all that follows, is left out."""
MAX_TAGS = 100_000
"""What follows after so many is left out: no page that is meant to be read has as many."""
MAX_VALUE = 400
"""Characters of an attribute that are kept, and one more, by which a longer one is known."""
KEPT = frozenset(("class", "style", "hidden", "aria-hidden"))
_START = re.compile(r"<([A-Za-z][^\s/>]*)")
_END = re.compile(r"</([A-Za-z][^\s/>]*)[^>]*>")
_ATTRIBUTE = re.compile(
    r"[\s/]*(?:(?P<end>>)|(?P<name>[^\s/>][^\s/>=]*)(?:\s*=\s*(?:\"(?P<two>[^\"]*)\"|'(?P<one>[^']*)'|(?P<bare>[^\s>\"'][^\s>]*)))?)"
)
_RAW = frozenset("script style title textarea xmp iframe noembed noframes plaintext".split())
"""Elements whose content is no markup; none of it is shown."""
_INSTEAD = dict.fromkeys("a b big code em font i nobr s small strike strong tt u".split(), "span")
"""Formatting is opened again in each later block if it was left open, forms can't be nested, and what is foreign to
HTML has rules of its own."""
_INSTEAD |= {"form": "div", "math": "span", "select": "template", "svg": "template"}
_KNOWN = frozenset(
    """
    address article aside audio blockquote button canvas caption cite dd del details dfn dialog div dl dt embed fieldset
    figcaption figure footer h1 h2 h3 h4 h5 h6 header hgroup ins kbd li main map nav noscript object ol p picture
    pre q ruby samp section span sub summary sup table tbody td template tfoot th thead tr ul var video
    """.split()
)
"""All others become <span>: a parser is slow with names that it does not know."""
_VOID = frozenset("area base br col embed hr img input link meta param source track wbr".split())
_CLOSED_BY_OTHERS = frozenset("colgroup dd dt li optgroup option p rp rt tbody td tfoot th thead tr".split())
_IGNORED = frozenset("html head body frameset frame".split())
"""Tags that are there once at most; their content stays."""
_WRITTEN = _KNOWN | _VOID | _CLOSED_BY_OTHERS | _IGNORED


def rebuilt(html: str) -> str:
    """The same text in the same elements. In time that grows with the length alone."""
    out: list[str] = []
    still_open = _Open()
    position = 0
    for _ in range(MAX_TAGS):
        start = html.find("<", position)
        if start < 0:
            out.append(html[position:])
            break
        out.append(html[position:start])
        tag, position = _tag(html, start, still_open)
        out.append(tag)
        if position < 0 or still_open.total > MAX_OPEN:  # what was begun has no end
            break
    return "".join(out)


class _Open:
    """How many elements of each name are open."""

    def __init__(self) -> None:
        self.total = 0
        self._by_name: Counter[str] = Counter()

    def open(self, name: str) -> None:
        self._by_name[name] += 1
        self.total += 1

    def closes(self, name: str) -> bool:
        """Whether there was one to close."""
        if not self._by_name[name]:
            return False
        self._by_name[name] -= 1
        self.total -= 1
        return True


def _tag(html: str, start: int, still_open: _Open) -> tuple[str, int]:
    """What to write for the markup that starts here, and where it ends; -1: it has no end."""
    if html.startswith("<!--", start):
        return "", _after(html, "-->", start + 2)
    if found := _START.match(html, start):
        return _start_tag(html, found, still_open)
    if found := _END.match(html, start):
        return _end_tag(found[1].lower(), still_open), found.end()
    if html[start + 1 : start + 2] in ("!", "?", "/"):
        return "", _after(html, ">", start + 1)
    return "&lt;", start + 1


def _after(html: str, mark: str, start: int) -> int:
    found = html.find(mark, start)
    return found + len(mark) if found >= 0 else -1


def _start_tag(html: str, found: re.Match[str], still_open: _Open) -> tuple[str, int]:
    name, position = found[1].lower(), found.end()
    attributes: dict[str, str] = {}
    while attribute := _ATTRIBUTE.match(html, position):
        position = attribute.end()
        if attribute["end"]:
            break
        key = attribute["name"].lower()
        if key in KEPT and key not in attributes:
            attributes[key] = (attribute["two"] or attribute["one"] or attribute["bare"] or "")[: MAX_VALUE + 1]
    else:
        return "", -1
    if name in _RAW:
        end = re.compile(rf"</{name}[\s/>]", re.I).search(html, position)
        return "", _after(html, ">", end.end() - 1) if end else -1
    name = _written(name)
    if name in _IGNORED:
        return "", position
    if name not in _VOID and name not in _CLOSED_BY_OTHERS:
        still_open.open(name)
    kept = "".join(f' {key}="{_quoted(value)}"' for key, value in attributes.items())
    return f"<{name}{kept}>", position


def _end_tag(name: str, still_open: _Open) -> str:
    name = _written(name)
    if name in _IGNORED or name in _VOID:
        return ""
    return f"</{name}>" if name in _CLOSED_BY_OTHERS or still_open.closes(name) else ""


def _written(name: str) -> str:
    name = _INSTEAD.get(name, name)
    return name if name in _WRITTEN else "span"


def _quoted(value: str) -> str:
    return value.replace('"', "&quot;").replace("<", "&lt;")
