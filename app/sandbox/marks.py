"""Mark the source of tests, so that what happens at its assertions is told to an `evidence.Evidence`.

Calls are written into the text around what is there; not even a line number changes:

    assert f(1) == 2                   assert __assertion__(0, (f(1) == 2))
    self.assertEqual(f(1), 2)          __came_back__(0, __began__(0), (self.assertEqual(f(1), 2)), False)
    with self.assertRaises(KeyError):  with __context__(0, (self.assertRaises(KeyError)), True, 0):
    raise AssertionError("no error")   raise __failing__((AssertionError("no error")))
    except ValueError as error:        except __caught__((ValueError), 12, True, False) as error:
    finally: return                    finally: __leaving__(12); return
    if f(1) != 2: raise Exception()    if __branch__(0, (f(1) != 2), False): raise Exception()

The last form counts only in tests that hold none of the first three. Used by the supervisor; `evidence` has what the
names mean.
"""

import ast
import functools
from collections.abc import Iterator, Sequence
from typing import Any

from app.files.python_source import parse

_BROAD = {"Exception", "BaseException"}
_LEAVES = (ast.Constant, ast.expr_context, ast.operator, ast.cmpop, ast.unaryop, ast.boolop)
_Inserted = tuple[int, int, str]
"""Line, column in bytes, text."""


class BrokenTestsError(ValueError):
    """Tests that can't be read, or can't tell a right program from a wrong one; no program is to blame."""


class Nodes(dict[type[ast.AST], list[Any]]):
    """The nodes of tests by their kind, without constants, operators and contexts. Not to be changed."""

    def of(self, *kinds: type[ast.AST]) -> list[Any]:
        return [node for kind in kinds for node in self.get(kind, ())]


@functools.lru_cache(maxsize=4)
def read_tests(tests: str) -> Nodes:
    """Raises BrokenTestsError for what does not compile."""
    try:
        todo: list[ast.AST] = [parse(tests)]
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise BrokenTestsError(f"the tests don't compile: {error}") from None
    nodes = Nodes()
    for node in todo:  # grows on the way; faster than ast.walk, and most nodes of tests are constants
        nodes.setdefault(type(node), []).append(node)
        for field in node._fields:
            value = getattr(node, field, None)
            if isinstance(value, list):
                todo += [item for item in value if isinstance(item, ast.AST) and not isinstance(item, _LEAVES)]
            elif isinstance(value, ast.AST) and not isinstance(value, _LEAVES):
                todo.append(value)
    return nodes


@functools.lru_cache(maxsize=64)
def mark_assertions(tests: str) -> tuple[str, int]:
    """The marked source, and in how many places of it an assertion can hold. Raises BrokenTestsError."""
    nodes = read_tests(tests)
    inserted: list[_Inserted] = []
    count = 0
    for node in nodes.of(ast.Assert, ast.Expr, ast.With):
        for expression, before, after in _assertions(node):
            inserted += _around(expression, before.replace("#", str(count)), after)
            count += 1
    if not count:
        for node in filter(_is_raised_in, nodes.of(ast.If)):
            on_false = any(isinstance(inner, ast.Raise) for inner in node.orelse)
            inserted += _around(node.test, f"__branch__({count}, (", f"), {on_false})")
            count += 1
    for node in nodes.of(ast.Try, ast.TryStar):
        inserted += (*_handlers(node), *_departures(node))
    for node in nodes.of(ast.With):
        inserted += _suppressions(node)
    for node in nodes.of(ast.Raise):
        if node.exc is not None and _name(node.exc) == "AssertionError":
            inserted += _around(node.exc, "__failing__((", "))")
    lines = tests.encode().splitlines(keepends=True)
    for line, column, text in sorted(inserted, reverse=True):
        whole = lines[line - 1]
        lines[line - 1] = whole[:column] + text.encode() + whole[column:]
    return b"".join(lines).decode(), count


