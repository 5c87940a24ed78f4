"""The share of a program that is data written as code: tables, long strings and bytes, wherever in it they are.

A table is a literal container (also the arguments of a call at module level) or a single constant of many lines. Only
those of MIN_LINES count, and only where they amount to much together; docstrings and containers that hold code rather
than values do not count. Statements that say the same of other values again and again (`rows.append((1, 2))`,
`rows[1] = 2`) are a table as well.
"""

import ast
from collections.abc import Iterator

MIN_LINES = 20
MIN_TOTAL_LINES = 100
"""Tables of fewer lines together are never too much."""
MIN_VALUES_SHARE = 0.5
"""Share of constants among the leaves of a container, from which on it is a table."""
MIN_REPEATS = 50
"""Statements of one form in a row, from which on they are a table."""
_Container = ast.Dict | ast.List | ast.Tuple | ast.Set
_Block = ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def table_share(tree: ast.Module, num_lines: int) -> float:
    """Share of the lines that are tables; 0 where they are few. num_lines: of the whole text."""
    if num_lines < MIN_TOTAL_LINES:
        return 0.0
    lines: set[int] = set()
    for first, last in _tables(tree):
        lines.update(range(first, last + 1))
    return len(lines) / max(1, num_lines) if len(lines) >= MIN_TOTAL_LINES else 0.0


def table_share_of(text: str) -> float:
    """The same of a piece of source text. Raises what parsing raises."""
    num_lines = text.count("\n")
    return table_share(ast.parse(text), num_lines) if num_lines >= MIN_TOTAL_LINES else 0.0


def _tables(tree: ast.Module) -> Iterator[tuple[int, int]]:
    """First and last line of each outermost table."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.expr) and _num_lines(node) >= MIN_LINES and _is_table(node):
            yield node.lineno, node.end_lineno or node.lineno
            continue
        body = getattr(node, "body", None)
        if isinstance(body, list) and len(body) >= MIN_REPEATS:
            yield from _repeated(body)
        docstring = body[0] if isinstance(node, _Block) and body and _is_string(body[0]) else None
        if (
            isinstance(node, ast.stmt | ast.ExceptHandler)
            or not hasattr(node, "lineno")  # a module, the arguments of a function, what `with` opens
            or _num_lines(node) >= MIN_LINES
        ):
            waiting += [child for child in ast.iter_child_nodes(node) if child is not docstring]


def _is_table(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return True
    if not isinstance(node, _Container):
        return False
    values = leaves = 0
    waiting: list[ast.AST] = [node]
    while waiting:
        part = waiting.pop()
        if isinstance(part, _Container | ast.Call | ast.keyword | ast.UnaryOp | ast.BinOp):
            waiting += ast.iter_child_nodes(part)
        elif isinstance(part, ast.expr):
            leaves += 1
            values += isinstance(part, ast.Constant)
    return values >= MIN_VALUES_SHARE * leaves


def _repeated(body: list[ast.stmt]) -> Iterator[tuple[int, int]]:
    """Runs of statements that call the same function with constants, or fill the same container with them."""
    start, called = 0, ""
    for place in range(len(body) + 1):
        current = _called(body[place]) if place < len(body) else ""
        if current and current == called:
            continue
        if called and place - start >= MIN_REPEATS:
            yield body[start].lineno, body[place - 1].end_lineno or body[place - 1].lineno
        start, called = place, current


def _called(node: ast.stmt) -> str:
    """What a statement calls or fills, if it does so with constants alone; empty for other statements."""
    value = node.value if isinstance(node, ast.Expr | ast.Assign) else None
    target = node.targets[0] if isinstance(node, ast.Assign) else None
    if isinstance(target, ast.Subscript) and value is not None and _is_plain(target.slice) and _is_plain(value):
        return f"{ast.unparse(target.value)}[]"
    if isinstance(value, ast.Call) and value.args and all(map(_is_plain, value.args)):
        return ast.unparse(value.func)
    return ""


def _is_plain(node: ast.expr) -> bool:
    return all(
        isinstance(part, _Container | ast.Constant | ast.UnaryOp | ast.unaryop | ast.expr_context)
        for part in ast.walk(node)
    )


def _is_string(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _num_lines(node: ast.AST) -> int:
    return (getattr(node, "end_lineno", None) or 0) - getattr(node, "lineno", 0) + 1
