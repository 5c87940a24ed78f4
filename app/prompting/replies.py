"""The program in a model's reply: one function for suites, rewards and page.

The rules, in their order:
1. A reply that is Python by itself, and defines what is asked for, is the program as it is; so is the indented body of
   a function that was begun.
2. Else its fenced blocks are read as CommonMark has them (`app.prompting.fences`). Chosen is the first one that defines
   the entry point by its whole name (function, class or assignment, at the top level before nested), parses, and does
   more than repeat the question; failing that one that means to define it but does not parse; failing that the first
   block of Python, of no language, of any. A script has no entry point: chosen is the first block that does something
   when run.
3. Where that gives no program that parses and has the entry point, the blocks within those blocks are looked at, then
   those that `lax_fences` reads; the first reading that gives one is taken, and where 2. found no block, also one that
   means to define the entry point but does not parse.
4. What the chosen block uses and neither it nor `given` defines comes from the reply's other blocks: the imports,
   functions, classes and assignments that bind those names, and what these use in turn, before the block. Nothing else
   of another block is taken: no example, no assertion, no second version.
5. A reply without a fence: an indented block that defines the entry point, else the whole reply.
"""

import ast
import builtins
import functools
import re
import symtable
import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from app.files.python_source import parsed, tree_of
from app.prompting.fences import Block, fences, indented_blocks, lax_fences

PYTHON = frozenset("python python3 python2 py py3 ipython ipython3 sage".split())
_LANGUAGE = re.compile(r"[\w+#-]+")
_NAME = re.compile(r"(?:(?:async\s+)?def\s+|class\s+)?([^\W\d]\w*)")
_KNOWN = frozenset(dir(builtins)) | {"__file__"}
_TOP, _NESTED, _BROKEN, _STUB, _OTHER = range(5)
"""How well a block answers; behind them come blocks by their language."""
_BEFORE_CODE = ("", " ", "\t", "\f", "#", "\\")
"""What a text may begin with whose first token is indented."""
Functions = ast.FunctionDef | ast.AsyncFunctionDef


def code_block(reply: str, entry_point: str, *, given: str = "", is_script: bool = False) -> str:
    """The program in a reply, by the rules above; lines end in \\n.

    entry_point: what has to be defined, as a name, as an expression that begins with it (Solution().two_sum) or as
    `def name`; empty: anything. given: source before the program. is_script: it is run, not called.
    """
    text = unix(reply)
    found = _NAME.match(entry_point.strip())
    name = unicodedata.normalize("NFKC", found[1]) if found else ""  # as Python's parser does
    if (whole := _whole_answer(text, name)) is not None:
        return whole
    blocks = [block for block in fences(text) if block.text.strip()]
    first = _chosen(blocks, name, is_script)
    if first and first.is_right:
        return first.joined(given)
    within = [inner for block in blocks for inner in fences(block.text)]
    for others in (within, lax_fences(text, _is_python)):
        choice = _chosen(others, name, is_script)
        if choice and (choice.is_right or (first is None and choice.rank <= _BROKEN)):
            return choice.joined(given)
    if first:
        return first.joined(given)
    return next((code for code in indented_blocks(text) if name and defines(code, name)), text)


