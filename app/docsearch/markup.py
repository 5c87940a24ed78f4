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
KEPT = frozenset(("class", "style", "hidden", "aria-hidden", "popover"))
_SPACE = "\\t\\n\\f\\r "
"""White space of HTML. Python's has more: with it, </div\u00a0> would end a <div> here and in no browser."""
_START = re.compile(rf"<([A-Za-z][^{_SPACE}/>]*)")
_END = re.compile(rf"</([A-Za-z][^{_SPACE}/>]*)[^>]*>")
_ATTRIBUTE = re.compile(
    rf"[{_SPACE}/]*(?:(?P<end>>)|(?P<name>[^{_SPACE}/>][^{_SPACE}/>=]*)(?:[{_SPACE}]*=[{_SPACE}]*"
    rf"(?:\"(?P<two>[^\"]*)(?:\"|\Z)|'(?P<one>[^']*)(?:'|\Z)|(?P<bare>[^{_SPACE}>\"'][^{_SPACE}>]*)))?)"
)
"""A quote that is not closed takes the rest of the page, as in browsers."""
_RAW = frozenset("script style title textarea xmp iframe noembed noframes plaintext".split())
"""Elements whose content is no markup; none of it is shown."""
_INSTEAD = {"form": "div"} | dict.fromkeys("annotation annotation-xml meter progress select svg".split(), "template")
"""Forms can't be nested; what stands in the others is not shown, and has rules of its own."""
_KNOWN = frozenset(
    """
    address article aside audio blockquote button canvas caption cite dd del details dfn dialog div dl dt embed fieldset
    figcaption figure footer h1 h2 h3 h4 h5 h6 header hgroup ins kbd li main map nav noscript object ol p picture
    pre q ruby samp section span sub summary sup table tbody td template tfoot th thead tr ul var video
    """.split()
)
"""All others become <span>: a parser opens formatting (<b>) again in each later block if it was left open, what is
foreign to HTML (<math>) has rules of its own, and names that it does not know make it slow."""
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
    """How many elements of each name are open: the page's own names, so that </i> ends no <b> once both are <span>."""

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
        return _end_tag(_lower(found[1]), still_open), found.end()
    if html[start + 1 : start + 2] in ("!", "?", "/"):
        return "", _after(html, ">", start + 1)
    return "&lt;", start + 1


def _after(html: str, mark: str, start: int) -> int:
    found = html.find(mark, start)
    return found + len(mark) if found >= 0 else -1


def _lower(name: str) -> str:
    """As HTML does: `str.lower` makes a k of the Kelvin sign."""
    return name.lower() if name.isascii() else name


def _start_tag(html: str, found: re.Match[str], still_open: _Open) -> tuple[str, int]:
    own, position = _lower(found[1]), found.end()
    attributes: dict[str, str] = {}
    while attribute := _ATTRIBUTE.match(html, position):
        position = attribute.end()
        if attribute["end"]:
            break
        key = _lower(attribute["name"])
        if key in KEPT and key not in attributes:
            attributes[key] = (attribute["two"] or attribute["one"] or attribute["bare"] or "")[: MAX_VALUE + 1]
    else:
        return "", -1
    if own in _RAW:
        end = re.compile(rf"</{own}[{_SPACE}/>]", re.I | re.A).search(html, position)
        return "", _after(html, ">", end.end() - 1) if end else -1
    name = _written(own)
    if name in _IGNORED:
        return "", position
    if name not in _VOID and name not in _CLOSED_BY_OTHERS:
        still_open.open(own)
    kept = "".join(f' {key}="{_quoted(value)}"' for key, value in attributes.items())
    return f"<{name}{kept}>", position


def _end_tag(own: str, still_open: _Open) -> str:
    name = _written(own)
    if name in _IGNORED or name in _VOID:
        return ""
    return f"</{name}>" if name in _CLOSED_BY_OTHERS or still_open.closes(own) else ""


def _written(name: str) -> str:
    name = _INSTEAD.get(name, name)
    return name if name in _WRITTEN else "span"


def _quoted(value: str) -> str:
    return value.replace('"', "&quot;").replace("<", "&lt;")
