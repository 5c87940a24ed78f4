"""The way from a cleaned file to training documents: documented functions, each with the code that it uses.

Only module-level functions count: a method's meaning lies in its class. A function is kept when it has a docstring
and a body that does something. What it uses of its module is put into `Document.context`: the imports, and definitions
beside it, whole where they are short, else as signature and first words of the docstring. Where the package's other
files are at hand, definitions imported from them are put there too, each file under a line `# file: PATH`.
Limits: names in strings (quoted annotations) and names that a star import brings are not followed.
"""

import ast
import functools
import posixpath
from collections.abc import Iterable, Iterator, Mapping

from app.corpus.records import FILE, FUNCTION, Document
from app.files.python_source import parsed

__all__ = ["FILE", "FUNCTION", "FILE_MARK", "Document", "functions"]
FILE_MARK = "# file: "
"""Begins the line before a file's code in a context of several files."""
SHORT_LINES = 12
"""A definition of the same file is shown whole up to here."""
SIBLING_LINES = 30
"""The same for a definition of another file, which is shown whole or not at all."""
CONTEXT_LINES = 60
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(
    text: str, tree: ast.Module, min_docstring_chars: int, path: str = "", siblings: Mapping[str, str] | None = None
) -> Iterator[Document]:
    """Documented module-level functions, without their decorators.

    path: of the file, as in the keys of `siblings`, which are texts of the same distribution's other files by path.
    """
    module: _Module | None = None
    for node in tree.body:
        if not isinstance(node, _Function) or _is_stub(node):
            continue
        docstring = ast.get_docstring(node, clean=False)
        if docstring is None or len(docstring.strip()) < min_docstring_chars or node.name.startswith("__"):
            continue
        end_of_header = node.body[0].end_lineno
        assert end_of_header is not None
        if node.body[1].lineno <= end_of_header:
            continue  # the body starts on the docstring's last line
        module = module or _Module(text, tree)
        yield Document(
            kind=FUNCTION,
            name=node.name,
            text=module.source(node),
            header=module.lines_of(node.lineno, end_of_header),
            context=_context(module, node, path, siblings or {}),
        )


def _is_stub(node: _Function) -> bool:
    """Whether there is nothing but a docstring, `pass`, `...`, or a bare `raise NotImplementedError`."""
    body = node.body[1:]
    if not body:
        return True
    if len(body) > 1:
        return False
    only = body[0]
    if isinstance(only, ast.Raise):
        return "NotImplementedError" in ast.dump(only)
    return isinstance(only, ast.Pass) or (isinstance(only, ast.Expr) and isinstance(only.value, ast.Constant))


