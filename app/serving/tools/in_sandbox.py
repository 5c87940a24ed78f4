"""Run a program and then its tests, statement by statement, and tell on standard error what came of it.

Runs in the sandbox, in the program's own process: `run_python` sends this file's text with a call of `run` after it,
and nothing imports it. There is no `app` to import from in there: the text of `app.sandbox.assertions` goes along, in
place of the line that imports it. So a program can tell what it likes about itself; what it gains is a wrong report on
itself.
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

from app.sandbox.assertions import CHECKED, changed, cut, names

MOST_PLACES = 200
"""Statements that are told of before they run: what is told counts as output, which is limited."""
MOST_FAILURES = 3
"""Failures that are told; all are counted."""
MOST_FRAMES = 4


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
    space |= names() | {CHECKED: teller.checked}
    try:
        statements = ast.parse(tests, "tests").body
    except (SyntaxError, ValueError, RecursionError) as error:
        teller.fail(error, "tests")
        return
    for number, statement in enumerate(statements):
        teller.begin(statement.lineno if number < MOST_PLACES else 0, number)
        try:
            changed(statement)
            exec(compile(ast.Module([statement], []), "tests", "exec"), space)
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
            self._tell(failure={"where": where, "error": cut(only.strip(), 2), "frames": _frames(error)})

    def end(self) -> None:
        self._tell(end={"num_checked": self._num_checked, "num_failed": self._num_failed})

    def _tell(self, **word: Any) -> None:
        os.write(2, f"\n{self._mark}{json.dumps(word)}\n".encode())


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
