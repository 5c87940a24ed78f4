"""Python's parser, for texts that may be no Python."""

import ast
import functools
import warnings


def parsed(source: str | bytes) -> ast.Module | None:
    """None for what is no Python, or too deeply nested for its parser."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # escapes that Python does not know
            return ast.parse(source)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None


@functools.lru_cache(maxsize=64)
def tree_of(source: str) -> ast.Module | None:
    """What `parsed` says, kept for whoever asks of the same source next: a tree to read and not to change."""
    return parsed(source)
