"""What a function needs to stand alone: the part of its module that it uses, as source.

The transitive closure over module-level names, found by the compiler's own symbol tables. Refused is whatever needs
another module of its distribution, a module outside a list of harmless ones of the standard library, or a name that
reaches files, clocks, processes, the network or randomness. The list is of what is allowed, so that what nobody thought
of is refused.
"""

import ast
import symtable
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

MAX_LINES = 150
MAX_CHARS = 7000
HARMLESS = frozenset(
    "__future__ abc array ast base64 binascii bisect builtins calendar cmath codecs collections collections.abc "
    "colorsys contextlib copy csv dataclasses datetime decimal difflib enum fractions functools hashlib heapq hmac "
    "html html.entities io ipaddress itertools json keyword math numbers operator posixpath pprint re reprlib shlex "
    "statistics string stringprep struct textwrap types typing unicodedata urllib.parse zlib".split()
)
PARTLY = {
    "os": frozenset(("path", "sep", "linesep")),
    "os.path": frozenset("basename commonprefix dirname isabs join normpath sep split splitext".split()),
    "posixpath": frozenset("basename commonprefix dirname isabs join normpath sep split splitext".split()),
    "io": frozenset(("StringIO", "BytesIO")),
    "sys": frozenset("maxsize version_info maxunicode float_info byteorder".split()),
    "warnings": frozenset(("warn",)),
}
"""Modules of which only these attributes are harmless."""
FORBIDDEN = frozenset(
    "open input eval exec compile globals locals vars breakpoint exit quit memoryview __import__ __file__ __loader__ "
    "__spec__ __package__ id hash help".split()
)
CLOCKS = frozenset("now today utcnow fromtimestamp utcfromtimestamp astimezone timestamp".split())
_BUILTINS = frozenset(dir(sys.modules["builtins"])) | {"__name__"}
_MUTATORS = frozenset("append extend insert update setdefault add pop remove clear sort reverse discard".split())
Function = ast.FunctionDef | ast.AsyncFunctionDef


