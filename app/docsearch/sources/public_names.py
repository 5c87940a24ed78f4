"""The names by which packages hand on what their modules define: asyncio.gather, which asyncio.tasks defines.

Read from the imports in `__init__.py`, never by importing. Limit: what a package hands on by other means, as a loop
over its modules, keeps the name of the module that defines it.
"""

import ast
from collections import defaultdict


class PublicNames:
    def __init__(self) -> None:
        self._places: dict[tuple[str, str], list[str]] = defaultdict(list)
        """By package and name in it the modules that it may be defined in, or below."""

    def read(self, package: tuple[str, ...], tree: ast.Module) -> None:
        """The imports of a package's `__init__.py`."""
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom):
                continue
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *(node.module or "").split("."))).strip(".")
            own = ".".join(package)
            for alias in node.names:
                if alias.asname in (None, alias.name):
                    self._places[own, alias.name].append(module)

    def of(self, module: tuple[str, ...], name: str, *, is_listed: bool) -> tuple[str, ...]:
        """The package, or the module itself, by which a function or class of a module is used.

        is_listed: the module's `__all__` has it, so that `import *` hands it on.
        """
        whole = ".".join(module)
        for package in ((module[0].lstrip("_"),), *(module[:length] for length in range(1, len(module)))):
            own = ".".join(package)
            is_handed_on = any(_is_within(whole, place, own) for place in self._places.get((own, name), ()))
            if is_handed_on or (is_listed and whole in self._places.get((own, "*"), ())):
                return package
        return module


def _is_within(module: str, place: str, package: str) -> bool:
    """Whether what is imported from `place` may be defined in `module`: pandas.core.api has it from its neighbours."""
    parent = place.rpartition(".")[0]
    folders = [place] if parent in ("", package) else [place, parent]
    return module == place or any(module.startswith(f"{folder}.") for folder in folders)


def listed(tree: ast.Module) -> frozenset[str]:
    """The names in a module's `__all__`, where it is written out."""
    found: set[str] = set()
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            constants = [value.value for value in ast.walk(node) if isinstance(value, ast.Constant)]
            found |= {value for value in constants if isinstance(value, str)}
    return frozenset(found)
