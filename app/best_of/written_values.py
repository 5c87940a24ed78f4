"""Plain values as questions write them: Python's, names of JSON, with words, marks and comments behind.

Limit: a value that is followed by a word of its unit (`10 minutes`) is read as the value.
"""

import ast
import re
from collections.abc import Iterator

from app.corpus.mining.literals import NotLiteralError, value_of, written
from app.files.python_source import parse_expression

MAX_VALUE = 2_000
"""Characters of what is given or expected."""
MAX_TRIES = 48
"""Places at which a value, or a call, may end."""
UNWRITABLE = (ValueError, MemoryError, RecursionError)
"""Raised for a tree too deep for its own writer, or an integer of more digits than Python writes out."""
_GOES_ON = re.compile(
    r"(?:,?\s?(?:which|that)\s)?(?:is|was)\s(?:wrong|false|incorrect|not)\b|or\b|(?:less|more|fewer|greater|smaller|larger)\b"
    r"|at\s(?:most|least)\b",
    re.I,
)
"""Words behind a value by which it is not what is expected, or not alone."""
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+")
"""No tuple, though Python reads one."""
_WORDS = {"true": "True", "false": "False", "null": "None", "none": "None", "TRUE": "True", "FALSE": "False"}


def first_value(text: str) -> ast.expr | None:
    """The longest beginning of the text, within a few lines, that is a plain value."""
    text = text[:MAX_VALUE].strip(" \t`*")
    line = text.partition("\n")[0]
    for whole in dict.fromkeys((line, " ".join(text.split("\n")[:12]))):
        for candidate in _beginnings(whole):
            value = None if _THOUSANDS.fullmatch(candidate) else expression(candidate)
            if value is not None and is_plain(value):
                return value
    return None


def _beginnings(text: str) -> Iterator[str]:
    """Without a comment, a closing mark, or words behind the value; behind the last of several signs of equality."""
    text = text.strip()
    if re.search(r"[\d)]\s=\s", text) and not text.startswith(("'", '"', "[", "{")):
        text = text.rpartition(" = ")[2]
    yield text
    plain = text.partition("#")[0].strip()
    yield plain
    yield plain.rstrip(".,;`* ")
    ends = [found.start() for found in re.finditer(r"[\s;(]|[.,](?!\d)", plain)][:MAX_TRIES]
    for end in ends:
        if head := plain[:end].rstrip(".,;` "):
            if head[0] in "[({'\"" and head[-1] not in "])}'\"":
                continue
            rest = plain[end:].strip()
            if _GOES_ON.match(rest) or (head[0] not in "[({'\"" and re.match(r"[-+*/%<>=\d]", rest)):
                continue  # a formula or a row of numbers, of which this is a part
            yield head


def expression(text: str) -> ast.expr | None:
    """Names of JSON are Python's here."""
    try:
        found = parse_expression(text.strip()).body
        for node in ast.walk(found):
            if isinstance(node, ast.Name):
                node.id = _WORDS.get(node.id, node.id)
        return parse_expression(ast.unparse(found)).body
    except (SyntaxError, *UNWRITABLE):
        return None


def is_plain(value: ast.expr) -> bool:
    try:
        written(value_of(value, {}))
    except NotLiteralError:
        return False
    return True
