"""Say, from a problem and its tests alone, whether the tests need the program's own objects.

Then program and tests have to share a process, where the program could forge the outcome (tier in_process).

Nothing that a program does may lead there: by being a class, or by answering something strange, it would choose how it
is judged. So a class as the entry point is recognised by what the tests do with what it returns (or by the statement,
which says `class NAME`), not by looking at the program.
"""

import ast
import datetime
import functools
import re
import types
from array import array
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from fractions import Fraction

from app.records import Problem, ProblemStyle
from app.sandbox.marks import Nodes, read_tests

_PLAIN: tuple[type, ...] = (
    object, bool, int, float, complex, str, bytes, bytearray, list, tuple, set, frozenset, dict, range, deque, Counter,
    OrderedDict, Decimal, Fraction, array, datetime.datetime, datetime.date, datetime.time, datetime.timedelta,
    type({}.keys()), type({}.items()), types.GeneratorType, BaseException,
)  # fmt: skip
_ATTRIBUTES = {name for kind in _PLAIN for name in dir(kind)} - {"__enter__", "__exit__", "__call__"}
"""Attributes of values that can cross from a program to its tests."""
_OF_FUNCTIONS = frozenset(dir(types.FunctionType))
_CAPITALISED = re.compile(r"[A-Z]\w*\Z")
_Binding = tuple[str, ast.expr | None]
_BINDING = (
    ast.Assign, ast.AnnAssign, ast.NamedExpr, ast.For, ast.comprehension, ast.AugAssign, ast.withitem, ast.arg,
    ast.alias, ast.ExceptHandler,
)  # fmt: skip


@functools.lru_cache(maxsize=64)
def needs_own_objects(problem: Problem) -> str:
    """Why, in words; empty where program and tests can, by their source, be kept apart.

    Raises BrokenTestsError.
    """
    uses = _Uses(read_tests(problem.tests), problem)
    strange = sorted(uses.attributes - _ATTRIBUTES)
    if strange:
        return f"the tests use .{strange[0]} of what the program returns, which no plain data has"
    if uses.as_object:
        return f"the tests {uses.as_object} what the program returns"
    if uses.of_entry:
        return f"the tests use {uses.of_entry} of the program itself, as of a class"
    if uses.given:
        return f"the tests give the program {uses.given}, which is no plain data"
    name = problem.entry_point
    if re.search(rf"^\s*class {re.escape(name)}\b", f"{problem.prelude}\n{problem.prompt}", re.MULTILINE):
        return f"the statement says that {name} is a class"
    if (uses.attributes or uses.is_operated_on or uses.is_kept) and _CAPITALISED.match(name):
        return f"{name} is named like a class, and the tests use what it returns like an object"
    return ""


