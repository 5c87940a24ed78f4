"""The choice of documented functions worth asking for: told so that a reader who knows Python can write them.

A function makes a poor exercise when its docstring says little, or little for its code, when it is long, when it only
passes its arguments on, when it needs constants or imports that nothing shows (`app.corpus.examples.shown`), or when
its body lives on names that the prompt does not explain: classes and helpers of its own package, methods of its
framework. `self_contained` is the share of a body's names and attributes that a reader can know.
Limits: attributes are known by their name alone (`.append` of whatever object); quoted annotations are not looked at.
"""

import ast
import builtins
import functools
import re
import sys

from app.corpus.examples.shown import (
    KNOWN_ATTRIBUTES,
    MAX_HIDDEN,
    Function,
    hidden_imports,
    hidden_words,
    nodes_of,
)
from app.corpus.mining.statement import is_trivial
from app.corpus.records import Document
from app.files import python_source

MAX_LINES = 60
MIN_WORDS = 5
LINES_PER_WORD = 2
"""Lines of code that one word of a docstring can tell of, at most."""
MIN_SELF_CONTAINED = 0.9
MAX_UNKNOWN = 2
"""Names and attributes that may be unknown, whatever their share."""
_BUILTINS = frozenset(dir(builtins))
_SECTION = re.compile(
    r"^[^\S\n]*(?:>>>|:\w+[^:\n]*:|@\w+|\.\. ?\w+|(?:args?|arguments?|params?|parameters?|returns?|yields?|raises?|"
    r"notes?|examples?|usage|see also|references?|inputs?|outputs?|keyword arguments|warnings?)\s*:?\s*$)",
    re.MULTILINE | re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_]{2,}")
_SIGNATURE = re.compile(r"\A\w+\([^\n]*\)(?: *->[^\n]*)?\n\s*")
_POINTS_ELSEWHERE = re.compile(
    r"^\W*(?:see\b|refer to|same as|alias (?:of|for)|(?:thin |simple )?wrapper (?:for|of|around|over)|wraps\b|"
    r"shorthand|equivalent (?:of|to)|like :|convenience\b|backwards?[ -]compat|overrid\w+|inherit|internal\b|copied|"
    r"adapted|this (?:function|method) (?:is a|wraps)\b[^.]*wrapper|to be (?:called|used)|entry[ -]?point\b|"
    r"main (?:function|entry))"
    r"|\b(?:base|parent|super) ?class\b|\b(?:see|cf\.?) (?:the )?(?:docs?|documentation|docstring|:\w+:|https?:)",
    re.IGNORECASE,
)
_UNFINISHED = re.compile(
    r"\b(?:deprecated|todo|fixme|xxx|not implemented|placeholder|legacy|experimental|do not use|probably should)\b",
    re.IGNORECASE,
)
_CONDITIONS = ("if", "when", "note")
_ENGLISH = frozenset(
    "the a an of to in is are for and or with from by on if that this it as at be into given returns return".split()
)


def unfit_reason(document: Document) -> str:
    """Why the function is left out of "doc_to_code"; empty when it is fit. The words before ":" are the kind."""
    num_lines = document.text.count("\n")
    if num_lines > MAX_LINES:
        return f"long function: {num_lines} lines"
    function = parsed(document.text)
    if function is None:
        return "not one function: it does not parse by itself"
    if reason := poor_docstring(ast.get_docstring(function) or ""):
        return f"poor docstring: {reason}"
    if isinstance(function, ast.FunctionDef) and is_trivial(function):
        return "trivial function: it only passes on what it gets"
    if reason := _too_little_told(function):
        return f"too little told: {reason}"
    share, unknown = self_contained(function, document.context)
    if share < MIN_SELF_CONTAINED or len(unknown) > MAX_UNKNOWN:
        return f"not self-contained: it uses {', '.join(unknown[:5])}"
    shown = document.header + document.context
    if imported := hidden_imports(function, shown):
        return f"hidden imports: {', '.join(imported[:5])}"
    hidden = hidden_words(function.body[1:], shown)
    if len(hidden) > MAX_HIDDEN:
        return f"hidden constants: {', '.join(hidden[:5])}"
    return ""


def _too_little_told(function: Function) -> str:
    """Why the docstring is too short for the code; empty when it is not."""
    num_words = len(_WORD.findall(ast.get_docstring(function) or ""))
    lines = {n.lineno for part in function.body[1:] for n in ast.walk(part) if isinstance(n, ast.stmt | ast.expr)}
    return f"{len(lines)} lines in {num_words} words" if len(lines) > LINES_PER_WORD * num_words else ""


