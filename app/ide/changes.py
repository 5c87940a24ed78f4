"""A change that an answer proposes to the editor's program: what the program would be, and how it differs.

An answer often repeats a part of the program alone. So where it defines what the program defines too, and the program
holds more than that, its definitions take the place of the old ones, new ones come before these, imports go to the top
and the rest to the end. Else the answer's code is the whole program. Limits: names at the top level, of programs that
can be parsed; comments between two definitions stay where they are.
"""

import ast
import difflib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from app.files.python_source import parsed, source_lines

CONTEXT = 3
"""Unchanged lines that are shown around a change."""
MOST_PAIRS = 100_000
"""Of equal lines, of which the time of a comparison grows."""
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_Import = ast.Import | ast.ImportFrom


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of a difference. Made by `difference`; shown by the page.

    Example: Line(kind="added", old=None, new=4, text="    return 2 * x")
    """

    kind: Literal["same", "added", "removed", "gap"]
    """gap: lines are left out here."""
    old: int | None = None
    new: int | None = None
    text: str = ""


def proposed(program: str, code: str) -> str:
    """The program with the answer's code taken over; both end with a line break where they hold anything."""
    ours, theirs = parsed(program), parsed(code)
    if ours is None or theirs is None:
        return _whole(code)
    try:
        return _taken_over(program, ours.body, code, theirs.body)
    except RecursionError:  # ast.unparse goes less deep than the parser
        return _whole(code)


def _taken_over(program: str, ours: list[ast.stmt], code: str, theirs: list[ast.stmt]) -> str:
    old = {node.name: node for node in ours if isinstance(node, _Definition)}
    new = {node.name: node for node in theirs if isinstance(node, _Definition)}
    holds_more = any(getattr(node, "name", "") not in new for node in ours if not isinstance(node, _Import))
    if not (old.keys() & new.keys() and holds_more):
        return _whole(code)
    ours_lines, their_lines = source_lines(program), source_lines(code)
    known = {ast.unparse(node) for node in ours}
    added = [node for node in theirs if getattr(node, "name", "") not in old and ast.unparse(node) not in known]
    both = [old[name] for name in old if name in new]
    kept = _with_replaced(ours_lines, {_first(node): node for node in both}, their_lines, new)
    helpers = [line for node in added if isinstance(node, _Definition) for line in [*_text(their_lines, node), "", ""]]
    at = min(map(_first, both)) - 1  # helpers come before what calls them
    lines = [*ours_lines[:at], *helpers, *kept[at:]]
    top = [line for node in added if isinstance(node, _Import) for line in _text(their_lines, node)]
    end = [node for node in added if not isinstance(node, _Import | _Definition)]
    last = [line for node in end for line in ["", *_text(their_lines, node)]]
    start = _place_of_imports(ours)
    return _whole("\n".join([*lines[:start], *top, *lines[start:], *last]))


def _with_replaced(
    lines: list[str], at: dict[int, _Definition], theirs: list[str], new: dict[str, _Definition]
) -> list[str]:
    """The lines with the definitions that begin `at` these replaced by the new ones of their names."""
    found, number = list[str](), 1
    while number <= len(lines):
        if node := at.get(number):
            found += _text(theirs, new[node.name])
            number = _last(node)
        else:
            found.append(lines[number - 1])
        number += 1
    return found


def difference(before: str, after: str) -> list[Line]:
    """Line by line, with CONTEXT lines around each change; empty where nothing differs."""
    old, new = source_lines(before), source_lines(after)
    found: list[Line] = []
    for group in _Changes(old, new).get_grouped_opcodes(CONTEXT):
        if found or group[0][1] > 0:
            found.append(Line(kind="gap"))
        for kind, first, last, first_new, last_new in group:
            found += _lines(kind, old, new, (first, last), (first_new, last_new))
    return found


class _Changes(difflib.SequenceMatcher[str]):
    def __init__(self, old: list[str], new: list[str]) -> None:
        super().__init__()
        self._codes = _opcodes(old, new)

    def get_opcodes(self) -> list[Any]:
        return self._codes


def _opcodes(old: list[str], new: list[str]) -> list[Any]:
    """As difflib's, in little time for any text: lines that begin and end both are the same, and what is between is
    compared where few of its lines equal each other, and replaced whole elsewhere."""
    most = min(len(old), len(new))
    head = next((at for at in range(most) if old[at] != new[at]), most)
    tail = next((at for at in range(most - head) if old[-1 - at] != new[-1 - at]), most - head)
    end, end_new = len(old) - tail, len(new) - tail
    within, within_new = old[head:end], new[head:end_new]
    codes: list[Any] = [("equal", 0, head, 0, head)]
    counts = Counter(within_new)
    if sum(counts[line] for line in within) <= MOST_PAIRS:
        found = difflib.SequenceMatcher(None, within, within_new, autojunk=False).get_opcodes()
        codes += [(kind, a + head, b + head, c + head, d + head) for kind, a, b, c, d in found]
    else:
        codes.append(("replace", head, end, head, end_new))
    codes.append(("equal", end, len(old), end_new, len(new)))
    return [code for code in codes if code[1] < code[2] or code[3] < code[4]]


def _lines(kind: str, old: list[str], new: list[str], was: tuple[int, int], now: tuple[int, int]) -> Iterator[Line]:
    if kind == "equal":
        for place, text in enumerate(old[slice(*was)]):
            yield Line(kind="same", old=was[0] + place + 1, new=now[0] + place + 1, text=text)
        return
    for place, text in enumerate(old[slice(*was)], was[0] + 1):
        yield Line(kind="removed", old=place, text=text)
    for place, text in enumerate(new[slice(*now)], now[0] + 1):
        yield Line(kind="added", new=place, text=text)


def _first(node: ast.stmt) -> int:
    """Its first line, counted from 1, decorators included."""
    return min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", ()))])


def _last(node: ast.stmt) -> int:
    return node.end_lineno or node.lineno


def _text(lines: list[str], node: ast.stmt) -> list[str]:
    return lines[_first(node) - 1 : _last(node)]


def _place_of_imports(body: list[ast.stmt]) -> int:
    """Lines that come before an import that is added: the docstring's and those of the imports that follow it."""
    at = 0
    for number, node in enumerate(body):
        is_docstring = number == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not (is_docstring or isinstance(node, _Import)):
            break
        at = _last(node)
    return at


def _whole(text: str) -> str:
    return f"{text.rstrip()}\n" if text.strip() else ""
