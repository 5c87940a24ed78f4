"""Assertions that say, where they fail, what the sides of their comparison were: `assert f(3) == 7` fails with
"f(3) was 6" as its message, as pytest shows it.

The syntax tree is changed, never the text, so that lines and tracebacks stay those of the program. What is shown comes
from the program's own process: it tells a person, and judges nothing. `ast` is imported where there is an assertion,
since what this module imports would cost every fork of the sandbox's (`zygote`).
"""

from typing import Any

MOST_CHARACTERS = 200
"""Of an expression's text, and of a value."""
CHECKED, WAS = "__checked__", "__was__"
"""Names under which changed assertions reach what `names` gives: a module that holds them has to have these."""


def changed(tree: Any, first: int = 0) -> int:
    """Change every assertion in the ast.AST, in place; returns how many names have been used, counted from `first`."""
    import ast

    for node in list(ast.walk(tree)):
        if isinstance(node, ast.Assert):
            first = _change(node, first)
    ast.fix_missing_locations(tree)
    return first


def with_values(source: str, file: str) -> Any:
    """The compiled program; one without assertions, or that is nested too deep to look for them, as it is. Raises what
    `compile` raises."""
    if "assert" not in source:
        return compile(source, file, "exec")
    import ast

    try:
        tree = ast.parse(source, file)
        changed(tree)
        return compile(tree, file, "exec")
    except (RecursionError, MemoryError):
        return compile(source, file, "exec")


def names() -> dict[str, Any]:
    """What changed assertions call, by the names that they call it by."""
    return {CHECKED: lambda value: value, WAS: _was}


def cut(text: str, times: int = 1) -> str:
    """Beginning and end of what is longer than MOST_CHARACTERS, or that many times it."""
    half = times * MOST_CHARACTERS // 2
    return text if len(text) <= 2 * half else f"{text[:half]} [...] {text[-half:]}"


def _change(node: Any, first: int) -> int:
    import ast

    test, seen = node.test, list[tuple[str, str]]()
    if isinstance(test, ast.Compare):
        left, *others = test.comparators  # of `a < b < c` the third may not be looked at
        test = ast.Compare(_kept(test.left, seen, first), test.ops, [_kept(left, seen, first), *others])
    elif not isinstance(test, ast.BoolOp | ast.UnaryOp):
        test = _kept(test, seen, first)
    texts = ast.Tuple([ast.Constant(text) for text, _ in seen], ast.Load())
    values = ast.Tuple([ast.Name(name, ast.Load()) for _, name in seen], ast.Load())
    said = node.msg or ast.Constant(None)
    node.msg = ast.copy_location(ast.Call(ast.Name(WAS, ast.Load()), [texts, values, said], []), node)
    node.test = ast.copy_location(ast.Call(ast.Name(CHECKED, ast.Load()), [test], []), node.test)
    return first + len(seen)


def _kept(side: Any, seen: list[tuple[str, str]], first: int) -> Any:
    """The expression, its value kept under a name of its own; as it is where its text says its value."""
    import ast

    try:
        ast.literal_eval(side)
    except (ValueError, TypeError):
        name = f"_side_{first + len(seen)}_"
        seen.append((cut(ast.unparse(side)), name))
        return ast.copy_location(ast.NamedExpr(ast.Name(name, ast.Store()), side), side)
    return side


def _was(texts: tuple[str, ...], values: tuple[Any, ...], said: Any) -> str:
    """What an assertion that failed says: its own message, and what its sides were."""
    parts = [] if said is None else [_shown(said, str)]
    parts += [f"{text} was {_shown(value, repr)}" for text, value in zip(texts, values, strict=True)]
    return "; ".join(parts)


def _shown(value: Any, form: Any) -> str:
    try:
        return cut(str(form(value)))
    except MemoryError:
        raise
    except Exception as error:  # an int too long to print, for one
        return f"<{type(value).__name__} that can't be shown: {type(error).__name__}>"
