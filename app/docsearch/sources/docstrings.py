"""Docstrings of the standard library and of installed packages, as passages.

Packages are parsed, never imported: what is installed may be anything. Of the standard library the modules in C are
imported, since they have no source; they are part of the interpreter that runs this. Left out: private names, tests,
what has no docstring.
"""

import ast
import builtins
import contextlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import re
import sys
import sysconfig
import types
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from app.docsearch.plain_text import FENCE
from app.docsearch.ranking import Entry
from app.docsearch.sources.public_names import PublicNames, listed
from app.files.python_source import parsed
from app.prompting.tool_schema import Source

MAX_FILES = 2000
"""Of one package."""
MAX_FILE_BYTES = 1 << 20
MAX_DOCSTRING = 6000
_MIN_DOCSTRING = 20
_LEFT_OUT = frozenset(
    "_testing _tests _vendor _vendored antigravity builtins conftest distutils ensurepip idlelib lib2to3 nt ntpath "
    "posix pydoc_data test testing tests this turtledemo".split()
)
_SHOWN = {"posixpath": "os.path"}
"""Modules that are used by another name."""
_TWINS = {"os": "posix"}
"""Where a module's C half isn't called by its name and an underscore."""
_OWNER = re.compile(r"\(\$\w+(?:, /)?(?:, )?")
"""The module or instance in the signature of a function in C: ($module, obj, /)."""
Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def standard_library() -> Iterator[Entry]:
    """Modules, classes, functions and methods; and the language reference, as pydoc has it by topics."""
    yield from _members(builtins, "builtins", is_builtin=True)
    root = Path(sysconfig.get_path("stdlib"))
    for name in sorted(sys.stdlib_module_names - _LEFT_OUT):
        if name.startswith("_"):  # its members are shown as those of the module that has them from it
            continue
        file, folder = root / f"{name}.py", root / name
        seen: set[str] = set()
        files = [file] if file.is_file() else sorted(folder.rglob("*.py")) if folder.is_dir() else []
        for source, own, text, url in _of_files(files, root, "python"):
            shown = own.replace(name, _SHOWN.get(name, name), 1)
            seen.add(shown)
            yield source, shown, text.replace(own, shown, 1), url
        for compiled in (name, _TWINS.get(name, f"_{name}")):
            if module := _compiled(compiled):
                yield from (entry for entry in _members(module, name) if entry[1] not in seen)
    yield from _topics()


