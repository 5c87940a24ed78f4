"""What a statement's list of constraints says of the arguments, as far as it is written in numbers.

    1 <= nums.length <= 100        0 <= nums[i] < n        m == grid.length        edges.length == n - 1
    1 <= m, n <= 50                1 <= Node.val <= 9      The number of nodes in the tree is in the range [1, 100]
    bits[i] is 0 or 1.             s consists of lowercase English letters.     All the values of nums are unique.

A line counts only where it is true of every given call: powers have often lost their mark on the way (10 to the 5th
is written 105), and what is misread shows there. Names such as ai and bi are read off `edges[i] = [ai, bi]` in the
statement. Other lines in words, and those that compare two lists item by item, are passed over.
"""

import ast
import itertools
import operator
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from app.corpus.mining.records import Call
from app.files.python_source import parse_expression
from app.problem_tests.constraints import Line, may_say_more, read_line

_COMPARED = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt, "==": operator.eq,
             "!=": operator.ne}  # fmt: skip
_TUPLES = re.compile(r"(\w+)\[\w\] = [\[(]([^\])]+)[\])]")
_ARITHMETIC: dict[type[ast.operator], Any] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.BitXor: lambda a, b: a**b if b < 20 and abs(a) <= MAX_BASE else a,
}  # fmt: skip
MAX_BASE = 10**6
"""Of a power: one of a power of a power fills the memory."""
MAX_VALUES = 100_000
"""Of an expression: each two lists in it have the product of their lengths."""
Values = list[Any]
"""All values that an expression has, one for each item that it speaks of."""


class _UnknownError(ValueError):
    """The line speaks of something else than the arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The lines that count. Made by `limits_of`."""

    lines: tuple[Line, ...]
    columns: tuple[tuple[str, str, int], ...]
    """Name of a part, the argument that it is of, and its place in each item."""
    is_whole: bool
    """Whether every line was understood, and the statement takes nothing else for granted."""

    def range_of(self, name: str) -> tuple[int, int] | None:
        """The least and the greatest number that an argument may be, where both are told."""
        least = [_number(line.left) for line in self.lines if line.sign == "<=" and line.right == name]
        most = [_number(line.right) for line in self.lines if line.sign == "<=" and line.left == name]
        found = [number for number in (*least[:1], *most[:1]) if number is not None]
        return (found[0], found[1]) if len(found) == 2 and found[0] <= found[1] else None

    def allow(self, call: Call) -> bool:
        names = _names(call, self.columns, self.lines)
        return all(_holds(line, names, self.columns) is not False for line in self.lines)


def limits_of(constraints: str, statement: str, given: Sequence[Call]) -> Limits:
    """constraints: one a line; given: calls that keep to them."""
    columns = tuple(
        (part.strip(), name, place)
        for name, parts in _TUPLES.findall(statement)
        for place, part in enumerate(parts.split(","))
    )
    read = [list(read_line(text)) for text in constraints.splitlines() if text.strip()]
    lines = tuple(line for held in read for line in held)
    named = [_names(call, columns, lines) for call in given]
    understood = [[_is_understood(line, names, columns) for line in held for names in named] for held in read]
    return Limits(
        lines=tuple(line for line in lines if _counts(line, named, columns)),
        columns=columns,
        is_whole=bool(read) and not may_say_more(statement) and all(answers and all(answers) for answers in understood),
    )


def _is_understood(line: Line, names: dict[str, Values], columns: Sequence[tuple[str, str, int]]) -> bool:
    """A given call may break the upper end of a range whose power was misread, and nothing else."""
    holds = _holds(line, names, columns)
    return holds is True or (holds is False and line.sign in ("<=", "<") and _number(line.right) is not None)


def _counts(line: Line, named: Sequence[dict[str, Values]], columns: Sequence[tuple[str, str, int]]) -> bool:
    answers = [_holds(line, names, columns) for names in named]
    return False not in answers and True in answers


def _names(call: Call, columns: Sequence[tuple[str, str, int]], lines: Sequence[Line]) -> dict[str, Values]:
    """What each name stands for: the arguments, parts of their items, and what a line defines."""
    names: dict[str, Values] = {name: [value] for name, value in call.kwargs}
    lists = [value for value in (*call.args, *names.values()) if isinstance(value, list)]
    if "Node.val" not in names and len(names) + len(call.args) and lists:
        held = [v for value in lists for v in (value[0] if len(value) == 1 and isinstance(value[0], list) else value)]
        plain = [item for item in held if type(item) is int]
        names |= {"Node.val": plain, "Node.count": [len(plain)]}
    for part, name, place in columns:
        rows = names.get(name, [None])[0]
        if isinstance(rows, list) and all(isinstance(row, list) and len(row) > place for row in rows):
            names.setdefault(part, [row[place] for row in rows])
    for line in lines:
        for one, other in ((line.left, line.right), (line.right, line.left)):
            if line.sign == "==" and one.isidentifier() and one not in names:
                try:
                    found = _values(other, names)
                except _UnknownError:
                    continue
                if found and all(value == found[0] for value in found):
                    names[one] = found[:1]
    return names


