"""The program in a reply to a question, as a person would run it."""

import ast
import typing

from app.best_of.asked_function import AskedFunction
from app.files.python_source import parsed
from app.prompting.replies import behind_future, code_block


def program_of(reply: str, asked: AskedFunction) -> str:
    """The code that defines what is asked for. Names of `typing` in the head that the question gives (`List[int]`, as
    contest sites write it) are imported, because there they are taken for granted."""
    imports = _imports(asked)
    return behind_future(code_block(reply, asked.entry_point, given=imports), imports)


def _imports(asked: AskedFunction) -> str:
    names = sorted(name for name in _annotating(asked.head) if name[0].isupper() and name in typing.__all__)
    return f"from typing import {', '.join(names)}\n\n" if names else ""


def _annotating(head: str) -> set[str]:
    """The names in the annotations of a head."""
    tree = parsed(head)
    if tree is None or len(tree.body) != 1 or not isinstance(tree.body[0], ast.FunctionDef):
        return set()
    node = tree.body[0]
    annotations = [node.args, *([node.returns] if node.returns else [])]
    return {inner.id for part in annotations for inner in ast.walk(part) if isinstance(inner, ast.Name)}
