"""From a cleaned file to training documents: documented functions, and the file itself.

Only module-level functions count: a method's meaning lies in its class. A function is kept when it has a docstring
and a body that does something.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

FUNCTION, FILE = "function", "file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A piece of code to learn. Made here; deduplicated, rendered and tokenised by the build."""

    kind: str
    name: str
    """Function name; empty for a file."""
    text: str
    header: str
    """Signature and docstring of a function: what a prompt shows."""


def functions(text: str, tree: ast.Module, min_docstring_chars: int) -> Iterator[Document]:
    """Documented module-level functions, without their decorators."""
    lines = text.splitlines(keepends=True)
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _is_stub(node):
            continue
        docstring = ast.get_docstring(node, clean=False)
        if docstring is None or len(docstring.strip()) < min_docstring_chars or node.name.startswith("__"):
            continue
        end_of_header, end = node.body[0].end_lineno, node.end_lineno
        assert end_of_header is not None and end is not None
        if node.body[1].lineno <= end_of_header:
            continue  # the body starts on the docstring's last line
        yield Document(
            kind=FUNCTION,
            name=node.name,
            text="".join(lines[node.lineno - 1 : end]),
            header="".join(lines[node.lineno - 1 : end_of_header]),
        )


def _is_stub(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Docstring only, `pass`, `...`, or a bare `raise NotImplementedError`."""
    body = node.body[1:]
    if not body:
        return True
    if len(body) > 1:
        return False
    only = body[0]
    if isinstance(only, ast.Raise):
        return "NotImplementedError" in ast.dump(only)
    return isinstance(only, ast.Pass) or (isinstance(only, ast.Expr) and isinstance(only.value, ast.Constant))