def _holds(line: Line, names: dict[str, Values], columns: Sequence[tuple[str, str, int]]) -> bool | None:
    """None where it can't be said."""
    of = {part: name for part, name, _ in columns}
    try:
        if line.sign == "in":
            return set(map(repr, _values(line.left, names))) <= set(map(repr, ast.literal_eval(line.right)))
        if line.sign == "of":
            return all(set(text) <= set(line.right) for value in _values(line.left, names) for text in _texts(value))
        if line.sign == "same":
            return len(set(map(repr, _values(line.left, names)))) <= 1
        if line.sign == "mirrored":
            return all(list(map(list, zip(*value, strict=True))) == value for value in _lists(line.left, names))
        if line.sign == "tree":
            return all(_is_acyclic(value) for value in _lists(line.left, names))
        if line.sign == "unique":
            return all(len(set(map(repr, value))) == len(value) for value in _lists(line.left, names))
        left, right = _values(line.left, names), _values(line.right, names)
        if line.left in of and of[line.left] == of.get(line.right):  # two parts of each item
            return all(map(_COMPARED[line.sign], left, right))
        if len(left) > 1 and len(right) > 1:
            return None
        return all(_COMPARED[line.sign](one, other) for one, other in itertools.product(left, right))
    except (_UnknownError, TypeError, ValueError, SyntaxError, ArithmeticError, MemoryError, RecursionError):
        return None


def _values(source: str, names: dict[str, Values]) -> Values:
    try:
        tree = parse_expression(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _UnknownError(source) from None
    try:
        return _of(tree, names)
    except (ArithmeticError, RecursionError):
        raise _UnknownError(source) from None


def _of(node: ast.expr, names: dict[str, Values]) -> Values:
    match node:
        case ast.Constant(value=int() | float()):
            return [node.value]
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.Attribute(value=ast.Name(id="Node"), attr=attr) if f"Node.{attr}" in names:
            return names[f"Node.{attr}"]
        case ast.Attribute(value=inner, attr="length" | "size"):
            return [len(value) for value in _sized(_of(inner, names))]
        case ast.Subscript(value=inner, slice=ast.Constant(value=int() as place)):
            return [value[place] for value in _sized(_of(inner, names)) if len(value) > place]
        case ast.Subscript(value=ast.Subscript(slice=ast.Name(id=one)), slice=ast.Name(id=other)) if one == other:
            raise _UnknownError("a diagonal")
        case ast.Subscript(value=inner):
            return [item for value in _sized(_of(inner, names)) for item in value]
        case ast.Call(func=ast.Name(id="sum"), args=[inner]):
            return [sum(_numbers(list(value))) for value in _sized(_of(inner, names))]
        case ast.Call(func=ast.Name(id="min" | "max" as name), args=[one, other]):
            pairs = _pairs(_of(one, names), _of(other, names))
            return [(min if name == "min" else max)(pair) for pair in pairs]
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return [-value for value in _numbers(_of(inner, names))]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            pairs = _pairs(_of(left, names), _of(right, names))
            return [_ARITHMETIC[type(op)](one, other) for one, other in pairs]
    raise _UnknownError(ast.unparse(node))


def _is_acyclic(edges: Any) -> bool:
    """Whether no edge joins what earlier ones have joined: with one edge less than nodes, a tree.

    Raises _UnknownError for what are no pairs.
    """
    above: dict[Any, Any] = {}

    def top(node: Any) -> Any:
        while node in above:
            node = above[node]
        return node

    for edge in edges:
        if not isinstance(edge, list) or len(edge) < 2:
            raise _UnknownError("no edge")
        one, other = top(edge[0]), top(edge[1])
        if one == other:
            return False
        above[one] = other
    return True


def _texts(value: Any) -> Iterator[str]:
    """The texts in lists of them. Raises _UnknownError for anything else."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    else:
        raise _UnknownError("no text")


def _lists(name: str, names: dict[str, Values]) -> Values:
    values = [names[name]] if name == "Node.val" and name in names else _values(name, names)
    if not all(isinstance(value, list) for value in values):
        raise _UnknownError("no list")
    return values


def _number(source: str) -> int | None:
    try:
        (value,) = _values(source, {})
    except (_UnknownError, ValueError):
        return None
    return value if type(value) is int else None


def _sized(values: Values) -> Values:
    if not all(isinstance(value, str | list | tuple) for value in values):
        raise _UnknownError("no list")
    return values


def _pairs(left: Values, right: Values) -> Iterator[tuple[Any, Any]]:
    """Each number of the left with each of the right. Raises _UnknownError for more than can be gone through."""
    if len(left) * len(right) > MAX_VALUES:
        raise _UnknownError("too many values")
    return itertools.product(_numbers(left), _numbers(right))


def _numbers(values: Values) -> Values:
    if not all(type(value) in (int, float) for value in values):
        raise _UnknownError("no number")
    return values