class NotSelfContainedError(ValueError):
    """The function can't stand alone; the text is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Statement:
    """A module-level statement, or one alias of an import."""

    node: ast.stmt
    place: int
    text: str
    is_import: bool = False


class Module:
    """A parsed file that gives the closure of its functions."""

    def __init__(self, text: str, tree: ast.Module) -> None:
        self.tree = tree
        self.lines = text.splitlines(keepends=True)
        self._free: dict[int, frozenset[str]] = {}

    @cached_property
    def functions(self) -> list[ast.FunctionDef]:
        return [node for node in self.tree.body if isinstance(node, ast.FunctionDef)]

    def source(self, node: ast.stmt) -> str:
        """The lines of a statement, its decorators included."""
        first = min([node.lineno, *(item.lineno for item in getattr(node, "decorator_list", ()))])
        return "".join(self.lines[first - 1 : node.end_lineno]).rstrip() + "\n"

    def prelude(self, function: ast.FunctionDef) -> str:
        """Imports, then everything else that the function uses, in the module's order.

        Raises NotSelfContainedError.
        """
        chosen: dict[int, _Statement] = {}
        waiting, seen = sorted(self._free_names(function)), {function.name}
        if len(self._definitions.get(function.name, ())) != 1:
            raise NotSelfContainedError(f"defined several times: {function.name}")
        num_chars = 0
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            found = self._definitions.get(name)
            if found is None:
                if name in FORBIDDEN or name not in _BUILTINS:
                    raise NotSelfContainedError(f"uses a name from elsewhere: {name}")
                continue
            for statement in found:
                if statement.place in chosen:
                    continue
                chosen[statement.place] = statement
                num_chars += len(statement.text)
                if num_chars > MAX_CHARS:
                    raise NotSelfContainedError("needs too much of its module")
                waiting += sorted(self._free_names(statement.node) - seen)
        self._refuse_dangers(function, list(chosen.values()))
        return self._laid_out([chosen[place] for place in sorted(chosen)])

    def _laid_out(self, statements: list[_Statement]) -> str:
        imports = sorted({s.text for s in statements if s.is_import}, key=lambda text: ("__future__" not in text, text))
        rest = [s for s in statements if not s.is_import]
        parts, before = ["".join(imports)] if imports else [], False
        for statement in rest:
            block = not isinstance(statement.node, ast.Assign | ast.AnnAssign | ast.Expr)
            parts.append(
                ("\n\n" if block or before else "\n" if len(parts) == len(imports[:1]) else "") + statement.text
            )
            before = block
        text = "".join(parts).strip("\n")
        if text.count("\n") + 1 > MAX_LINES:
            raise NotSelfContainedError("needs too much of its module")
        return text + "\n" if text else ""

    def _refuse_dangers(self, function: ast.FunctionDef, statements: list[_Statement]) -> None:
        modules: dict[str, str] = {}
        nodes = [statement.node for statement in statements]
        for node in _all_nodes([*nodes, function]):
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules |= _imported(node)
        for node in _all_nodes([*nodes, function]):
            if isinstance(node, ast.Attribute):
                _refuse_attribute(node, modules)
            elif isinstance(node, ast.Global):
                raise NotSelfContainedError(f"keeps state in its module: {node.names[0]}")
            elif isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith):
                raise NotSelfContainedError("asynchronous")
            elif isinstance(node, ast.Name) and node.id in PARTLY and modules.get(node.id) == node.id:
                pass  # its attribute was looked at
        for name, module in modules.items():
            if module in PARTLY and not self._only_attributes(name, [*nodes, function]):
                raise NotSelfContainedError(f"uses a module whole: {module}")

    @staticmethod
    def _only_attributes(name: str, nodes: list[ast.stmt]) -> bool:
        """Whether the name occurs only to the left of a dot."""
        bases = {id(node.value) for node in _all_nodes(nodes) if isinstance(node, ast.Attribute)}
        return all(id(n) in bases for n in _all_nodes(nodes) if isinstance(n, ast.Name) and n.id == name)

    def _free_names(self, node: ast.stmt) -> frozenset[str]:
        if id(node) not in self._free:
            if isinstance(node, ast.Import | ast.ImportFrom):
                self._free[id(node)] = frozenset()
            else:
                self._free[id(node)] = frozenset(_free(self.source(node)))
        return self._free[id(node)]

    @cached_property
    def _definitions(self) -> dict[str, list[_Statement]]:
        """For each module-level name the statements that make it what it is."""
        found: dict[str, list[_Statement]] = {}
        place = 0
        for node in self.tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                for alias in node.names:
                    place += 1
                    name = alias.asname or alias.name.partition(".")[0]
                    one = ast.Import([alias]) if isinstance(node, ast.Import) else _from(node, alias)
                    text = ast.unparse(one) + "\n"
                    found.setdefault(name, []).append(_Statement(node=one, place=place, text=text, is_import=True))
                continue
            place += 1
            statement = None
            for name in sorted(set(_bound(node))):
                statement = statement or _Statement(node=node, place=place, text=self.source(node))
                found.setdefault(name, []).append(statement)
        return found


def _from(node: ast.ImportFrom, alias: ast.alias) -> ast.ImportFrom:
    return ast.ImportFrom(node.module, [alias], node.level)


def _all_nodes(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    for node in nodes:
        yield from ast.walk(node)


def _imported(node: ast.Import | ast.ImportFrom) -> dict[str, str]:
    """Bound name -> module, for whole modules. Raises NotSelfContainedError for one that is not harmless."""
    if isinstance(node, ast.ImportFrom):
        if node.level:
            raise NotSelfContainedError(f"imports a sibling: {'.' * node.level}{node.module or ''}")
        module, found = node.module or "", {}
        _refuse_module(module)
        for alias in node.names:
            inner = f"{module}.{alias.name}"
            if inner in HARMLESS or inner in PARTLY:
                found[alias.asname or alias.name] = inner
            elif alias.name == "*" or (module in PARTLY and alias.name not in PARTLY[module]):
                raise NotSelfContainedError(f"imports something that may do harm: {inner}")
        return found
    found = {}
    for alias in node.names:
        _refuse_module(alias.name)
        found[alias.asname or alias.name.partition(".")[0]] = (
            alias.name if alias.asname else alias.name.partition(".")[0]
        )
    return found


def _refuse_module(module: str) -> None:
    if module in HARMLESS or module in PARTLY:
        return
    kind = "imports something that may do harm" if module.partition(".")[0] in sys.stdlib_module_names else "imports"
    raise NotSelfContainedError(f"{kind}: {module}")


def _refuse_attribute(node: ast.Attribute, modules: dict[str, str]) -> None:
    if node.attr in CLOCKS:
        raise NotSelfContainedError(f"reads the clock: {node.attr}")
    if node.attr.startswith("__") and node.attr in ("__globals__", "__builtins__", "__subclasses__", "__code__"):
        raise NotSelfContainedError(f"looks behind its objects: {node.attr}")
    path = ast.unparse(node.value) if isinstance(node.value, ast.Name | ast.Attribute) else ""
    base, _, rest = path.partition(".")
    module = modules.get(base, "") + ("." + rest if rest else "")
    if base in modules and module in PARTLY and node.attr not in PARTLY[module]:
        raise NotSelfContainedError(f"uses something that may do harm: {module}.{node.attr}")


def _bound(node: ast.stmt) -> Iterator[str]:
    """Names that a module-level statement binds or changes."""
    if isinstance(node, Function | ast.ClassDef):
        yield node.name
        return
    if isinstance(node, ast.Delete):  # a name that is tidied away was there when its users were made
        return
    inner: list[ast.AST] = [node]
    while inner:
        part = inner.pop()
        if isinstance(part, Function | ast.ClassDef):
            yield part.name
            continue
        if isinstance(part, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            continue
        if isinstance(part, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in part.names)
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


def _free(source: str) -> Iterator[str]:
    """Names that a module-level statement looks up in its module or the builtins."""
    tables = [symtable.symtable(source, "<module>", "exec")]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (symbol.is_global() or table.get_type() == "module"):
                yield symbol.get_name()
