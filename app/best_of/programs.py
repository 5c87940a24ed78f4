"""The program in a reply to a question, as a person would run it."""

import ast
import re
import typing

from app.best_of.asked_function import AskedFunction
from app.prompting.replies import behind_future, code_block

_NAMES = re.compile(r"\b[A-Z]\w+")


def program_of(reply: str, asked: AskedFunction) -> str:
    """The code that defines what is asked for. Names of `typing` in the head that the question gives (`List[int]`, as
    contest sites write it) are imported, because there they are taken for granted."""
    imports = _imports(asked)
    return behind_future(code_block(reply, asked.entry_point, given=imports), imports)


def _imports(asked: AskedFunction) -> str:
    names = sorted(name for name in set(_NAMES.findall(_signature(asked.head))) if name in typing.__all__)
    return f"from typing import {', '.join(names)}\n\n" if names else ""


def _signature(head: str) -> str:
    """The annotations of a head, without its docstring's words."""
    try:
        (node,) = ast.parse(head).body
    except (SyntaxError, ValueError):
        return ""
    if not isinstance(node, ast.FunctionDef):
        return ""
    given = [argument.annotation for argument in (*node.args.args, *node.args.kwonlyargs)]
    return " ".join(ast.unparse(annotation) for annotation in (*given, node.returns) if annotation is not None)
