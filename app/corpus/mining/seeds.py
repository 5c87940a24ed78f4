"""Calls of a function that somebody wrote down: in its docstring's examples, and in the tests of its distribution."""

import ast
import contextlib
import doctest
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from app.corpus.mining.literals import NotLiteralError, value_of, written
from app.corpus.mining.records import Call

MAX_CALLS = 24
"""Kept of one function, in the order of the files."""
MAX_ROWS = 40
"""Of a parametrised test or a loop over a table."""
_TEST_FOLDERS = ("test", "tests", "testing", "unittests")
_EQUAL = frozenset(
    "assertEqual assertEquals assert_equal eq_ eq equal assertListEqual assertTupleEqual assertDictEqual "
    "assertSetEqual assertSequenceEqual assertAlmostEqual assertMultiLineEqual assertCountEqual assertIs".split()
)
_TRUE, _FALSE, _NONE = ("assertTrue", "assert_", "ok_"), ("assertFalse",), ("assertIsNone",)
_PARSER = doctest.DocTestParser()
Names = dict[str, Any]


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


def dotted(path: str) -> str:
    """A file's path as a module's name: "src/pkg/__init__.py" is "src.pkg"."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@dataclass(slots=True)
class Examples:
    """What a docstring's examples give."""

    calls: list[Call] = field(default_factory=list)
    lines_to_drop: set[int] = field(default_factory=set)
    """Lines of the docstring with examples that need something from elsewhere."""
    lines: set[int] = field(default_factory=set)
    """Lines of all examples."""


def from_docstring(name: str, docstring: str) -> Examples:
    found = Examples()
    try:
        examples = _PARSER.get_examples(docstring)
    except ValueError:  # inconsistent indentation
        found.lines = {n for n, line in enumerate(docstring.split("\n")) if line.lstrip().startswith(">>>")}
        return found
    names: Names = {}
    for example in examples:
        span = example.source.count("\n") + example.want.count("\n")
        lines = set(range(example.lineno, example.lineno + span))
        found.lines |= lines
        if not _take(example, name, names, found):
            found.lines_to_drop |= lines
    return found


def _take(example: doctest.Example, name: str, names: Names, found: Examples) -> bool:
    """Whether the example stays in the docstring; adds its call."""
    try:
        (statement,) = ast.parse(example.source).body
    except (SyntaxError, ValueError):
        return False
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1 and not example.want:
        target = statement.targets[0]
        if isinstance(target, ast.Name):
            names.pop(target.id, None)
            try:
                names[target.id] = value_of(statement.value, names)
                return True
            except NotLiteralError:
                return False
    if not isinstance(statement, ast.Expr):
        return False
    expression = _plain_call(statement.value, name)
    if doctest.SKIP in example.options or example.exc_msg is not None:
        return example.exc_msg is not None and _free_names(expression) <= {name, *names, *_HARMLESS_IN_CLAIMS}
    claim = _claim(expression, example.want, name)
    if claim is None:
        return False
    call = _call(claim, name, names, from_docstring=True)
    if call is not None:
        found.calls.append(call)
    return call is not None


def _claim(expression: ast.expr, want: str, name: str) -> ast.expr | None:
    """The example as one expression that should be true."""
    want = want.strip()
    if isinstance(expression, ast.Call) and isinstance(expression.func, ast.Name) and expression.func.id == "print":
        if len(expression.args) != 1 or expression.keywords or "<BLANKLINE>" in want:
            return None
        shown = ast.Call(ast.Name("str", ast.Load()), expression.args, [])
        return ast.Compare(shown, [ast.Eq()], [ast.Constant(want)])
    if not want:
        want = "None"
    try:
        expected = ast.parse(want, mode="eval").body
        value_of(expected, {})
    except (SyntaxError, ValueError):
        return None
    return ast.Compare(expression, [ast.Eq()], [expected])


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
    marks = [mark for mark in node.decorator_list if isinstance(mark, ast.Call) and _last(mark.func) == "parametrize"]
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
            if isinstance(row, ast.Call) and _last(row.func) == "param":
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


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


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
            keys = [_last(item) for item in (node.target.elts if isinstance(node.target, ast.Tuple) else [node.target])]
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
    kind = _last(call.func)
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
        renamed = _plain_call(claim, _last(node.func), name)
        if (call := _call(renamed, name, names)) is not None:
            yield module, name, call


class _Renamed(ast.NodeTransformer):
    def __init__(self, old: str, new: str) -> None:
        self._old, self._new = old, new

    def visit_Call(self, node: ast.Call) -> ast.Call:  # noqa: N802
        self.generic_visit(node)
        if _last(node.func) == self._old and _is_path(node.func):
            return ast.Call(ast.Name(self._new, ast.Load()), node.args, node.keywords)
        return node


def _is_path(node: ast.expr) -> bool:
    """A name, or names joined by dots."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name)


def _plain_call(expression: ast.expr, name: str, new_name: str = "") -> ast.expr:
    """The expression with pkg.name(...) written as name(...)."""
    copied = ast.parse(ast.unparse(expression), mode="eval").body
    changed: ast.expr = _Renamed(name, new_name or name).visit(copied)
    return changed


def _call(claim: ast.expr, name: str, names: Names, *, from_docstring: bool = False) -> Call | None:
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
    if _free_names(claim) <= {name, *names, *_HARMLESS_IN_CLAIMS}:
        try:
            text = ast.unparse(_Inlined(names).visit(claim))
        except ValueError:  # a value that can't be written, or not into an f-string
            text = ""
    return Call(args=args, kwargs=kwargs, claim=text, from_docstring=from_docstring)


_HARMLESS_IN_CLAIMS = frozenset(
    "abs all any bool bytes dict enumerate float frozenset int isinstance len list max min repr reversed round set "
    "sorted str sum tuple type zip".split()
)


class _Inlined(ast.NodeTransformer):
    """Local names replaced by their values."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def visit_Name(self, node: ast.Name) -> ast.expr:  # noqa: N802
        if isinstance(node.ctx, ast.Load) and node.id in self._names:
            return ast.parse(written(self._names[node.id]), mode="eval").body
        return node


def _free_names(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
