"""Run a program and then its tests, statement by statement, and tell on standard error what came of it.

Runs in the sandbox, in the program's own process: `run_python` sends this file's text with a call of `run` after it,
and nothing imports it. So a program can tell what it likes about itself; what it gains is a wrong report on itself.
Each word is a line that begins with a mark: {"at": line} before a statement of the tests, {"failure": ...} for one
that failed, {"end": ...} when all were run.

Limits: statements at the top level are what is run, so functions named test_... have to be called; where a statement
that is no assertion fails, the tests end.
"""

import ast
import json
import os
import sys
import traceback
import types
from typing import Any

MOST_PLACES = 200
"""Statements that are told of before they run: what is told counts as output, which is limited."""
MOST_FAILURES = 3
"""Failures that are told; all are counted."""
MOST_FRAMES = 4
MOST_CHARACTERS = 200
CHECKED, WAS = "__checked__", "__was__"
"""Names under which rewritten assertions reach this module."""


def run(program: str, tests: str, mark: str) -> None:
    """Without tests the program is __main__, and may end itself with any exit code."""
    teller = _Teller(mark)
    module = types.ModuleType("program" if tests else "__main__")
    sys.modules[module.__name__] = module
    try:
        exec(compile(program, "program", "exec"), module.__dict__)
    except BaseException as error:
        if isinstance(error, MemoryError) or (isinstance(error, SystemExit) and not tests):
            raise
        teller.fail(error, "program")
    else:
        _run_tests(tests, module.__dict__, teller)
    teller.end()


def _run_tests(tests: str, space: dict[str, Any], teller: "_Teller") -> None:
    space |= {CHECKED: teller.checked, WAS: _was}
    try:
        statements = ast.parse(tests, "tests").body
    except (SyntaxError, ValueError, RecursionError) as error:
        teller.fail(error, "tests")
        return
    for number, statement in enumerate(statements):
        teller.begin(statement.lineno if number < MOST_PLACES else 0, number)
        try:
            module = ast.fix_missing_locations(ast.Module([_Rewriter().visit(statement)], []))
            exec(compile(module, "tests", "exec"), space)
        except MemoryError:
            raise
        except BaseException as error:
            files = [file for file, _, _ in _frames(error)]
            is_assertion = isinstance(error, AssertionError) and files[-1:] == ["tests"]
            teller.fail(error, "assertion" if is_assertion else "test")
            if not isinstance(statement, ast.Assert):  # what follows may need what it did not do
                return


class _Teller:
    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._num_checked = 0
        self._num_failed = 0

    def begin(self, line: int, number: int) -> None:
        if number <= MOST_PLACES:
            self._tell(at=line)

    def checked(self, value: Any) -> Any:
        self._num_checked += 1
        return value

    def fail(self, error: BaseException, where: str) -> None:
        """where: program, tests (they don't compile), assertion, or test (something raised)."""
        self._num_failed += 1
        if self._num_failed <= MOST_FAILURES:
            only = "".join(traceback.TracebackException(type(error), error, None).format_exception_only())
            self._tell(failure={"where": where, "error": _cut(only.strip(), 2), "frames": _frames(error)})

    def end(self) -> None:
        self._tell(end={"num_checked": self._num_checked, "num_failed": self._num_failed})

    def _tell(self, **word: Any) -> None:
        os.write(2, f"\n{self._mark}{json.dumps(word)}\n".encode())


class _Rewriter(ast.NodeTransformer):
    """Let an assertion that fails say what the sides of its comparison were."""

    def __init__(self) -> None:
        self._count = 0

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        test, seen = node.test, list[tuple[str, str]]()
        if isinstance(test, ast.Compare):
            first, *others = test.comparators  # of `a < b < c` the third may not be looked at
            test = ast.Compare(self._kept(test.left, seen), test.ops, [self._kept(first, seen), *others])
        elif not isinstance(test, ast.BoolOp | ast.UnaryOp):
            test = self._kept(test, seen)
        texts = ast.Tuple([ast.Constant(text) for text, _ in seen], ast.Load())
        values = ast.Tuple([ast.Name(name, ast.Load()) for _, name in seen], ast.Load())
        said = node.msg or ast.Constant(None)
        message = ast.Call(ast.Name(WAS, ast.Load()), [texts, values, said], [])
        checked = ast.Call(ast.Name(CHECKED, ast.Load()), [test], [])
        return ast.copy_location(ast.Assert(checked, message), node)

    def _kept(self, side: ast.expr, seen: list[tuple[str, str]]) -> ast.expr:
        """The expression, its value kept under a name of its own; as it is where its text says its value."""
        try:
            ast.literal_eval(side)
        except (ValueError, TypeError):
            name = f"_side_{self._count}_"
            self._count += 1
            seen.append((_cut(ast.unparse(side)), name))
            return ast.NamedExpr(ast.Name(name, ast.Store()), side)
        return side


def _was(texts: tuple[str, ...], values: tuple[Any, ...], said: Any) -> str:
    """What an assertion that failed says: its own message, and what its sides were."""
    parts = [] if said is None else [_shown(said, str)]
    parts += [f"{text} was {_shown(value, repr)}" for text, value in zip(texts, values, strict=True)]
    return "; ".join(parts)


def _shown(value: Any, form: Any) -> str:
    try:
        return _cut(str(form(value)))
    except MemoryError:
        raise
    except Exception as error:  # an int too long to print, for one
        return f"<{type(value).__name__} that can't be shown: {type(error).__name__}>"


def _cut(text: str, times: int = 1) -> str:
    half = times * MOST_CHARACTERS // 2
    return text if len(text) <= 2 * half else f"{text[:half]} [...] {text[-half:]}"


def _frames(error: BaseException) -> list[tuple[str, int, str]]:
    """Where it was raised, in program and tests alone: file, line, function."""
    found = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename in ("program", "tests"):
            found.append((code.co_filename, trace.tb_lineno, code.co_name))
        trace = trace.tb_next
    return found if len(found) <= MOST_FRAMES else [*found[:1], *found[1 - MOST_FRAMES :]]