@functools.lru_cache(maxsize=4)
def parsed(text: str) -> Function | None:
    """The function that the source defines."""
    tree = python_source.parsed(text)
    return tree.body[0] if tree and tree.body and isinstance(tree.body[0], Function) else None


def prose_of(docstring: str) -> str:
    """What a docstring says before its examples, fields and sections, without a signature that it begins with."""
    return _SIGNATURE.sub("", _SECTION.split(docstring, maxsplit=1)[0].strip())


@functools.lru_cache(maxsize=4)
def poor_docstring(docstring: str) -> str:
    """Why a function can't be written, or learnt to be described, from its docstring; empty when it can."""
    prose = prose_of(docstring)
    words = _WORD.findall(prose)
    if len(words) < MIN_WORDS:
        return f"{len(words)} words of prose"
    letters = [c for c in docstring if c.isalpha()]
    if sum(c.isascii() for c in letters) < 0.95 * len(letters):
        return "not English"
    if len(words) >= 8 and not any(word.lower() in _ENGLISH for word in words):
        return "not English"
    if _POINTS_ELSEWHERE.search(prose):
        return "it points elsewhere"
    if words[0].lower() in _CONDITIONS:
        return "it begins with a condition"
    if _UNFINISHED.search(docstring):
        return "deprecated or unfinished"
    return ""


def self_contained(function: Function, context: str) -> tuple[float, list[str]]:
    """Share of the function's names and attributes that its reader can know, and the others in alphabetical order.

    Known are builtins, what the function itself binds, modules of the standard library with all they hold, code that
    the context shows whole, and attributes of the common types.
    """
    modules, shown = _given(context)
    bound = _bound(function)
    for node in nodes_of(function):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules |= _stdlib_names(node)
            bound -= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    known: set[str] = set()
    unknown: set[str] = set()
    of_module: set[int] = set()
    for node in nodes_of(function):  # an attribute comes before what it is an attribute of
        if isinstance(node, ast.Attribute):
            root: ast.expr = node
            while isinstance(root, ast.Attribute):
                root = root.value
            if isinstance(root, ast.Name) and root.id in modules - bound:
                of_module.add(id(root))
                known.add(ast.unparse(node))
            elif node.attr in KNOWN_ATTRIBUTES or node.attr in shown:
                known.add(f".{node.attr}")
            else:
                unknown.add(f".{node.attr}")
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and id(node) not in of_module:
            if node.id in bound or node.id in _BUILTINS or node.id in modules or node.id in shown:
                known.add(node.id)
            else:
                unknown.add(node.id)
    return len(known) / max(1, len(known) + len(unknown)), sorted(unknown)


def _bound(function: Function) -> set[str]:
    """Names that the function gives a meaning: itself, parameters, what it assigns, inner functions."""
    bound = {function.name}
    for node in nodes_of(function):
        match node:
            case ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                bound.add(name)
            case ast.ClassDef(name=name) | ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                bound.add(name)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                bound.add(name)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                bound |= {alias.asname or alias.name.partition(".")[0] for alias in aliases}
    return bound


@functools.lru_cache(maxsize=4)
def _given(context: str) -> tuple[set[str], set[str]]:
    """What a context gives: names imported from the standard library; names whose code it shows whole, and the
    attributes that this code defines."""
    modules: set[str] = set()
    shown: set[str] = set()
    tree = python_source.parsed(context)
    for node in tree.body if tree else ():
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules |= _stdlib_names(node)
        elif isinstance(node, Function | ast.ClassDef):
            if not _is_ellipsis(node.body[-1]):
                shown |= {node.name} | (_attributes(node) if isinstance(node, ast.ClassDef) else set())
        elif isinstance(node, ast.Assign | ast.AnnAssign) and not _is_ellipsis(node):
            shown |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return modules, shown


def _attributes(node: ast.ClassDef) -> set[str]:
    """Methods and fields that a class shows."""
    methods = {part.name for part in node.body if isinstance(part, Function)}
    fields = {p.target.id for p in node.body if isinstance(p, ast.AnnAssign) and isinstance(p.target, ast.Name)}
    return methods | fields | {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}


def _is_ellipsis(node: ast.stmt) -> bool:
    value = node.value if isinstance(node, ast.Expr | ast.Assign | ast.AnnAssign) else None
    return isinstance(value, ast.Constant) and value.value is Ellipsis


def _stdlib_names(node: ast.Import | ast.ImportFrom) -> set[str]:
    if isinstance(node, ast.ImportFrom):
        top = (node.module or "").partition(".")[0] if node.level == 0 else ""
        return {alias.asname or alias.name for alias in node.names} if top in sys.stdlib_module_names else set()
    return {
        alias.asname or alias.name.partition(".")[0]
        for alias in node.names
        if alias.name.partition(".")[0] in sys.stdlib_module_names
    }
