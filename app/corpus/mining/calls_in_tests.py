"""Calls of a distribution's functions in its own tests: assertions on plain data in straight code, loops over tables
and parametrised tests."""

import ast
import contextlib
import itertools
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

from app.corpus.mining.claims import Names, call_in, last_name, with_plain_calls
from app.corpus.mining.literals import NotLiteralError, value_of
from app.corpus.mining.records import Call

MAX_ROWS = 40
"""Of a parametrised test or a loop over a table."""
_TEST_FOLDERS = ("test", "tests", "testing", "unittests")
_EQUAL = frozenset(
    "assertEqual assertEquals assert_equal eq_ eq equal assertListEqual assertTupleEqual assertDictEqual "
    "assertSetEqual assertSequenceEqual assertAlmostEqual assertMultiLineEqual assertCountEqual assertIs".split()
)
_TRUE, _FALSE, _NONE = ("assertTrue", "assert_", "ok_"), ("assertFalse",), ("assertIsNone",)


def is_test(path: str) -> bool:
    """Whether a file of a distribution holds its tests."""
    place = PurePosixPath(path)
    name = place.name
    return (
        any(part in _TEST_FOLDERS for part in place.parts[:-1])
        or name.startswith("test_")
        or name.endswith(("_test.py", "_tests.py"))
        or name in ("tests.py", "test.py", "conftest.py")
    )


def from_tests(tree: ast.Module) -> Iterator[tuple[str, str, Call]]:
    """(module or "", function, call) for calls of imported functions in a test file's assertions."""
    imported: dict[str, tuple[str, str]] = {}
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                imported[alias.asname or alias.name] = (node.module or "", alias.name)
                modules[alias.asname or alias.name] = f"{node.module}.{alias.name}" if node.module else alias.name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                modules[alias.asname or alias.name] = alias.name
    constants = _constants(tree.body)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            for names in _parametrised(node, constants):
                yield from _block(node.body, names, imported, modules)


def _constants(body: list[ast.stmt]) -> Names:
    names: Names = {}
    for node in body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            try:
                names[node.targets[0].id] = _table(node.value, names)
            except NotLiteralError:
                names.pop(node.targets[0].id, None)
    return names


def _table(node: ast.expr, names: Names) -> Any:
    """A value, of which a list may be as long as a table of cases."""
    if isinstance(node, ast.List | ast.Tuple):
        items = [value_of(item, names) for item in node.elts[:MAX_ROWS]]
        return items if isinstance(node, ast.List) else tuple(items)
    return value_of(node, names)


def _parametrised(node: ast.FunctionDef, constants: Names) -> Iterator[Names]:
    """The local names of each case of a test."""
    marks = [
        mark for mark in node.decorator_list if isinstance(mark, ast.Call) and last_name(mark.func) == "parametrize"
    ]
    if not marks:
        yield dict(constants)
        return
    cases: list[list[Names]] = []
    for mark in marks:
        if len(mark.args) < 2:
            return
        try:
            parameters = value_of(mark.args[0], {})
        except NotLiteralError:
            return
        keys = parameters.replace(",", " ").split() if isinstance(parameters, str) else list(parameters)
        cases.append(list(_rows(keys, mark.args[1], constants)))
    for combination in itertools.islice(itertools.product(*cases), MAX_ROWS):
        names = dict(constants)
        for part in combination:
            names |= part
        yield names


def _rows(keys: list[str], table: ast.expr, names: Names) -> Iterator[Names]:
    if isinstance(table, ast.Name) and isinstance(names.get(table.id), list | tuple):
        rows: Iterable[Any] = names[table.id]
    elif isinstance(table, ast.List | ast.Tuple):
        rows = table.elts[:MAX_ROWS]
    else:
        return
    for row in rows:
        try:
            if isinstance(row, ast.Call) and last_name(row.func) == "param":
                value: Any = tuple(value_of(argument, names) for argument in row.args)
                value = value[0] if len(keys) == 1 and len(value) == 1 else value
            else:
                value = value_of(row, names) if isinstance(row, ast.expr) else row
        except NotLiteralError:
            continue
        if len(keys) == 1:
            yield {keys[0]: value}
        elif isinstance(value, list | tuple) and len(value) == len(keys):
            yield dict(zip(keys, value, strict=True))


def _block(
    body: list[ast.stmt], names: Names, imported: dict[str, tuple[str, str]], modules: dict[str, str]
) -> Iterator[tuple[str, str, Call]]:
    """Assertions of straight code, of `with` blocks (subTest) and of loops over tables."""
    for node in body:
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            names |= _assigned(node, names)
            for target in ast.walk(node):
                if isinstance(target, ast.Name) and isinstance(target.ctx, ast.Store) and target.id not in names:
                    names.pop(target.id, None)
        elif isinstance(node, ast.With):
            yield from _block(node.body, names, imported, modules)
        elif isinstance(node, ast.For):
            keys = [
                last_name(item) for item in (node.target.elts if isinstance(node.target, ast.Tuple) else [node.target])
            ]
            for row in _rows(keys, node.iter, names):
                yield from _block(node.body, names | row, imported, modules)
        else:
            claim = _asserted(node)
            if claim is not None:
                yield from _called(claim, names, imported, modules)


def _assigned(node: ast.Assign | ast.AugAssign | ast.AnnAssign, names: Names) -> Names:
    """The new value of a name; names that got an unknown one are forgotten."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    found: Names = {}
    for target in targets:
        for part in ast.walk(target):
            if isinstance(part, ast.Name):
                names.pop(part.id, None)
    if isinstance(node, ast.Assign) and len(targets) == 1 and isinstance(targets[0], ast.Name):
        with contextlib.suppress(NotLiteralError):
            found[targets[0].id] = _table(node.value, names)
    return found


def _asserted(node: ast.stmt) -> ast.expr | None:
    """What an assertion says is true, as an expression."""
    if isinstance(node, ast.Assert):
        return node.test
    if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        return None
    call = node.value
    kind = last_name(call.func)
    if kind in _EQUAL and len(call.args) >= 2:
        return ast.Compare(call.args[0], [ast.Eq()], [call.args[1]])
    if kind in _TRUE and call.args:
        return call.args[0]
    if kind in _FALSE and call.args:
        return ast.UnaryOp(ast.Not(), call.args[0])
    if kind in _NONE and call.args:
        return ast.Compare(call.args[0], [ast.Is()], [ast.Constant(None)])
    return None


def _called(
    claim: ast.expr, names: Names, imported: dict[str, tuple[str, str]], modules: dict[str, str]
) -> Iterator[tuple[str, str, Call]]:
    for node in ast.walk(claim):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id in imported:
            module, name = imported[node.func.id]
        elif isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) in modules:
            module, name = modules[ast.unparse(node.func.value)], node.func.attr
        else:
            continue
        renamed = with_plain_calls(claim, last_name(node.func), name)
        if (call := call_in(renamed, name, names)) is not None:
            yield module, name, call