def unix(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def defines(source: str, name: str) -> bool:
    """Whether the source defines the name, as a whole word: a function, a class, an assignment; if it does not parse,
    by what its lines tell."""
    tree = tree_of(source)
    if tree is None:
        return bool(_definition(name).search(source))
    return _definition_rank(tree, name) is not None


def answers(tree: ast.Module, entry_point: str) -> bool:
    """Whether a program defines what an entry point, in any of the forms that `code_block` takes, begins with, by more
    than a stub."""
    found = _NAME.match(entry_point.strip())
    return found is None or _definition_rank(tree, unicodedata.normalize("NFKC", found[1])) in (_TOP, _NESTED)


def called_by(source: str, name: str) -> str:
    """What a call of the function runs: its last definition and what that uses. Left out are a model's own examples
    and assertions, and a last statement that was cut off, as by `sanitize` of EvalPlus, which published scores go by.
    A source that does not define the function is kept."""
    lines = source.split("\n") if defines(source, name) else []
    for end in range(len(lines), 0, -1):
        whole = "\n".join(lines[:end])
        tree = parsed(whole)
        if tree is not None and _definition_rank(tree, name) is not None:
            statements = [_source(whole, node) for node in reversed(tree.body)]  # of two bindings the later one holds
            needed = _needed({name}, set(), statements)
            return "\n".join(statements[number] for number, _ in reversed(needed)) or source
    return source


def behind_future(source: str, *more: str) -> str:
    """The source with others before it, but behind its imports from __future__, which have to be the first."""
    tree = tree_of(source)
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)] if tree else []
    cut = max((node.end_lineno or 0 for node in imports if node.module == "__future__"), default=0)
    lines = source.split("\n")
    return "\n".join(lines[:cut]) + "\n" * bool(cut) + "".join(more) + "\n".join(lines[cut:])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """A block among the blocks of a reply."""

    blocks: Sequence[Block]
    index: int
    rank: int
    is_right: bool
    """It parses, and has what is asked for."""

    def joined(self, given: str) -> str:
        source = self.blocks[self.index].text
        if tree_of(source) is None:
            return source
        others = [block.text if tree_of(block.text) else "" for block in self.blocks]
        others[self.index] = ""
        if not any(others):
            return source
        bound, used = _globals(source)
        known = bound | _globals(given)[0]
        needed = _needed(used - known, known, others)
        if not needed:
            return source
        helpers = [_source(self.blocks[number].text, node) for number, node in needed]
        return behind_future(source, *(f"{helper}\n\n" for helper in helpers))


def _chosen(blocks: Sequence[Block], name: str, is_script: bool) -> _Choice | None:
    """The best block, the first one of equals; None where there is none."""
    ranks = [_rank(block, name, is_script) for block in blocks]
    if not ranks:
        return None
    index = ranks.index(min(ranks))
    rank = ranks[index]
    is_right = rank <= _NESTED or (not name and not is_script and tree_of(blocks[index].text) is not None)
    return _Choice(blocks=blocks, index=index, rank=rank, is_right=is_right)


def _rank(block: Block, name: str, is_script: bool) -> int:
    tree = tree_of(block.text)
    if name:
        if tree is None and _definition(name).search(block.text):
            return _BROKEN
        if tree is not None and (rank := _definition_rank(tree, name)) is not None:
            return rank
    elif is_script:
        if tree is not None and any(_does_something(node) for top in tree.body for node in _leaves(top)):
            return _TOP
        if "print(" in block.text:
            return _BROKEN
    word = _LANGUAGE.search(block.info.lower())
    return _OTHER + (1 if word is None else 0 if word[0] in PYTHON else 2)


def _definition_rank(tree: ast.Module, name: str) -> int | None:
    """None where the tree does not define the name. What a function assigns does not count, a class's methods do."""
    here = [node for top in tree.body for node in _leaves(top) if name in _defined(node)]
    nested = (node for node in ast.walk(tree) if isinstance(node, Functions | ast.ClassDef))
    found = here or [node for node in nested if node.name == name]
    if not found:
        return None
    if all(map(_is_stub, found)):
        return _STUB
    return _TOP if here else _NESTED


def _whole_answer(text: str, name: str) -> str | None:
    """The text if all of it is Python that defines the name, or the body of a function that was begun."""
    begin = text.lstrip("\n")[:1]
    if begin == "`":  # a fence, or a name in prose
        return None
    level = textwrap.dedent(text) if begin in (" ", "\t") else text
    tree = tree_of(level)
    if tree is not None and (not name or _definition_rank(tree, name) is not None):
        return level
    may_be_body = begin in _BEFORE_CODE  # what begins at the margin is none
    return text if may_be_body and parsed(f"if True:\n{text}") is not None else None


def _is_python(code: str) -> bool:
    return bool(code.strip()) and tree_of(code) is not None


def _leaves(node: ast.stmt) -> Iterator[ast.stmt]:
    """The statement, or those that a condition, a try or a with holds, wherever they are in it; no function's."""
    pending: list[ast.AST] = [node]
    while pending:
        inner = pending.pop()
        if isinstance(inner, ast.If | ast.Try | ast.With | ast.ExceptHandler):
            pending += ast.iter_child_nodes(inner)
        elif isinstance(inner, ast.stmt):
            yield inner


