"""What is seen at the assertions of marked tests (`marks`): which held, which failed, which exceptions were caught.

A pass needs positive evidence: at least one assertion held after the program had answered, none failed (also where the
tests caught its AssertionError), and no exception of the program let the tests get round an assertion:
- An except-clause for everything (bare, Exception, BaseException) that catches an exception before an assertion of its
  `try` was reached would make a crash, or an answer that can't be compared, as good as a right answer. One that names
  what it expects is the tests' own word, and so is one that goes on to assert something or raises. The same goes for
  context managers that swallow (but for `suppress` with names), and for a `finally` that returns.
- StopIteration ends loops without an except-clause (`for r in map(candidate, inputs)`), and libraries swallow what is
  raised in them (threads, `getattr` with a default, a sequence's IndexError). So every exception of the program has to
  be caught by a clause, an assertion or a context manager in the tests, or to end them.
What counts as an assertion beside `assert`: calls of a name that begins with "assert" (unittest's), `with` such a call
or `raises`, and a `try` that fails when nothing is raised and names what is to be raised. A caught AssertionError is
forgiven where the clause names it and asserts something else: the tests accept either.
"""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

MARKS = (
    "__assertion__", "__came_back__", "__began__", "__context__", "__failing__", "__caught__", "__leaving__",
    "__branch__",
)  # fmt: skip
"""Names that marked tests use: methods of `Evidence`."""
_BROAD = (Exception, BaseException)
_Begun = tuple[int, int, int]
"""An assertion call: its number, the id of the frame it is in, and how often the program had raised before."""


class Answers(Protocol):
    """Who answers the tests, as evidence needs to know it: `judge.Candidate`, or nothing known of it."""

    asked: bool
    """Whether it has answered anything."""

    def is_its_own(self, error: BaseException) -> bool:
        """Whether a call of the program raised it."""
        ...

    num_raised: int
    """Exceptions that its calls have raised."""

    def was_caught(self, error: BaseException) -> None:
        """error: any, also one that is not its own."""
        ...

    def were_caught(self, since: int) -> None:
        """Those that it has raised since `num_raised` was this."""
        ...


class Unknown:
    """A program in the tests' own process, of which nothing can be told apart."""

    asked = True
    num_raised = 0

    def is_its_own(self, error: BaseException) -> bool:
        return not isinstance(error, AssertionError)

    def was_caught(self, error: BaseException) -> None:
        pass

    def were_caught(self, since: int) -> None:
        pass


class Evidence:
    """What is gathered about one program; its methods are called by marked tests."""

    def __init__(self, answers: Answers | None = None) -> None:
        self._answers = answers or Unknown()
        self._held = 0
        self._failed = 0
        self._begun: set[_Begun] = set()
        """Assertion calls that have not come back."""
        self.evaded: BaseException | None = None
        """The exception that let the tests get round an assertion."""

    def names(self) -> dict[str, Callable[..., Any]]:
        """What marked tests find as globals."""
        return {name: getattr(self, name.strip("_")) for name in MARKS}

    @property
    def num_held(self) -> int:
        """Assertions that held after the program had answered, each as often as it ran."""
        return self._held

    @property
    def num_failed(self) -> int:
        """Assertions that failed or did not come to their end."""
        return self._failed + len(self._begun)

    def assertion(self, number: int, value: Any) -> bool:
        """`assert value`."""
        if value:
            self.hold()
            return True
        self._failed += 1
        return False

    def branch(self, number: int, value: Any, raises_if_false: bool) -> bool:
        """`if value: raise ...`, in tests that know no assertion: it held where nothing is raised."""
        if bool(value) == raises_if_false:
            self.hold()
        return bool(value)

    def began(self, number: int) -> "_Begun":
        begun = (number, id(sys._getframe(1)), self._answers.num_raised)
        self._begun.add(begun)
        return begun

    def came_back(self, number: int, begun: "_Begun", value: Any, catches: bool) -> Any:
        """An assertion that is a call, `self.assertEqual(...)`; it raises where it does not hold.

        catches: it is one that expects an exception, `self.assertRaises(ValueError, f, -1)`.
        """
        self._begun.discard(begun)
        if catches:
            self._answers.were_caught(begun[2])
        self.hold()
        return value

    def failing(self, error: Any) -> Any:
        """`raise AssertionError(...)`."""
        self._failed += 1
        return error

    def caught(self, kinds: Any, last_line: int, guarded: bool, asserts: bool) -> Any:
        """The clause `except kinds:`, while Python asks whether it is the one.

        last_line: where the last assertion of its `try` ends; 0 where that does not matter. guarded: the `try` fails
        when nothing is raised. asserts: the clause asserts something itself.
        """
        error = sys.exception()
        names = kinds if isinstance(kinds, tuple) else (kinds,)
        if error is None or not _is_caught(error, names):
            return kinds
        frame = sys._getframe(1)
        is_broad = any(kind in _BROAD for kind in names)
        if is_broad:
            self.look_for_evasion(error, frame, last_line)
        for related in (error.__cause__, error.__context__):  # a generator makes RuntimeError of StopIteration
            if related is not None:
                self._answers.was_caught(related)
        if self._answers.is_its_own(error):
            self._answers.was_caught(error)
            self._begun = {begun for begun in self._begun if begun[1] != id(frame)}
            if guarded and not is_broad:
                self.hold()
        elif asserts and AssertionError in names and self._failed:
            self._failed -= 1
        return kinds

    def leaving(self, last_line: int) -> None:
        """`return`, `break` or `continue` in a `finally`."""
        self.left(sys.exception(), sys._getframe(1), last_line)

    def context(self, number: int, manager: Any, is_evidence: bool, last_line: int) -> "_Watched":
        """`with manager:`, which is evidence where it expects an exception."""
        return _Watched(self, manager, is_evidence, last_line)

    def left(self, error: BaseException | None, frame: FrameType, last_line: int) -> None:
        """A context manager or a `finally` was left, and swallowed the error if there is one."""
        if error is not None:
            self.look_for_evasion(error, frame, last_line)
            self._answers.was_caught(error)

    def hold(self) -> None:
        if self._answers.asked:
            self._held += 1

    def look_for_evasion(self, error: BaseException, frame: FrameType, last_line: int) -> None:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame is not frame:
            trace = trace.tb_next
        if last_line and (trace is None or last_line >= trace.tb_lineno):
            self.evaded = error


def _is_caught(error: BaseException, kinds: tuple[Any, ...]) -> bool:
    classes = tuple(kind for kind in kinds if isinstance(kind, type))
    if issubclass(type(error), classes):
        return True
    return isinstance(error, BaseExceptionGroup) and bool(classes) and error.subgroup(classes) is not None


class _Watched:
    """A context manager of the tests, and what becomes of exceptions in it."""

    def __init__(self, evidence: Evidence, manager: Any, is_evidence: bool, last_line: int) -> None:
        self._evidence = evidence
        self._manager = manager
        self._is_evidence = is_evidence
        self._last_line = last_line

    def __enter__(self) -> Any:
        return type(self._manager).__enter__(self._manager)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> Any:
        try:
            swallowed = type(self._manager).__exit__(self._manager, kind, error, trace)
        except AssertionError as failure:
            self._evidence.failing(failure)
            raise
        if error is None or swallowed:
            self._evidence.left(error, sys._getframe(1), self._last_line)
            if self._is_evidence:
                self._evidence.hold()
        return swallowed