def _assertions(node: ast.AST) -> Iterator[tuple[ast.expr, str, str]]:
    """Expressions of this statement that are assertions, and what to write around them; # is its number."""
    if isinstance(node, ast.Assert):
        yield node.test, "__assertion__(#, (", "))"
    elif isinstance(node, ast.Expr) and _is_assertion(node):
        catches = "raises" in _name(node.value).lower()
        yield node.value, "__came_back__(#, __began__(#), (", f"), {catches})"
    elif isinstance(node, ast.With):
        for item in filter(_expects, node.items):
            yield item.context_expr, "__context__(#, (", f"), {not _is_broad(item)}, 0)"


def _handlers(node: ast.Try | ast.TryStar) -> Iterator[_Inserted]:
    last = _last_assertion(node.body)
    guarded = any(map(_always_fails, (*node.body, *node.orelse)))
    for handler in node.handlers:
        asserts = any(isinstance(inner, ast.Raise) or _is_assertion(inner) for inner in _within(handler.body))
        facts = f"{0 if asserts else last}, {guarded}, {asserts}"
        if handler.type is not None:
            yield from _around(handler.type, "__caught__((", f"), {facts})")
        else:
            yield handler.lineno, handler.col_offset + len("except"), f" __caught__(BaseException, {facts})"


def _suppressions(node: ast.With) -> Iterator[_Inserted]:
    """A context manager may swallow what is raised in it. `suppress(ValueError)` names what it accepts."""
    last = _last_assertion(node.body)
    for item in node.items:
        is_narrow = _name(item.context_expr) == "suppress" and not _is_broad(item)
        if not _expects(item):
            yield from _around(item.context_expr, "__context__(-1, (", f"), False, {0 if is_narrow else last})")


def _departures(node: ast.Try | ast.TryStar) -> Iterator[_Inserted]:
    """`return`, `break` and `continue` in a `finally` swallow what is raised, too."""
    last = _last_assertion(node.body)
    for inner in _within(node.finalbody):
        if isinstance(inner, ast.Return | ast.Break | ast.Continue):
            yield inner.lineno, inner.col_offset, f"__leaving__({last}); "


def _around(node: ast.expr, before: str, after: str) -> tuple[_Inserted, _Inserted]:
    return (node.lineno, node.col_offset, before), (node.end_lineno or 0, node.end_col_offset or 0, after)


def _last_assertion(body: Sequence[ast.stmt]) -> int:
    """The line on which the last assertion about an answer ends; 0 without one."""
    lines = [
        getattr(node, "end_lineno", 0)
        for node in _within(body)
        if _is_assertion(node) and not _always_fails(node) or isinstance(node, ast.If) and _is_raised_in(node)
    ]
    return max(lines, default=0)


def _within(body: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """What runs when the body runs: not what is inside of functions and classes defined there."""
    for node in body:
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield from _within(list(ast.iter_child_nodes(node)))


def _is_assertion(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Call) and _name(node.value).startswith("assert")
    return isinstance(node, ast.Assert) or (isinstance(node, ast.With) and any(map(_expects, node.items)))


def _expects(item: ast.withitem) -> bool:
    """Whether it is `assertRaises(...)`, `raises(...)` and the like, which fail when nothing is raised."""
    name = _name(item.context_expr)
    return isinstance(item.context_expr, ast.Call) and (name.startswith("assert") or name in ("raises", "warns"))


def _always_fails(node: ast.AST) -> bool:
    """Whether it says that this place must not be reached."""
    if isinstance(node, ast.Assert):
        return isinstance(node.test, ast.Constant) and not node.test.value
    called = node.value if isinstance(node, ast.Expr) else None
    return isinstance(node, ast.Raise) or (isinstance(called, ast.Call) and _name(called) == "fail")


def _is_raised_in(node: ast.If) -> bool:
    return any(isinstance(inner, ast.Raise) for inner in (*node.body, *node.orelse))


def _is_broad(item: ast.withitem) -> bool:
    return any(isinstance(node, ast.Name) and node.id in _BROAD for node in ast.walk(item.context_expr))


def _name(node: ast.expr) -> str:
    """The last name of what is called or used: assertEqual of self.assertEqual(1, 1)."""
    if isinstance(node, ast.Call):
        node = node.func
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