class _Uses:
    """What tests do with the entry point and with what it returns."""

    def __init__(self, nodes: Nodes, problem: Problem) -> None:
        self._entries = {problem.entry_point} if problem.style == ProblemStyle.ASSERTIONS else set[str]()
        if problem.style == ProblemStyle.CHECK:
            checks = [node for node in nodes.of(ast.FunctionDef) if node.name == "check"]
            self._entries |= {check.args.args[0].arg for check in checks if check.args.args}
        bound = [binding for node in nodes.of(*_BINDING) for binding in _bindings(node)]
        self._answers = set[str]()
        _all_bound_to(bound, self._is_answer, self._answers)
        self._classes = {node.name for node in nodes.of(ast.ClassDef) if not node.bases}
        self._objects = {node.name for node in nodes.of(ast.FunctionDef, ast.AsyncFunctionDef)} | self._classes
        _all_bound_to(bound, self._is_object, self._objects)
        self.attributes: set[str] = {node.attr for node in nodes.of(ast.Attribute) if self._is_answer(node.value)}
        self.is_operated_on = any(map(self._is_operation, nodes.of(ast.BinOp, ast.Compare, ast.Call)))
        """As numbers are as well, and objects of a class with such methods."""
        self.is_kept = any(map(self._is_kept, nodes.of(ast.Assign)))
        """Whether what the entry point returned is kept as an attribute (`self.stack = Stack()`), to be used later."""
        self.as_object = ""
        self.of_entry = ""
        """Methods of a class, or that a class of the tests is derived from it."""
        self.given = ""
        for node in nodes.of(
            ast.Await, ast.With, ast.AsyncWith, ast.AsyncFor, ast.Call, ast.FunctionDef, ast.Attribute, ast.ClassDef
        ):
            self._look_at(node)

    def _look_at(self, node: ast.AST) -> None:
        if isinstance(node, ast.Await) and self._is_answer(node.value):
            self.as_object = "await"
        elif isinstance(node, ast.With | ast.AsyncWith) and any(self._is_answer(i.context_expr) for i in node.items):
            self.as_object = "enter"
        elif isinstance(node, ast.AsyncFor) and self._is_answer(node.iter):
            self.as_object = "iterate asynchronously over"
        elif isinstance(node, ast.Call):
            if self._is_answer(node.func):
                self.as_object = "call"
            if self._is_entry(node.func):
                given = [*node.args, *(keyword.value for keyword in node.keywords)]
                self.given = next((ast.unparse(value) for value in given if self._is_object(value)), self.given)
        elif isinstance(node, ast.FunctionDef) and any(map(self._is_entry, node.decorator_list)):
            self.given = node.name
        elif isinstance(node, ast.Attribute) and self._is_entry(node.value) and node.attr not in _OF_FUNCTIONS:
            self.of_entry = f".{node.attr}"
        elif isinstance(node, ast.ClassDef) and any(map(self._is_entry, node.bases)):
            self.of_entry = "a subclass"

    def _is_kept(self, node: ast.Assign) -> bool:
        return self._is_answer(node.value) and any(isinstance(target, ast.Attribute) for target in node.targets)

    def _is_operation(self, node: ast.BinOp | ast.Compare | ast.Call) -> bool:
        if isinstance(node, ast.BinOp):
            return self._is_answer(node.left) or self._is_answer(node.right)
        if isinstance(node, ast.Compare):
            return self._is_answer(node.left) and any(map(self._is_answer, node.comparators))
        is_asked = isinstance(node.func, ast.Name) and node.func.id in (
            "str",
            "repr",
            "len",
            "bool",
            "hash",
            "isinstance",
        )
        return is_asked and bool(node.args) and self._is_answer(node.args[0])

    def _is_entry(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and node.id in self._entries

    def _is_answer(self, node: ast.expr) -> bool:
        """Whether it is what a call of the entry point returned, an item of it, or a collection of such answers."""
        while isinstance(node, ast.Subscript | ast.Starred):
            node = node.value
        if isinstance(node, ast.ListComp):
            return self._is_answer(node.elt)
        if isinstance(node, ast.DictComp):
            return self._is_answer(node.value)
        if isinstance(node, ast.List | ast.Tuple | ast.Dict):
            items = node.values if isinstance(node, ast.Dict) else node.elts
            return bool(items) and all(map(self._is_answer, items))
        if isinstance(node, ast.Name):
            return node.id in self._answers
        return isinstance(node, ast.Call) and self._is_entry(node.func)

    def _is_object(self, node: ast.expr) -> bool:
        """Whether it is a function, class or instance that the tests made, or holds one."""
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            return any(map(self._is_object, node.elts))
        if isinstance(node, ast.Dict):
            return any(map(self._is_object, node.values))
        if isinstance(node, ast.Call):
            return isinstance(node.func, ast.Name) and node.func.id in self._classes
        if isinstance(node, ast.Name):
            return node.id in self._objects
        return isinstance(node, ast.Lambda | ast.GeneratorExp)


def _all_bound_to(bound: Sequence[_Binding], is_one: Callable[[ast.expr], bool], names: set[str]) -> None:
    """Add to `names`, on which `is_one` may look, what is bound to nothing else than such values."""
    size = -1
    while size < len(names):
        size = len(names)
        found = {name for name, value in bound if value is not None and is_one(value)}
        names |= found - {name for name, value in bound if value is None or not is_one(value)}


def _bindings(node: ast.AST) -> Iterator[_Binding]:
    """Names that this node binds, each with the value, or the collection that the value is an item of."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            yield from _targets(target, node.value)
    elif isinstance(node, ast.AnnAssign | ast.NamedExpr):
        yield from _targets(node.target, node.value)
    elif isinstance(node, ast.For | ast.comprehension):
        yield from _targets(node.target, node.iter)
    elif isinstance(node, ast.AugAssign):
        yield from _targets(node.target, None)
    elif isinstance(node, ast.withitem) and node.optional_vars is not None:
        yield from _targets(node.optional_vars, None)
    elif isinstance(node, ast.arg):
        yield node.arg, None
    elif isinstance(node, ast.alias):
        yield (node.asname or node.name), None
    elif isinstance(node, ast.ExceptHandler) and node.name:
        yield node.name, None


def _targets(target: ast.expr, value: ast.expr | None) -> Iterator[_Binding]:
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, ast.Starred):
        yield from _targets(target.value, value)
    elif isinstance(target, ast.Tuple | ast.List):
        pairs = isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(target.elts)
        for place, part in enumerate(target.elts):
            yield from _targets(part, value.elts[place] if pairs else value)  # type: ignore[union-attr]
