"""First step of mining: which functions of a distribution could become problems. Nothing is run.

A candidate is a documented function at module level whose docstring has examples, or that the distribution's own tests
call on plain data, and that stands alone (`module`).
"""

import ast
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from app.corpus.cleaning import RejectedFileError, clean
from app.corpus.mining.module import Module, NotSelfContainedError
from app.corpus.mining.records import STAGES, Call, Candidate, Mined, Rejection
from app.corpus.mining.seeds import MAX_CALLS, dotted, from_docstring, from_tests, is_test
from app.corpus.mining.statement import MAX_DOCSTRING_CHARS, is_too_poor, is_trivial, without_lines, without_paths
from app.corpus.packages import Distribution, SourceFile
from app.corpus.recipes import Cleaning
from app.corpus.records import Origin

MAX_FUNCTION_LINES = 100
_SEEN, _SEEDS, _ALONE = STAGES[:3]
_RULES = Cleaning()
Read = Callable[[SourceFile], bytes]
Clean = Callable[[bytes, str], tuple[str, ast.Module]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Function:
    """A module-level function of a distribution."""

    module: Module
    path: str
    node: ast.FunctionDef


class RejectedFunctionError(ValueError):
    """The function becomes no candidate; the text is the reason."""


def find_candidates(
    distribution: Distribution, read: Read, split: str, *, also_allow: frozenset[str] = frozenset()
) -> Mined:
    """Candidates in the order of paths and lines, rejections, and counts of the first three stages.

    read: gives a file's bytes; a file for which it raises OSError or RejectedFileError is left out, as are files that
    `app.corpus.cleaning.clean` refuses.
    """
    mined = Mined()
    functions: list[_Function] = []
    tests: list[ast.Module] = []
    for file in distribution.files:
        try:
            text, tree = clean(read(file), file.path, _RULES, also_allow)
        except (RejectedFileError, OSError):
            continue
        if is_test(file.path):
            tests.append(tree)
        else:
            module = Module(text, tree)
            functions += [_Function(module=module, path=file.path, node=node) for node in module.functions]
    mined.counts[_SEEN] = len(functions)
    called = _calls_in_tests(functions, tests)
    digests: set[str] = set()
    for function, calls in zip(functions, called, strict=True):
        try:
            candidate = _candidate(function, calls, distribution, split, mined)
            if candidate is not None:
                if candidate.digest in digests:
                    raise RejectedFunctionError("a copy of another function")
                digests.add(candidate.digest)
                mined.candidates.append(candidate)
        except (NotSelfContainedError, RejectedFunctionError) as error:
            place = {"distribution": distribution.name, "path": function.path, "name": function.node.name}
            mined.rejections.append(Rejection(**place, stage=_ALONE, reason=str(error)))
    mined.counts[_ALONE] = len(mined.candidates)
    return mined


def _calls_in_tests(functions: list[_Function], tests: Iterable[ast.Module]) -> list[list[Call]]:
    """For each function the calls in tests that import it from where it is, or from a package above."""
    by_name: dict[str, list[int]] = {}
    for index, function in enumerate(functions):
        by_name.setdefault(function.node.name, []).append(index)
    found: list[list[Call]] = [[] for _ in functions]
    for tree in tests:
        for module, name, call in from_tests(tree):
            places = [i for i in by_name.get(name, ()) if _may_be(module, dotted(functions[i].path))]
            if len(places) == 1 and len(found[places[0]]) < MAX_CALLS:
                found[places[0]].append(call)
    return found


def _may_be(imported: str, module: str) -> bool:
    """Whether `from imported import f` may give the f of a module: itself or a package above it."""
    return not imported or f".{imported}." in f".{module}."


def _candidate(
    function: _Function, in_tests: list[Call], distribution: Distribution, split: str, mined: Mined
) -> Candidate | None:
    """None for a function without documented examples or calls. Raises NotSelfContainedError, RejectedFunctionError."""
    node, module = function.node, function.module
    docstring = ast.get_docstring(node)
    if not docstring or node.name.startswith("__"):
        return None
    examples = from_docstring(node.name, docstring)
    calls = [*examples.calls, *in_tests][:MAX_CALLS]
    if not calls:
        return None
    mined.counts[_SEEDS] += 1
    _refuse_unfit(node)
    docstring = without_lines(docstring, examples.lines_to_drop if examples.calls else examples.lines)
    docstring = without_paths(docstring, node.name)
    if len(docstring) > MAX_DOCSTRING_CHARS:
        raise RejectedFunctionError(f"too long a docstring: {len(docstring)} characters")
    if is_too_poor(docstring):
        raise RejectedFunctionError("says too little: its docstring")
    prelude = module.prelude(node)
    signature, body = _parts(node, module)
    origin = Origin(
        distribution=distribution.name,
        version=distribution.version,
        licence=distribution.verdict.licence,
        path=function.path,
    )
    return Candidate(
        id=f"{distribution.name}/{function.path}/{node.name}",
        origin=origin,
        split=split,
        entry_point=node.name,
        prelude=prelude,
        signature=signature,
        docstring=docstring,
        body=body,
        calls=tuple(calls),
        digest=_digest(node),
    )


def _refuse_unfit(node: ast.FunctionDef) -> None:
    if len(node.body) == 1:
        raise RejectedFunctionError("trivial: it has no body")
    if is_trivial(node):
        raise RejectedFunctionError("trivial: it only gives back or passes on its arguments")
    if _is_generator(node):
        raise RejectedFunctionError("a generator: its values can't be compared")
    if (node.end_lineno or 0) - node.lineno > MAX_FUNCTION_LINES:
        raise RejectedFunctionError(f"too long a function: {(node.end_lineno or 0) - node.lineno} lines")
    first, second = node.body[:2]
    if first.lineno <= node.lineno or second.lineno <= (first.end_lineno or 0):
        raise RejectedFunctionError("laid out on one line")


def _is_generator(node: ast.FunctionDef) -> bool:
    waiting: list[ast.AST] = list(node.body)
    while waiting:
        part = waiting.pop()
        if isinstance(part, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(part, ast.FunctionDef | ast.Lambda | ast.ClassDef | ast.AsyncFunctionDef):
            waiting.extend(ast.iter_child_nodes(part))
    return False


def _parts(node: ast.FunctionDef, module: Module) -> tuple[str, str]:
    """Source before and after the docstring."""
    lines = module.lines
    first = min([node.lineno, *(item.lineno for item in node.decorator_list)])
    docstring = node.body[0]
    assert docstring.end_lineno is not None and node.end_lineno is not None
    signature = "".join(lines[first - 1 : docstring.lineno - 1])
    return signature, "".join(lines[docstring.end_lineno : node.end_lineno])


def _digest(node: ast.FunctionDef) -> str:
    bare = ast.FunctionDef("f", node.args, node.body[1:], [], None)
    text = ast.dump(bare).replace(f"id='{node.name}'", "id='f'")
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
