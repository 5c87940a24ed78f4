"""What a question has to show, so that its answer can be known: rules for bodies, docstrings and missing lines.

Who has the question alone is asked for nothing that only the author knows: keys and numbers of a format, names of other
modules, a function's history. Each rule gives what is missing; `forms` makes the reason for rejected.parquet of it.
Limits: words are looked for as text, whatever they mean there.
"""

import ast
import builtins
import collections
import datetime
import decimal
import fractions
import functools
import io
import keyword
import pathlib
import re
import sys
from collections.abc import Iterable, Iterator

MAX_HIDDEN = 1
"""Words and numbers of a body's constants that may have to be guessed."""
LONG = 64
"""Bits of a number that is told by its first hexadecimal digits: Python refuses to write thousands of others."""
MAX_GUESSED = 1
"""Names and constants of missing lines that may have to be."""
_WORD = re.compile(r"[a-z]{3,}|[0-9]{3,}")
_IDENTIFIER = re.compile(r"[^\W\d]\w*")
_PROSE = re.compile(r"[a-z,:.] +[A-Za-z{%]")
_TELLS = frozenset("print debug info warning warn error exception critical log fail echo write".split())
"""Functions whose arguments are messages."""
_KNOWN_TYPES: tuple[type, ...] = (
    str, bytes, bytearray, int, float, complex, list, dict, set, frozenset, tuple, range, slice, Exception,
    type(lambda: None), type, re.Match, re.Pattern, io.TextIOWrapper, io.BytesIO, io.StringIO, pathlib.Path,
    datetime.datetime, datetime.timedelta, decimal.Decimal, fractions.Fraction, collections.deque,
    collections.OrderedDict, collections.Counter,
)  # fmt: skip
KNOWN_ATTRIBUTES = frozenset(name for kind in _KNOWN_TYPES for name in dir(kind))
_BUILTINS = frozenset(dir(builtins))
_USUAL_WORDS = frozenset(
    "utf ascii latin strict ignore replace surrogateescape surrogatepass backslashreplace name main self cls "
    "linux darwin win posix http https true false none null nan inf".split()
) | {word for name in (*_BUILTINS, *keyword.kwlist) for word in _WORD.findall(name.lower())}
_USUAL_NUMBERS = frozenset([*range(17), 24, 31, 60, 90, 180, 360, 365, 3600, 86400])
_USUAL_FLOAT = re.compile(r"0\.0*1|1e-\d+|[12]?\d?\.[05]|0\.[27]5|1e\+\d+")
_NAMED = re.compile(
    r"`+([^`\n]+)`+"  # as code
    r"|\b(\w*(?:_\w+|[a-z][A-Z]|[A-Z]{2}|\d)\w*(?:\.\w+)*)\b"  # identifiers, abbreviations, numbers
    r"|(?<=[a-z,;)] )([A-Z][a-z]\w+)"  # capitals within a sentence
)
_PART = re.compile(r"[a-z]{2,}|[0-9]{2,}")
_COMMON = frozenset(
    "none true false python ascii unicode utf json xml html http https url urls uri id ids os io api utc iso yaml csv "
    "pdf sql ie eg ok args kwargs nan inf".split()
) | {name.lower() for name in _BUILTINS}
_HISTORY = re.compile(
    r"https?://|^[^\S\n]*(?:\.\. (?:version\w+|\[\w+\]|seealso|note\w*)|see also\b|references?\b\s*:?\s*$|authors?\s*:)"
    r"|\b(?:new|added|changed) in (?:version )?\d|\b(?:gh|issue|bug|pr|pep|rfc)[ -:`#]*\d{2,}",
    re.IGNORECASE | re.MULTILINE,
)
Function = ast.FunctionDef | ast.AsyncFunctionDef


@functools.lru_cache(maxsize=4)
def nodes_of(function: Function) -> tuple[ast.AST, ...]:
    """All nodes of a function, which each form and rule looks through anew."""
    return tuple(ast.walk(function))


def hidden_words(nodes: Iterable[ast.AST], shown: str) -> list[str]:
    """Words and numbers of the constants in these nodes that the text shown does not have and that are no everyday
    ones, in alphabetical order.

    Messages, and texts of several words, don't count: any will do.
    """
    given = shown.lower()
    found: set[str] = set()
    for value in _constants(nodes):
        if not isinstance(value, str):
            number = hex(value)[:20] if isinstance(value, int) and value.bit_length() > LONG else str(value)
            if number not in given and not _is_usual(value):
                found.add(number)
        elif not _PROSE.search(value):
            words = _WORD.findall(value.lower())
            found |= {word for word in words if word not in _USUAL_WORDS and word not in given}
    return sorted(found)