class _Module:
    """What a file's module level binds: imports and definitions by name."""

    def __init__(self, text: str, tree: ast.Module) -> None:
        self._lines = text.split("\n")  # str.splitlines also splits at form feeds, which Python's grammar does not
        self.imports: dict[str, tuple[ast.Import | ast.ImportFrom, ast.alias]] = {}
        self.definitions: dict[str, ast.stmt] = {}
        for node in _statements(tree.body):
            if isinstance(node, ast.Import | ast.ImportFrom):
                for alias in node.names:
                    self.imports.setdefault(alias.asname or alias.name.partition(".")[0], (node, alias))
            elif node.col_offset:
                continue  # under `if` or `try`, where its source does not parse by itself
            elif isinstance(node, _Function | ast.ClassDef):
                self.definitions.setdefault(node.name, node)
            elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    if isinstance(target, ast.Name):
                        self.definitions.setdefault(target.id, node)

    def lines_of(self, first: int, last: int) -> str:
        return "\n".join(self._lines[first - 1 : last]) + "\n"

    def source(self, node: ast.stmt) -> str:
        """The source of a statement, without its decorators."""
        return self.lines_of(node.lineno, node.end_lineno or node.lineno)

    def import_lines(self, names: Iterable[str]) -> list[str]:
        """The imports that bind these names, each with nothing else, in the order of the file."""
        chosen: dict[int, tuple[ast.Import | ast.ImportFrom, list[ast.alias]]] = {}
        for name in names:
            if name in self.imports:
                node, alias = self.imports[name]
                chosen.setdefault(node.lineno, (node, []))[1].append(alias)
        lines = []
        for _, (node, aliases) in sorted(chosen.items()):
            aliases.sort(key=lambda alias: alias.name)
            if isinstance(node, ast.ImportFrom):
                lines.append(ast.unparse(ast.ImportFrom(module=node.module, names=aliases, level=node.level)))
            else:
                lines += [ast.unparse(ast.Import(names=[alias])) for alias in aliases]
        return lines

    def outline(self, name: str) -> str:
        """The definition if it is short, else what tells how to use it."""
        node = self.definitions[name]
        num_lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if num_lines <= SHORT_LINES:
            return self.source(node)
        if not isinstance(node, _Function | ast.ClassDef):
            return f"{name} = ...\n"
        if isinstance(node, ast.ClassDef):
            head = self.lines_of(node.lineno, max(node.lineno, node.body[0].lineno - 1)).split("\n", 1)[0] + "\n"
        else:
            head = self.lines_of(node.lineno, max(node.lineno, node.body[0].lineno - 1))
        summary = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
        said = f'    """{summary}"""\n' if summary and '"""' not in summary and "\\" not in summary else ""
        return f"{head}{said}    ...\n"


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of the module level, also under `if` and `try`."""
    for node in body:
        if isinstance(node, ast.If | ast.Try):
            yield from _statements(node.body)
        else:
            yield node


def _names(nodes: Iterable[ast.AST]) -> set[str]:
    """Names read in these nodes, decorators left out."""
    found: set[str] = set()
    for top in nodes:
        decorators = getattr(top, "decorator_list", [])
        for node in ast.walk(top):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                found.add(node.id)
        found -= {node.id for decorator in decorators for node in ast.walk(decorator) if isinstance(node, ast.Name)}
    return found


def _context(module: _Module, function: _Function, path: str, siblings: Mapping[str, str]) -> str:
    used = _names([function])
    beside = sorted(
        (name for name in used if name in module.definitions and name != function.name),
        key=lambda name: module.definitions[name].lineno,
    )
    if not beside and not any(name in module.imports for name in used):
        return ""
    room = CONTEXT_LINES
    outlines: list[str] = []
    shown: list[ast.AST] = []
    for outline in dict.fromkeys(map(module.outline, beside)):  # one assignment may bind several names
        room -= outline.count("\n")
        body = _body(outline)
        if room < 0:
            break
        if body:
            outlines.append(outline)
            shown += body
    imports = module.import_lines(sorted(used | _names(shown)))
    own = "\n\n".join(part for part in ("\n".join(imports) + "\n" if imports else "", *outlines) if part)
    others = _from_siblings(module, used, path, siblings) if siblings else ""
    return f"{others}{FILE_MARK}{path}\n{own}" if others else own


def _from_siblings(module: _Module, used: set[str], path: str, siblings: Mapping[str, str]) -> str:
    """The source of what the names used mean in other files of the package, file after file."""
    wanted: dict[str, list[str]] = {}
    for name in sorted(used & module.imports.keys()):
        node, alias = module.imports[name]
        if isinstance(node, ast.ImportFrom) and (file := _file_of(node, path, siblings)):
            wanted.setdefault(file, []).append(alias.name)
    blocks = []
    room = CONTEXT_LINES
    for file, names in sorted(wanted.items()):
        other = _parsed(siblings[file])
        nodes = sorted(
            {other.definitions[n].lineno: other.definitions[n] for n in names if n in other.definitions}.items()
        )
        sources = [other.source(node) for _, node in nodes if (node.end_lineno or 0) - node.lineno < SIBLING_LINES]
        room -= sum(source.count("\n") for source in sources)
        if not sources or room < 0:
            continue
        imports = other.import_lines(sorted(_names(node for _, node in nodes)))
        code = "\n\n".join((["\n".join(imports) + "\n"] if imports else []) + sources)
        blocks.append(f"{FILE_MARK}{file}\n{code}\n")
    return "".join(blocks)


def _file_of(node: ast.ImportFrom, path: str, siblings: Mapping[str, str]) -> str:
    """The path among the siblings that the import reads from; empty where there is none."""
    folders = path.split("/")[:-1]
    inner = (node.module or "").split(".") if node.module else []
    if node.level:
        roots = [folders[: len(folders) - node.level + 1]] if node.level <= len(folders) else []
    else:
        roots = [folders[:depth] for depth, folder in enumerate(folders) if inner and folder == inner[0]]
    for root in roots:
        stem = posixpath.join(*root, *inner) if root or inner else ""
        for candidate in (f"{stem}.py", f"{stem}/__init__.py"):
            if candidate != path and candidate in siblings:
                return candidate
    return ""


def _body(source: str) -> list[ast.stmt]:
    """The statements of the source; none where it does not parse by itself."""
    tree = parsed(source)
    return tree.body if tree else []


@functools.lru_cache(maxsize=64)
def _parsed(text: str) -> _Module:
    return _Module(text, ast.Module(body=_body(text), type_ignores=[]))
