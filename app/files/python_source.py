"""Python's parser, for sources that may not be Python, and for threads that parse at once, as judges in one process do.

Up to Python 3.12 the depth of a tree that is being built is counted for all threads together, so that `ast.parse` in
two of them ends now and then with SystemError ("AST constructor recursion depth mismatch"): a garbage collection in
between runs Python code, and with it another thread.
"""

import ast
import functools
import os
import threading
import warnings

_one_at_a_time = threading.Lock()


def _renew() -> None:
    global _one_at_a_time
    _one_at_a_time = threading.Lock()


os.register_at_fork(after_in_child=_renew)  # a thread that is not there any more may have held it


def parse(source: str | bytes) -> ast.Module:
    """Raises what `ast.parse` does."""
    with _one_at_a_time:
        return ast.parse(source)


def parse_expression(source: str) -> ast.Expression:
    """Raises what `ast.parse` does."""
    with _one_at_a_time:
        return ast.parse(source, mode="eval")


def source_lines(source: str) -> list[str]:
    """As Python and editors count them, which end at line breaks alone: `str.splitlines` ends them at a form feed and
    at further signs too, within a string literal also."""
    lines = source.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]


def parsed(source: str | bytes) -> ast.Module | None:
    """None for what is no Python, or too deeply nested for its parser."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # escapes that Python does not know
            return parse(source)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None


@functools.lru_cache(maxsize=64)
def tree_of(source: str) -> ast.Module | None:
    """What `parsed` says, kept for whoever asks of the same source next: a tree to read and not to change."""
    return parsed(source)
