"""Calls of a distribution's functions on plain data in its own tests: in straight code, loops over tables and
parametrised tests."""

import ast
import contextlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from app.corpus.mining.asserted_calls import Names, call_in, last_name, with_plain_calls
from app.corpus.mining.literals import NotLiteralError, value_of
from app.corpus.mining.records import Call

MAX_ROWS = 40
"""Rows taken of a parametrised test, or of a loop over a table."""
_TEST_FOLDERS = ("test", "tests", "testing", "unittests")
_EQUAL = frozenset(
    "assertEqual assertEquals assert_equal eq_ eq equal assertListEqual assertTupleEqual assertDictEqual "
    "assertSetEqual assertSequenceEqual assertAlmostEqual assertMultiLineEqual assertCountEqual assertIs".split()
)
_TRUE, _FALSE, _NONE = ("assertTrue", "assert_", "ok_"), ("assertFalse",), ("assertIsNone",)


def is_test(path: str) -> bool:
    """Whether a file of a distribution holds its tests."""
    place = PurePosixPath(path.replace("\\", "/"))
    name = place.name
    return (
        any(part in _TEST_FOLDERS for part in place.parts[:-1])
        or name.startswith("test_")
        or name.endswith(("_test.py", "_tests.py"))
        or name in ("tests.py", "test.py", "conftest.py")
    )


@dataclass(slots=True)
class _Imports:
    """What a test file's names stand for."""

    functions: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Name -> module or "", and the function's own name."""
    modules: dict[str, str] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)
    """Modules of which all names are imported."""

    def add(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            name = alias.asname or alias.name
            if isinstance(node, ast.Import):
                self.modules[name] = alias.name
            elif alias.name == "*":
                self.stars.append(node.module or "")
            else:
                self.functions[name] = (node.module or "", alias.name)
                self.modules[name] = f"{node.module}.{alias.name}" if node.module else alias.name

    def targets(self, func: ast.expr) -> list[tuple[str, str]]:
        """Module and name of the functions that a call may mean."""
        if isinstance(func, ast.Name):
            return [self.functions[func.id]] if func.id in self.functions else [(m, func.id) for m in self.stars]
        if isinstance(func, ast.Attribute) and (module := self.modules.get(ast.unparse(func.value))) is not None:
            return [(module, func.attr)]
        return []


def from_tests(tree: ast.Module) -> Iterator[tuple[str, str, Call]]:
    """Tuples (module or "", function, call) for calls of imported functions in a test file, with what an assertion
    claims."""
    imports = _Imports()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports.add(node)
    constants = _constants(tree.body)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            for names in _parametrised(node, constants):
                yield from _block(node.body, names, imports)


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


def _block(body: list[ast.stmt], names: Names, imports: _Imports) -> Iterator[tuple[str, str, Call]]:
    """The calls of straight code, of `with` blocks (subTest) and of loops over tables."""
    for node in body:
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            if node.value is not None:
                yield from _called(node.value, names, imports)
            names |= _assigned(node, names)
        elif isinstance(node, ast.With):
            yield from _block(node.body, names, imports)
        elif isinstance(node, ast.For):
            targets = node.target.elts if isinstance(node.target, ast.Tuple) else [node.target]
            for row in _rows([last_name(target) for target in targets], node.iter, names):
                yield from _block(node.body, names | row, imports)
        else:
            claim = _asserted(node)
            yield from _called(node if claim is None else claim, names, imports, claimed=claim is not None)


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
    part: ast.AST, names: Names, imports: _Imports, *, claimed: bool = False
) -> Iterator[tuple[str, str, Call]]:
    """The calls in an expression, which is claimed to be true, or in a statement."""
    for node in ast.walk(part):
        if not isinstance(node, ast.Call):
            continue
        for module, name in imports.targets(node.func):
            call = None
            if claimed and isinstance(part, ast.expr):
                call = call_in(with_plain_calls(part, last_name(node.func), name), name, names)
            if call is None and (call := call_in(with_plain_calls(node, last_name(node.func), name), name, names)):
                call = replace(call, claim="")
            if call is not None:
                yield module, name, call