def unshown_names(said: str, code: str) -> list[str]:
    """What a docstring calls by a name, as code, in capitals or by number, and the code does not have."""
    given = code.lower()
    found = []
    for match in _NAMED.finditer(said):
        name = next(group for group in match.groups() if group)
        parts = [part for part in _PART.findall(name.lower()) if part not in _COMMON]
        if any(part not in given and part.removesuffix("s") not in given for part in parts):
            found.append(name)
    if history := _HISTORY.search(said):
        found.append(" ".join(history[0].split()))
    return found


def unshown_reason(said: str, code: str) -> str:
    """Why what is said of the code can't be known from it, or is no description; empty when it is one."""
    if said.strip().rstrip(".").lower() in code.lower():
        return "docstring that repeats a text of the code"
    unshown = unshown_names(said, code)
    return f"docstring of what is not shown: {', '.join(unshown[:5])}" if unshown else ""


def hidden_imports(function: Function, shown: str) -> list[str]:
    """What the body imports from elsewhere than the standard library, and the text shown does not name."""
    found = []
    for node in nodes_of(function):
        if isinstance(node, ast.ImportFrom) and (node.level or _top(node.module or "") not in sys.stdlib_module_names):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if _top(alias.name) not in sys.stdlib_module_names]
    given = set(_IDENTIFIER.findall(shown))
    return [name for name in found if not set(name.split(".")) <= given]


def _top(module: str) -> str:
    return module.partition(".")[0]


def unguessable(function: Function, first: int, last: int, shown: str) -> list[str]:
    """Names and constants in the lines from first to last (counted from 1, in the function's source) that the text
    around them does not have, and that are not Python's own."""
    nodes = [node for node in nodes_of(function) if first <= getattr(node, "lineno", 0) <= last]
    around = set(_IDENTIFIER.findall(shown))
    own = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    own |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    own |= {node.name for node in nodes if isinstance(node, ast.ExceptHandler | Function) and node.name}
    own |= _BUILTINS | sys.stdlib_module_names
    used: dict[str, None] = {}
    for node in nodes:
        if isinstance(node, ast.Name) and node.id not in own:
            used[node.id] = None
        elif isinstance(node, ast.Attribute) and node.attr not in KNOWN_ATTRIBUTES and not _is_of_module(node):
            used[node.attr] = None
        elif isinstance(node, ast.keyword) and node.arg:
            used[node.arg] = None
    lines = [node for node in nodes if isinstance(node, ast.Constant | ast.Raise | ast.Assert | ast.Call)]
    return [name for name in used if name not in around] + hidden_words(lines, shown)


def is_cut(function: Function, first: int, last: int) -> bool:
    """Whether a statement, or the head of one with a body, lies partly in these lines."""
    for node in nodes_of(function)[1:]:  # the function itself comes first
        if isinstance(node, ast.stmt):
            body = node.cases[0].body if isinstance(node, ast.Match) else getattr(node, "body", None)
            end = max(node.lineno, body[0].lineno - 1) if body else node.end_lineno or node.lineno
            if node.lineno <= last and first <= end and not (first <= node.lineno and end <= last):
                return True
    return False


def _is_of_module(node: ast.Attribute) -> bool:
    root: ast.expr = node
    while isinstance(root, ast.Attribute):
        root = root.value
    return isinstance(root, ast.Name) and root.id in sys.stdlib_module_names


def _constants(nodes: Iterable[ast.AST]) -> Iterator[str | int | float]:
    """The constants in these nodes that are in no message. A node comes before those in it, so each is seen once."""
    seen: set[int] = set()
    waiting: list[tuple[ast.AST, bool]] = []
    for top in nodes:
        waiting.append((top, False))
        while waiting:
            node, is_said = waiting.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            is_said = is_said or _is_message(node)
            value = node.value if isinstance(node, ast.Constant) and not is_said else None
            if isinstance(value, str | int | float) and not isinstance(value, bool):
                yield value
            waiting += [(part, is_said) for part in ast.iter_child_nodes(node)]


def _is_message(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        return name in _TELLS
    return isinstance(node, ast.Raise | ast.Assert)


def _is_usual(number: float) -> bool:
    """Whether the number is one of everyday life: small, a power of two or of ten, or next to one of two."""
    if isinstance(number, float):
        return bool(_USUAL_FLOAT.fullmatch(repr(number)))
    near_two = number & (number - 1) == 0 or number & (number + 1) == 0
    return number in _USUAL_NUMBERS or near_two or (number.bit_length() <= LONG and str(number).strip("0") == "1")