def bound_names(tree: ast.Module) -> set[str]:
    """What a program binds at its top level."""
    return {name for node in tree.body for name in _defined(node) | _imported(node)}


def _defined(node: ast.stmt) -> set[str]:
    """The names that a leaf defines, without those that it imports."""
    if isinstance(node, Functions | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else []
    if isinstance(node, ast.AnnAssign) and node.value is not None:
        targets = [node.target]
    parts = (part for target in targets for part in ast.walk(target))
    return {part.id for part in parts if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}


def _imported(node: ast.stmt) -> set[str]:
    if not isinstance(node, ast.Import | ast.ImportFrom):
        return set()
    return {(alias.asname or alias.name).partition(".")[0] for alias in node.names}


def _is_stub(node: ast.stmt) -> bool:
    """Whether a definition holds a docstring, `pass`, `...` or NotImplementedError and nothing else: the question, said
    again."""
    if isinstance(node, ast.ClassDef):
        return all(_is_stub(inner) or _is_empty(inner) for inner in node.body)
    return isinstance(node, Functions) and all(map(_is_empty, node.body))


def _is_empty(node: ast.stmt) -> bool:
    if isinstance(node, ast.Raise) and node.exc is not None:
        raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _does_something(node: ast.stmt) -> bool:
    """Whether a leaf calls something and is more than a definition: what a program prints may be Python too."""
    is_run = isinstance(node, ast.Expr | ast.For | ast.While | ast.Match)
    return is_run and any(isinstance(inner, ast.Call) for inner in ast.walk(node))


@functools.lru_cache(maxsize=256)
def _definition(name: str) -> re.Pattern[str]:
    word = re.escape(name)
    return re.compile(
        rf"^[ \t]*(?:(?:async[ \t]+)?def[ \t]+{word}\b|class[ \t]+{word}\b|{word}[ \t]*(?::|=(?!=)))", re.M
    )


def _globals(source: str) -> tuple[set[str], set[str]]:
    """The names that a source binds for all of its functions to see, and those of this kind that it uses."""
    bound: set[str] = set()
    used: set[str] = set()
    try:
        pending = [symtable.symtable(source, "reply", "exec")]
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return bound, used
    while pending:
        table = pending.pop()
        pending += table.get_children()
        for symbol in table.get_symbols():
            if table.get_type() == "module" or symbol.is_global():
                bound |= {symbol.get_name()} if symbol.is_assigned() or symbol.is_imported() else set()
                used |= {symbol.get_name()} if symbol.is_referenced() else set()
    return bound, used - _KNOWN


def _needed(wanted: set[str], known: set[str], others: Sequence[str]) -> list[tuple[int, ast.stmt]]:
    """The statements of the other blocks, each with its block's number, that bind what is wanted, and what they use
    themselves; in the reply's order. A stub binds what nothing else does, such as an exception's class."""
    bodies = [tree.body if (tree := tree_of(other)) else [] for other in others]
    binding: dict[str, tuple[int, int]] = {}
    stubs: dict[str, tuple[int, int]] = {}
    starred: set[tuple[int, int]] = set()
    for number, body in enumerate(bodies):
        for place, top in enumerate(body):
            for node in _leaves(top):
                names = _defined(node) | _imported(node)
                held = stubs if _is_stub(node) else binding
                held |= {name: (number, place) for name in names if name not in held}
                starred |= {(number, place)} if "*" in names else set()
    binding = stubs | binding
    taken: set[tuple[int, int]] = set()
    pending = sorted(wanted)
    while pending:
        at = binding.get(pending.pop())
        if at is None:
            taken |= starred  # one of them may bind it
        elif at not in taken:
            taken.add(at)
            bound, used = _globals(_source(others[at[0]], bodies[at[0]][at[1]]))
            pending += sorted(used - known - bound)
    return [(number, bodies[number][place]) for number, place in sorted(taken)]


def _source(text: str, node: ast.stmt) -> str:
    first = min([node.lineno, *(mark.lineno for mark in getattr(node, "decorator_list", ()))])
    return "\n".join(text.split("\n")[first - 1 : node.end_lineno])
