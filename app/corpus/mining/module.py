"""A parsed file: its functions, what defines each of its names, and which names a statement looks up."""

import ast
import symtable
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from app.corpus.clean.cleaning import lines_of

_MUTATORS = frozenset("append extend insert update setdefault add pop remove clear sort reverse discard".split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A module-level statement, or one alias of a module-level import. Made by `Module`; read by the closure."""

    node: ast.stmt
    place: int
    """The statement's number in the order of the module."""
    text: str
    is_import: bool = False


class Module:
    """A file of a distribution, and what is asked of it while functions are made to stand alone."""

    def __init__(self, path: str, text: str, tree: ast.Module, licence: str) -> None:
        """Take a parsed file. path: inside the distribution; text: with Unix line ends; licence: of the file, an SPDX
        expression."""
        self.licence = licence
        self.path = path
        self.tree = tree
        self.lines = lines_of(text)
        self._looked_up: dict[int, frozenset[str]] = {}

    @cached_property
    def functions(self) -> list[ast.FunctionDef]:
        return [node for node in self.tree.body if isinstance(node, ast.FunctionDef) and not is_overload(node)]

    def source(self, node: ast.stmt) -> str:
        """The lines of a statement, its decorators included."""
        first = min([node.lineno, *(item.lineno for item in getattr(node, "decorator_list", ()))])
        return "".join(self.lines[first - 1 : node.end_lineno]).rstrip() + "\n"

    def helper(self, node: ast.stmt) -> str:
        """The source of a statement that others use, of its docstrings only the first lines."""
        lines = lines_of(self.source(node))
        first = (node.end_lineno or 0) - len(lines) + 1
        for part in ast.walk(node):
            if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                text, docstring = ast.get_docstring(part), part.body[0]
                if text and docstring.lineno != docstring.end_lineno and (short := _first_line(text)):
                    start, end = docstring.lineno - first, (docstring.end_lineno or 0) - first
                    lines[start] = f'{" " * docstring.col_offset}"""{short}"""\n'
                    lines[start + 1 : end + 1] = [""] * (end - start)
        return "".join(lines)

    def looked_up(self, node: ast.stmt) -> frozenset[str]:
        """Names that a module-level statement takes from its module or the builtins."""
        if id(node) not in self._looked_up:
            is_import = isinstance(node, ast.Import | ast.ImportFrom)
            self._looked_up[id(node)] = frozenset() if is_import else frozenset(globals_of(self.source(node)))
        return self._looked_up[id(node)]

    @cached_property
    def definitions(self) -> dict[str, list[Statement]]:
        """The statements that make each module-level name what it is."""
        found: dict[str, list[Statement]] = {}
        place = 0
        for node in self.tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                for alias in node.names:
                    place += 1
                    name = alias.asname or alias.name.partition(".")[0]
                    one = _single(node, alias)
                    text = ast.unparse(one) + "\n"
                    found.setdefault(name, []).append(Statement(node=one, place=place, text=text, is_import=True))
                continue
            place += 1
            if is_overload(node):
                continue
            statement = None
            for name in sorted(set(bound_by(node))):
                statement = statement or Statement(node=node, place=place, text=self.helper(node))
                found.setdefault(name, []).append(statement)
        return found


def _first_line(docstring: str) -> str:
    """The docstring's first line; empty where it can't be written between three quotes as it is."""
    line = docstring.strip().partition("\n")[0].strip()
    return "" if "\\" in line or '"' in line else line


def is_overload(node: ast.stmt) -> bool:
    """Whether it is a signature for type checkers, which the function itself follows."""
    decorators = node.decorator_list if isinstance(node, ast.FunctionDef) else []
    return any(ast.unparse(decorator).rpartition(".")[2] == "overload" for decorator in decorators)


def _single(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> ast.Import | ast.ImportFrom:
    return ast.Import([alias]) if isinstance(node, ast.Import) else ast.ImportFrom(node.module, [alias], node.level)


def bound_by(node: ast.stmt) -> Iterator[str]:
    """Names that a module-level statement binds or changes."""
    if isinstance(node, ast.Delete):  # a name that is tidied away was there when its users were made
        return
    inner: list[ast.AST] = [node]
    while inner:
        part = inner.pop()
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield part.name
            continue
        if isinstance(part, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            continue
        if isinstance(part, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in part.names)
        elif isinstance(part, ast.ExceptHandler) and part.name:
            yield part.name
        elif isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load):
            yield part.id
        elif isinstance(part, ast.Subscript | ast.Attribute) and not isinstance(part.ctx, ast.Load):
            yield from _base(part)
        elif isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute) and part.func.attr in _MUTATORS:
            yield from _base(part.func)
        inner.extend(ast.iter_child_nodes(part))


def _base(node: ast.expr) -> Iterator[str]:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    if isinstance(node, ast.Name):
        yield node.id


def globals_of(source: str) -> Iterator[str]:
    """Names that a module-level statement looks up in its module or the builtins."""
    tables = [symtable.symtable(source, "<module>", "exec")]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (symbol.is_global() or table.get_type() == "module"):
                yield symbol.get_name()
