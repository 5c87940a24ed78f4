"""What code that stands alone may not touch: files, clocks, processes, the network, randomness, other packages.

The lists say what is allowed, so that what nobody thought of is refused.
"""

import ast
import sys
from collections.abc import Iterable, Iterator, Sequence

HARMLESS = frozenset(
    "__future__ abc array ast base64 binascii bisect builtins calendar cmath codecs collections collections.abc "
    "colorsys contextlib copy csv dataclasses datetime decimal difflib enum fractions functools hashlib heapq hmac "
    "html html.entities ipaddress itertools json keyword math numbers operator pprint re reprlib shlex "
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
"""Built-in names that reach out, or whose value differs from run to run."""
_CLOCKS = frozenset("now today utcnow fromtimestamp utcfromtimestamp astimezone timestamp".split())
_INNARDS = frozenset("__globals__ __builtins__ __subclasses__ __code__ __dict__".split())


class NotSelfContainedError(ValueError):
    """The function can't stand alone; the text is the reason."""


def refuse_dangers(statements: Sequence[ast.stmt]) -> None:
    """Refuse statements, imports among them, that touch what they may not. Raises NotSelfContainedError."""
    modules: dict[str, str] = {}
    for node in _all_nodes(statements):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules |= _imported(node)
    for node in _all_nodes(statements):
        if isinstance(node, ast.Attribute):
            _refuse_attribute(node, modules)
        elif isinstance(node, ast.Global):
            raise NotSelfContainedError(f"keeps state in its module: {node.names[0]}")
        elif isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith):
            raise NotSelfContainedError("asynchronous")
    for name, module in modules.items():
        if module in PARTLY and not _stands_before_dots(name, statements):
            raise NotSelfContainedError(f"uses a module whole: {module}")


def _stands_before_dots(name: str, statements: Sequence[ast.stmt]) -> bool:
    """Whether the name occurs only to the left of a dot."""
    bases = {id(node.value) for node in _all_nodes(statements) if isinstance(node, ast.Attribute)}
    return all(id(n) in bases for n in _all_nodes(statements) if isinstance(n, ast.Name) and n.id == name)


def _all_nodes(statements: Iterable[ast.AST]) -> Iterator[ast.AST]:
    for statement in statements:
        yield from ast.walk(statement)


def _imported(node: ast.Import | ast.ImportFrom) -> dict[str, str]:
    """The modules that an import binds whole, by the name that it binds. Raises NotSelfContainedError for one that is
    not harmless."""
    found = {}
    if isinstance(node, ast.Import):
        for alias in node.names:
            _refuse_module(alias.name)
            root = alias.name.partition(".")[0]
            found[alias.asname or root] = alias.name if alias.asname else root
        return found
    if node.level:
        raise NotSelfContainedError(f"imports a sibling: {'.' * node.level}{node.module or ''}")
    module = node.module or ""
    _refuse_module(module)
    for alias in node.names:
        inner = f"{module}.{alias.name}"
        if inner in HARMLESS or inner in PARTLY:
            found[alias.asname or alias.name] = inner
        elif alias.name == "*" or (module in PARTLY and alias.name not in PARTLY[module]):
            raise NotSelfContainedError(f"imports something that may do harm: {inner}")
    return found


def _refuse_module(module: str) -> None:
    if module in HARMLESS or module in PARTLY:
        return
    kind = "imports something that may do harm" if module.partition(".")[0] in sys.stdlib_module_names else "imports"
    raise NotSelfContainedError(f"{kind}: {module}")


def _refuse_attribute(node: ast.Attribute, modules: dict[str, str]) -> None:
    if node.attr in _CLOCKS:
        raise NotSelfContainedError(f"reads the clock: {node.attr}")
    if node.attr in _INNARDS:
        raise NotSelfContainedError(f"looks behind its objects: {node.attr}")
    path = ast.unparse(node.value) if isinstance(node.value, ast.Name | ast.Attribute) else ""
    base, _, rest = path.partition(".")
    module = modules.get(base, "") + ("." + rest if rest else "")
    if base in modules and module in PARTLY and node.attr not in PARTLY[module]:
        raise NotSelfContainedError(f"uses something that may do harm: {module}.{node.attr}")
