"""The one exception that a user's mistake raises.

The command line prints its text as one sentence and exits with code 2; everything else is a bug and keeps its
traceback.
"""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A wrong input. The text names the value, the cause and the way out, in one sentence."""


def first_line(error: Exception) -> str:
    """What an error says, on one line; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """The nearest known word as a question; otherwise the given words."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}" if near else otherwise
