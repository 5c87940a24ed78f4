"""Wrong versions of a right program: one small change each, made where the syntax tree says and as text.

The rest of the source stays as it is to the letter, so a mutant of prompt + solution still begins with the prompt.
Some mutants mean the same as the original; which are wrong is for a reference to say.
"""

import ast
from collections.abc import Iterator
from typing import Any

KINDS = ("wrong constant", "off by one", "returned None", "empty body", "swapped operator", "negated condition")
Function = ast.FunctionDef | ast.AsyncFunctionDef
_SHIFTED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
}
_SWAPPED: dict[type[ast.AST], Any] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


def mutants(source: str, entry_point: str) -> list[tuple[str, str]]:
    """Kind and source of each mutant, each kind in the order of the source. Only the body of an entry point at module
    level is emptied."""
    tree = ast.parse(source)
    entry = next((node for node in tree.body if isinstance(node, Function) and node.name == entry_point), None)
    body = [] if entry is None else entry.body[1:] if _is_text(entry.body[0]) else entry.body
    found = [("empty body", _replaced(source, body[0], body[-1], "pass"))] if body else []
    for node in _walk(tree):
        for kind, old, text in _changes(node):
            found.append((kind, _replaced(source, old, old, text)))
    distinct = dict.fromkeys(pair for pair in found if pair[1] != source)
    return sorted(distinct, key=lambda pair: KINDS.index(pair[0]))


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """Every node in order, without annotations, docstrings and f-strings, whose parts have no places of their own."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr) and not _is_text(child):
                yield from _walk(child)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _changes(node: ast.AST) -> Iterator[tuple[str, ast.expr | ast.stmt, str]]:
    """Kind, the node to replace, and the text to put there."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield "wrong constant", node, str(not node.value)
        elif isinstance(node.value, int):
            yield "wrong constant", node, f"({node.value + 1})"
        elif isinstance(node.value, str):
            yield "wrong constant", node, f"({node.value + '_'!r})"
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range" and node.args:
        yield "off by one", (stop := node.args[:2][-1]), f"({ast.unparse(stop)} + 1)"
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in _SHIFTED:
        ops = [_SHIFTED[type(node.ops[0])](), *node.ops[1:]]
        yield "off by one", node, f"({ast.unparse(ast.Compare(node.left, ops, node.comparators))})"
    elif isinstance(node, ast.Subscript):
        index = node.slice
        place = index.upper or index.lower if isinstance(index, ast.Slice) else index
        if place is not None and not isinstance(place, ast.JoinedStr | ast.Tuple):
            yield "off by one", place, f"({ast.unparse(place)} + 1)"
    elif isinstance(node, ast.Return) and node.value is not None:
        yield "returned None", node, "return None"
    elif isinstance(node, ast.BinOp) and type(node.op) in _SWAPPED:
        yield "swapped operator", node, f"({ast.unparse(ast.BinOp(node.left, _SWAPPED[type(node.op)](), node.right))})"
    elif isinstance(node, ast.BoolOp):
        yield "swapped operator", node, f"({ast.unparse(ast.BoolOp(_SWAPPED[type(node.op)](), node.values))})"
    elif isinstance(node, ast.AugAssign) and type(node.op) in _SWAPPED:
        yield "swapped operator", node, ast.unparse(ast.AugAssign(node.target, _SWAPPED[type(node.op)](), node.value))
    elif isinstance(node, ast.If | ast.While | ast.IfExp):
        yield "negated condition", node.test, f"(not ({ast.unparse(node.test)}))"
    elif isinstance(node, ast.comprehension) and node.ifs:
        yield "negated condition", node.ifs[0], f"(not ({ast.unparse(node.ifs[0])}))"


def _replaced(source: str, first: ast.expr | ast.stmt, last: ast.expr | ast.stmt, text: str) -> str:
    """The source with everything from the first node's start to the last one's end replaced. Columns are bytes."""
    lines = source.encode().splitlines(keepends=True)
    before = b"".join(lines[: first.lineno - 1]) + lines[first.lineno - 1][: first.col_offset]
    assert last.end_lineno is not None
    after = lines[last.end_lineno - 1][last.end_col_offset :] + b"".join(lines[last.end_lineno :])
    return (before + text.encode() + after).decode()