def package(name: str, source: Source) -> Iterator[Entry]:
    """What the files of an installed distribution say; nothing where it is not installed."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError, ValueError):
        distribution = importlib.metadata.distribution(name)
        files = [Path(str(distribution.locate_file(file))) for file in distribution.files or () if file.suffix == ".py"]
        root = Path(str(distribution.locate_file("")))
        yield from _of_files(sorted(file for file in files if file.is_relative_to(root))[:MAX_FILES], root, source)


def version_of(name: str) -> str:
    """Of the installed distribution; empty where there is none."""
    try:
        return importlib.metadata.version(name)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return ""


def _of_files(files: Iterable[Path], root: Path, source: Source) -> Iterator[Entry]:
    modules = [(file, names) for file in files if (names := _module_of(file.relative_to(root)))]
    public = PublicNames()
    for file, names in modules:
        if file.name == "__init__.py" and (tree := _tree_of(file)):
            public.read(names, tree)
    for file, names in modules:
        if tree := _tree_of(file):
            yield from _of_module(tree, names, public, source)


def _module_of(file: Path) -> tuple[str, ...]:
    """The parts of its name; none for tests and what has no name."""
    parts = file.with_suffix("").parts
    names = parts[:-1] if parts[-1] == "__init__" else parts
    is_hidden = any(name in _LEFT_OUT or name.startswith("test_") for name in names)
    return () if is_hidden or not all(map(str.isidentifier, names)) else names


def _tree_of(file: Path) -> ast.Module | None:
    with contextlib.suppress(OSError):
        if file.stat().st_size <= MAX_FILE_BYTES:
            return parsed(file.read_bytes())
    return None


def _shown(names: tuple[str, ...]) -> str:
    """What is written in private modules is used by the name of the package: httpx._api.get is httpx.get."""
    return ".".join((names[0].lstrip("_"), *(name for name in names[1:] if not name.startswith("_"))))


def _of_module(tree: ast.Module, names: tuple[str, ...], public: PublicNames, source: Source) -> Iterator[Entry]:
    yield from _documented(tree, _shown(names), source)
    handed_on = listed(tree)
    for child in _public_children(tree):
        home = public.of(names, child.name, is_listed=child.name in handed_on)
        yield from _of_tree(child, f"{_shown(home)}.{child.name}", source)


def _of_tree(node: Definition, name: str, source: Source) -> Iterator[Entry]:
    yield from _documented(node, name, source)
    if isinstance(node, ast.ClassDef):
        for child in _public_children(node):
            yield from _of_tree(child, f"{name}.{child.name}", source)


def _public_children(node: ast.Module | ast.ClassDef) -> Iterator[Definition]:
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not child.name.startswith("_"):
            yield child


def _documented(node: ast.Module | Definition, name: str, source: Source) -> Iterator[Entry]:
    docstring = ast.get_docstring(node) or ""
    if len(docstring) >= _MIN_DOCSTRING:
        yield source, name, _passage(_head(node, name), docstring), ""


def _head(node: ast.Module | Definition, name: str) -> str:
    if isinstance(node, ast.Module):
        return name
    if isinstance(node, ast.ClassDef):
        return f"`class {name}`"
    try:
        bare = _WithoutMetadata()
        returns = f" -> {ast.unparse(bare.visit(node.returns))}" if node.returns else ""
        return f"`{name}({ast.unparse(bare.visit(node.args))}){returns}"[:400] + "`"
    except (ValueError, RecursionError):  # a number of thousands of digits
        return f"`{name}(...)`"


class _WithoutMetadata(ast.NodeTransformer):
    """Annotated[int, Doc("pages of text")] is int."""

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:  # noqa: N802  (the name that `ast` calls)
        self.generic_visit(node)
        name = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
        return node.slice.elts[0] if name == "Annotated" and isinstance(node.slice, ast.Tuple) else node


def _passage(head: str, docstring: str) -> str:
    text = f"{head}\n{docstring[:MAX_DOCSTRING]}"
    return text.encode(errors="replace").decode()  # half a surrogate pair can't be stored


def _compiled(name: str) -> types.ModuleType | None:
    """A module of the interpreter that is written in C."""
    if name not in sys.stdlib_module_names:
        return None
    with contextlib.suppress(ImportError, ValueError), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of modules that a later Python has no more
        spec = importlib.util.find_spec(name)
        if spec and (spec.origin == "built-in" or (spec.origin or "").endswith(".so")):
            return importlib.import_module(name)
    return None


def _members(module: types.ModuleType, name: str, *, is_builtin: bool = False) -> Iterator[Entry]:
    for own, value in sorted(vars(module).items()):
        if own.startswith("_") or not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        full = own if is_builtin else f"{name}.{own}"
        yield from _described(value, full)
        if inspect.isclass(value):
            for method, held in sorted(vars(value).items()):
                if not method.startswith("_") and inspect.isroutine(held):
                    yield from _described(held, f"{full}.{method}")


def _described(value: object, name: str) -> Iterator[Entry]:
    docstring = getattr(value, "__doc__", None)
    if not isinstance(docstring, str) or len(docstring) < _MIN_DOCSTRING:
        return
    signature = getattr(value, "__text_signature__", None) or ""
    head = f"`{name}{_OWNER.sub('(', signature)}`" if isinstance(signature, str) and signature else name
    yield "python", name, _passage(head, inspect.cleandoc(docstring)), ""


def _topics() -> Iterator[Entry]:
    from pydoc_data.topics import topics

    for name, text in sorted(topics.items()):
        yield from chunks("python", name, text)


def chunks(source: Source, name: str, text: str, characters: int = 1500) -> Iterator[Entry]:
    """A long text as passages of one name: paragraphs, as many together as are short. Fenced code stays whole."""
    chunk, is_fenced = "", False
    for paragraph in text.split("\n\n"):
        if chunk and not is_fenced and len(chunk) + len(paragraph) > characters:
            yield source, name, _passage(name, chunk.strip("\n")), ""
            chunk = ""
        chunk += f"{paragraph}\n\n"
        is_fenced ^= sum(line.startswith(FENCE) for line in paragraph.split("\n")) % 2 == 1
    if chunk.strip():
        yield source, name, _passage(name, chunk.strip("\n")), ""
