"""What a function needs to stand alone, as source: the part of its distribution that it uses.

The transitive closure over module-level names, found by the compiler's own symbol tables, through imports between the
modules of the distribution. What it reaches has to be harmless (`dangers`) and small.
"""

import ast
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field

from app.corpus.mining.dangers import FORBIDDEN, HARMLESS, PARTLY, NotSelfContainedError, refuse_dangers
from app.corpus.mining.module import Module, Statement, bound_by, globals_of

MAX_LINES = 150
MAX_CHARS = 7000
_BUILTINS = frozenset(dir(sys.modules["builtins"])) | {"__name__"}
_TOO_MUCH = "needs too much of its distribution"


@dataclass(slots=True)
class _Chosen:
    """The statements taken so far, and who owns each of their names."""

    statements: dict[tuple[str, int], Statement] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    imports: dict[str, list[str]] = field(default_factory=dict)
    """Path of a module -> paths of the siblings that it takes names from, in order."""
    num_chars: int = 0

    def add(self, path: str, statement: Statement, names: Iterable[str]) -> None:
        """Take a statement that binds these names. Raises NotSelfContainedError where two modules mean different things
        by one of them, or where all that is taken grows too large."""
        for name in names:
            owner = _owner(statement) if statement.is_import else path
            if self.owners.setdefault(name, owner) != owner:
                raise NotSelfContainedError(f"two modules define: {name}")
        self.statements[path, statement.place] = statement
        self.num_chars += len(statement.text)
        if self.num_chars > MAX_CHARS:
            raise NotSelfContainedError(_TOO_MUCH)


def _owner(statement: Statement) -> str:
    """The name that an import binds: `import os` and `import os.path` bind the same."""
    node = statement.node
    if isinstance(node, ast.Import) and not node.names[0].asname:
        return node.names[0].name.partition(".")[0]
    return statement.text


class Package:
    """The modules of a distribution."""

    def __init__(self, modules: Iterable[Module]) -> None:
        self._modules: dict[str, Module] = {}
        """Modules by every tail of the dotted path ("src.pkg.words", "pkg.words", "words"); the shortest path owns a
        tail."""
        self._whole: dict[str, Module] = {}
        for module in sorted(modules, key=lambda module: (module.path.count("/"), module.path)):
            parts = dotted(module.path).split(".")
            self._whole[".".join(parts)] = module
            for start in range(len(parts)):
                self._modules.setdefault(".".join(parts[start:]), module)

    def prelude(self, module: Module, name: str, source: str) -> str:
        """Imports, then everything else that a function uses: siblings first, each module in its own order.

        name: of the function; source: its own. Raises NotSelfContainedError.
        """
        if len(module.definitions.get(name, ())) != 1:
            raise NotSelfContainedError(f"defined several times: {name}")
        chosen = _Chosen(owners={name: module.path})
        waiting = [(module, used) for used in sorted(set(globals_of(source)))]
        seen = {(module.path, name)}
        while waiting:
            user, name = waiting.pop()
            if (user.path, name) in seen:
                continue
            seen.add((user.path, name))
            found = user.definitions.get(name)
            if found is None:
                if name in FORBIDDEN or name not in _BUILTINS:
                    raise NotSelfContainedError(f"uses a name from elsewhere: {name}")
                continue
            for statement in found:
                if (user.path, statement.place) not in chosen.statements:
                    waiting += self._take(user, name, statement, chosen)
        statements = [chosen.statements[key] for key in _in_order(module.path, chosen)]
        refuse_dangers([*(statement.node for statement in statements), *ast.parse(source).body])
        return _laid_out(statements)

    def _take(self, user: Module, name: str, statement: Statement, chosen: _Chosen) -> list[tuple[Module, str]]:
        """Add a statement, or what it imports from a sibling. Returns the names that it needs."""
        if isinstance(statement.node, ast.ImportFrom) and (sibling := self._sibling(user, statement.node)):
            if sibling.licence != user.licence:
                raise NotSelfContainedError(f"uses code under another licence: {sibling.licence}")
            original = statement.node.names[0].name
            if original not in sibling.definitions:
                raise NotSelfContainedError(f"imports a sibling: {original}")
            chosen.imports.setdefault(user.path, []).append(sibling.path)
            if original != name:
                renaming = f"{name} = {original}\n"
                node = ast.parse(renaming).body[0]
                chosen.add(user.path, Statement(node=node, place=statement.place, text=renaming), [name])
            return [(sibling, original)]
        names = [name] if statement.is_import else sorted(set(bound_by(statement.node)))
        chosen.add(user.path, statement, names)
        return [(user, other) for other in sorted(user.looked_up(statement.node))]

    def _sibling(self, user: Module, node: ast.ImportFrom) -> Module | None:
        """The module of this distribution that is imported from; None for the standard library and others."""
        target = node.module or ""
        if node.level:
            parts = dotted(user.path).split(".")
            keep = len(parts) - node.level + user.path.endswith("__init__.py")
            return self._whole.get(".".join([*parts[:keep], *([target] if target else [])]))
        if target in HARMLESS or target in PARTLY:
            return None
        if target.partition(".")[0] in sys.stdlib_module_names:
            return self._whole.get(target)
        return self._modules.get(target)


def dotted(path: str) -> str:
    """A file's path as a module's name: "src/pkg/__init__.py" is "src.pkg"."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _in_order(root: str, chosen: _Chosen) -> list[tuple[str, int]]:
    """Keys of the statements: a module after the siblings that it imports from."""
    order: list[str] = []
    open_paths: set[str] = set()

    def visit(path: str) -> None:
        if path in open_paths:
            return
        open_paths.add(path)
        for sibling in chosen.imports.get(path, ()):
            visit(sibling)
        order.append(path)

    visit(root)
    return sorted(chosen.statements, key=lambda key: (order.index(key[0]), key[1]))


def _says_nothing(node: ast.stmt) -> bool:
    """Whether it is `str = str`, which old modules have for their importers."""
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == ast.unparse(node.value)


def _laid_out(statements: list[Statement]) -> str:
    imports = sorted({s.text for s in statements if s.is_import}, key=lambda text: ("__future__" not in text, text))
    parts = ["".join(imports)] if imports else []
    after_block = False
    for statement in statements:
        if statement.is_import or _says_nothing(statement.node):
            continue
        is_block = not isinstance(statement.node, ast.Assign | ast.AnnAssign | ast.Expr)
        gap = "\n\n" if is_block or after_block else "\n" if len(parts) == 1 and imports else ""
        parts.append(gap + statement.text)
        after_block = is_block
    text = "".join(parts).strip("\n")
    if text.count("\n") + 1 > MAX_LINES:
        raise NotSelfContainedError(_TOO_MUCH)
    return text + "\n" if text else ""
