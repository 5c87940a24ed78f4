"""What a question asks for, as a thing that can be called: the head of a function, or the one method of a class, that
the question begins in code, else the function that its examples call.

Limit: of several functions the last one that is not written out is taken, else the last one; where the question begins
none and calls none, there is nothing to call.
"""

import ast
import builtins
import keyword
import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from app.files.python_source import parsed
from app.prompting.fences import fences

MAX_CHARS = 20_000
"""Characters of a question that are searched; the rest is not."""
_CALLED = re.compile(r"(?:^|>>>|assert\b|\bnot\b|[-*•]|\bfor\b)\s{0,8}(?:\w{1,64}\.)?([a-zA-Z_]\w{0,64})\(", re.M)
_ASSERTED = re.compile(r"\bassert\s{1,8}([a-zA-Z_]\w{0,64})\(")
"""Also a name that is a built-in function's, such as sum."""
_CALLED_INSIDE = re.compile(r"\b([a-zA-Z_]\w{0,64})\(")
_KNOWN = frozenset(dir(builtins)) | frozenset(keyword.kwlist) | {"isclose", "approx"}
_HEAD = re.compile(
    r"^(?:class[ ]\w{1,64}[^\n]{0,80}:\n(?:[ \t]*\n){0,2})?"
    r"[ \t]*def[ ]\w{1,64}\([^:]{0,400}(?::[^:]{1,200}){0,12}:[ \t]*$",
    re.M,
)
"""The head of a function among prose."""
_ENDINGS = ("", "\n    pass\n", "\n        pass\n", "\n            pass\n")
"""What makes a head a whole definition."""
NODES = re.compile(r"\b(ListNode|TreeNode|Node)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedFunction:
    """What is to be called. Made by `asked_function`.

    Example: AskedFunction(entry_point="Solution().two_sum", name="two_sum", parameters=("nums", "target"), head="")
    """

    entry_point: str
    """What is called: a name, or a class that is made without arguments and its method."""
    name: str
    """The function's or the method's own name."""
    parameters: tuple[str, ...]
    """In their order, without `self`; empty where the question does not tell."""
    keywords: tuple[str, ...] = ()
    """Parameters that are given by name alone."""
    head: str
    """Source of the head or of the whole definition, as the question has it; empty where it has none."""

    @property
    def takes_nodes(self) -> bool:
        """Whether it is called on linked nodes, which examples write as lists."""
        return NODES.search(self.head.partition('"""')[0]) is not None


def asked_function(question: str) -> AskedFunction | None:
    """None where nothing can be called."""
    question = question[:MAX_CHARS]
    blocks = [block.text for block in fences(question) if block.info.lower() in ("", "python", "py", "python3")]
    for source in (*reversed(blocks), question, *reversed(_HEAD.findall(question))):
        if found := _begun(textwrap.dedent(source)):
            return found
    name = _called_by_examples(question)
    return AskedFunction(entry_point=name, name=name, parameters=(), head="") if name else None


def _begun(source: str) -> AskedFunction | None:
    """The function, or the class with one method of its own, that a source begins or defines last."""
    if "def " not in source:
        return None
    wholes = ((whole, parsed(whole)) for ending in _ENDINGS if (whole := source.rstrip() + ending))
    source, tree = next((one for one in wholes if one[1] is not None), ("", None))
    if tree is None:
        return None
    found = list(_callables(tree))
    if not found:
        return None
    open_ones = [one for one in found if _is_open(one[1])]
    owner, node = (open_ones or found)[-1]
    given = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
    is_static = any(isinstance(held, ast.Name) and held.id == "staticmethod" for held in node.decorator_list)
    head = ast.get_source_segment(source, node) or ast.unparse(node)
    return AskedFunction(
        entry_point=f"{owner}().{node.name}" if owner else node.name,
        name=node.name,
        parameters=tuple(given[1:] if owner and not is_static else given),
        keywords=tuple(argument.arg for argument in node.args.kwonlyargs),
        head=head,
    )


def _callables(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Functions, with the class whose only public method they are."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield "", node
        elif isinstance(node, ast.ClassDef):
            methods = [inner for inner in node.body if isinstance(inner, ast.FunctionDef)]
            public = [inner for inner in methods if not inner.name.startswith("_")]
            makes_itself = not any(inner.name == "__init__" and len(inner.args.args) > 1 for inner in methods)
            if len(public) == 1 and makes_itself:
                yield node.name, public[0]


def _is_open(node: ast.FunctionDef) -> bool:
    """Whether nothing but a docstring, `pass` or `...` is written of it."""
    return all(
        isinstance(inner, ast.Pass) or (isinstance(inner, ast.Expr) and isinstance(inner.value, ast.Constant))
        for inner in node.body
    )


def _called_by_examples(question: str) -> str:
    """The name that lines of examples most often call; empty for none."""
    lines: Sequence[str] = [line for line in question.splitlines() if re.search(r"assert\b|>>>|=|->|→|➞|return", line)]
    asserted = Counter(name for line in lines for name in _ASSERTED.findall(line) if not keyword.iskeyword(name))
    first = Counter(name for line in lines for name in _CALLED.findall(line) if name not in _KNOWN)
    every = Counter(name for line in lines for name in _CALLED_INSIDE.findall(line) if name not in _KNOWN)
    for counted in (first, every, asserted):
        if counted:
            return counted.most_common(1)[0][0]
    return ""
