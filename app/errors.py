"""The one exception that a user's mistake raises.

The command line prints its text as one sentence and exits with code 2; everything else is a bug and keeps its
traceback.
"""

import difflib
from collections.abc import Iterable, Iterator


class UserError(Exception):
    """A wrong input. The text names the value, the cause and the way out, in one sentence."""


class NothingToLearnError(UserError):
    """None of the problems is one that drafts could be learnt from: the pipeline leaves self-reward out then."""


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those that it wraps, the outermost first: Ray's task errors, Ray Train's failures of workers and
    controller, and Python's own causes."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = _inner(error)


def _inner(error: BaseException) -> BaseException | None:
    failures = getattr(error, "worker_failures", None)
    if failures:
        return next(iter(failures.values()))
    if error.args and isinstance(error.args[0], BaseException):  # an actor that died in its constructor
        return error.args[0]
    return getattr(error, "controller_failure", None) or getattr(error, "cause", None) or error.__cause__


def first_line(error: Exception) -> str:
    """What an error says, on one line; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """The nearest known word as a question; otherwise the given words."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}" if near else otherwise
