"""An expression that its author says is true, and the one call of a function in it."""

import ast
import copy
from typing import Any

from app.corpus.mining.literals import NotLiteralError, value_of, written
from app.corpus.mining.records import Call

HARMLESS_IN_CLAIMS = frozenset(
    "abs all any bool bytes dict enumerate float frozenset int isinstance len list max min repr reversed round set "
    "sorted str sum tuple type zip".split()
)
Names = dict[str, Any]
"""Values of local names."""


def last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


class _Renamed(ast.NodeTransformer):
    def __init__(self, old: str, new: str) -> None:
        self._old, self._new = old, new

    def visit_Call(self, node: ast.Call) -> ast.Call:  # noqa: N802
        self.generic_visit(node)
        if last_name(node.func) == self._old and _is_path(node.func):
            return ast.Call(ast.Name(self._new, ast.Load()), node.args, node.keywords)
        return node


def _is_path(node: ast.expr) -> bool:
    """Whether an expression is a name, or names joined by dots."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name)


def with_plain_calls(expression: ast.expr, name: str, new_name: str = "") -> ast.expr:
    """The expression with pkg.name(...) written as name(...)."""
    changed: ast.expr = _Renamed(name, new_name or name).visit(copy.deepcopy(expression))
    return changed


def call_in(claim: ast.expr, name: str, names: Names, *, from_docstring: bool = False) -> Call | None:
    """The one call of the function in an expression; the claim is kept when it is made of plain values otherwise."""
    calls = [
        n for n in ast.walk(claim) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == name
    ]
    if len(calls) != 1 or any(keyword.arg is None for keyword in calls[0].keywords):
        return None
    try:
        args = tuple(value_of(argument, names) for argument in calls[0].args)
        kwargs = tuple((str(word.arg), value_of(word.value, names)) for word in calls[0].keywords)
        for value in (*args, *(value for _, value in kwargs)):
            written(value)
    except NotLiteralError:
        return None
    text = ""
    if free_names(claim) <= {name, *names, *HARMLESS_IN_CLAIMS}:
        try:
            text = ast.unparse(_Inlined(names).visit(claim))
        except ValueError:  # a value that can't be written, or not into an f-string
            text = ""
    return Call(args=args, kwargs=kwargs, claim=text, from_docstring=from_docstring)


class _Inlined(ast.NodeTransformer):
    """The transformer that replaces local names by their values."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def visit_Name(self, node: ast.Name) -> ast.expr:  # noqa: N802
        if isinstance(node.ctx, ast.Load) and node.id in self._names:
            return ast.parse(written(self._names[node.id]), mode="eval").body
        return node


def free_names(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
