"""Make tests ready for the judge: find what of their source only the candidate's process can evaluate."""

import builtins
import sys
from collections.abc import Collection
from types import CodeType
from typing import TYPE_CHECKING, NamedTuple

from app.sandbox.evidence import MARKS

if TYPE_CHECKING:
    import ast

EVALUATE = "__evaluate_in_candidate__"
_BUILTINS = frozenset(dir(builtins))


class UnsplittableError(ValueError):
    """These tests need the candidate's own objects on the judge's side."""


class Checks(NamedTuple):
    """Tests made ready for the judge."""

    code: CodeType
    """The tests as marked; a call of the entry point on objects of the candidate's own classes became
    EVALUATE(source)."""
    setup_in_candidate: bool
    """Whether the set-up code needs what only the candidate defines."""


def prepare(code: CodeType, marked: str, setup: str, entry_point: str, bound: Collection[str]) -> Checks:
    """code: the marked tests, compiled. bound: names that the prelude defines in the judge.

    Raises UnsplittableError for tests that use a name only the candidate defines elsewhere than in the arguments of a
    call of its entry point (MBPP/601: f([Pair(5, 24)], 4) == 3), SyntaxError for a set-up that does not compile.
    """
    defined = (bound, _BUILTINS, _assigned(code), (entry_point, "METADATA"), MARKS)
    if not setup and all(any(name in names for names in defined) for name in _used(code)):
        return Checks(code, setup_in_candidate=False)  # most tests; spares a walk over the syntax tree
    import ast

    known = {*bound, *_BUILTINS, entry_point, *MARKS}
    setup_tree = ast.parse(setup)
    remote_setup = bool(_unknown(setup_tree, known | _bound(setup_tree)))
    tree = ast.parse(marked)
    of_tests = {*bound, *_bound(tree), *(() if remote_setup else _bound(setup_tree))} - {entry_point}
    known |= of_tests
    _split_calls(tree, entry_point, known, of_tests)
    modules = sorted(_unknown(tree, known | {EVALUATE}))
    strange = [name for name in modules if name not in sys.stdlib_module_names]
    if strange:
        raise UnsplittableError(f"the tests use {', '.join(strange)}, which only the program defines")
    imports = ast.parse("\n".join(f"import {name}" for name in modules))  # MBPP/596 relies on the program's import
    tree.body[:0] = imports.body
    return Checks(compile(tree, "<tests>", "exec"), setup_in_candidate=remote_setup)


def _used(code: CodeType) -> set[str]:
    """Global names and attributes that the code and the functions in it use."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _used(constant)
    return names


def _assigned(code: CodeType) -> set[str]:
    """Names of the functions and classes that the code defines; other assignments take the slow way."""
    return {constant.co_name for constant in code.co_consts if isinstance(constant, CodeType)}


def _split_calls(tree: "ast.AST", entry_point: str, known: set[str], of_tests: set[str]) -> None:
    """Send a call of the entry point as source, where it builds objects of the candidate's own classes.

    of_tests: names that only the judge has.
    """
    import ast

    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == entry_point):
            continue
        if _unknown(node, known):
            if mixed := _unknown(node, known - of_tests) - _unknown(node, known):
                raise UnsplittableError(f"the tests give the program's own objects together with {', '.join(mixed)}")
            source = ast.copy_location(ast.Constant(ast.unparse(node)), node)
            node.func.id, node.args, node.keywords = EVALUATE, [source], []


def _unknown(tree: "ast.AST", known: set[str]) -> set[str]:
    import ast

    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return names - known


def _bound(tree: "ast.AST") -> set[str]:
    """Every name that the code binds anywhere."""
    import ast

    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            names.add(node.name)
    return names
