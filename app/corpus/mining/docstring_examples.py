"""Calls of a function in its docstring's examples."""

import ast
import doctest
from dataclasses import dataclass, field, replace

from app.corpus.mining.asserted_calls import HARMLESS_IN_CLAIMS, Names, call_in, free_names, with_plain_calls
from app.corpus.mining.literals import NotLiteralError, value_of
from app.corpus.mining.records import Call

_PARSER = doctest.DocTestParser()


@dataclass(slots=True)
class Examples:
    """What a docstring's examples give."""

    calls: list[Call] = field(default_factory=list)
    lines_to_drop: set[int] = field(default_factory=set)
    """Lines of the docstring with examples that need something from elsewhere."""
    lines: set[int] = field(default_factory=set)
    """Lines of all examples."""


def from_docstring(name: str, docstring: str) -> Examples:
    found = Examples()
    try:
        examples = _PARSER.get_examples(docstring)
    except ValueError:  # inconsistent indentation
        found.lines = {n for n, line in enumerate(docstring.split("\n")) if line.lstrip().startswith(">>>")}
        return found
    names: Names = {}
    for example in examples:
        span = example.source.count("\n") + example.want.count("\n")
        lines = set(range(example.lineno, example.lineno + span))
        found.lines |= lines
        if not _take(example, name, names, found):
            found.lines_to_drop |= lines
    return found


def _take(example: doctest.Example, name: str, names: Names, found: Examples) -> bool:
    """Whether the example stays in the docstring; adds its call."""
    try:
        (statement,) = ast.parse(example.source).body
    except (SyntaxError, ValueError):
        return False
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1 and not example.want:
        target = statement.targets[0]
        if isinstance(target, ast.Name):
            names.pop(target.id, None)
            try:
                names[target.id] = value_of(statement.value, names)
                return True
            except NotLiteralError:
                return False
    if not isinstance(statement, ast.Expr):
        return False
    expression = with_plain_calls(statement.value, name)
    if doctest.SKIP in example.options or example.exc_msg is not None:
        return example.exc_msg is not None and free_names(expression) <= {name, *names, *HARMLESS_IN_CLAIMS}
    claim = _claim(expression, example.want, name)
    if claim is None:
        return False
    call = call_in(claim, name, names, from_docstring=True)
    if call is not None:
        found.calls.append(call if call.claim else replace(call, from_docstring=False))
    return call is not None and bool(call.claim)


def _claim(expression: ast.expr, want: str, name: str) -> ast.expr | None:
    """The example as one expression that should be true."""
    want = want.strip()
    if isinstance(expression, ast.Call) and isinstance(expression.func, ast.Name) and expression.func.id == "print":
        if len(expression.args) != 1 or expression.keywords or "<BLANKLINE>" in want:
            return None
        shown = ast.Call(ast.Name("str", ast.Load()), expression.args, [])
        return ast.Compare(shown, [ast.Eq()], [ast.Constant(want)])
    if not want:
        want = "None"
    try:
        expected = ast.parse(want, mode="eval").body
        value_of(expected, {})
    except (SyntaxError, ValueError):
        return None
    return ast.Compare(expression, [ast.Eq()], [expected])
