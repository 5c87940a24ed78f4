"""First step of mining: which functions of a distribution could become problems. Nothing is run.

A candidate is a documented function at module level whose docstring has examples, or that the distribution's own tests
call on plain data, and that stands alone (`module`).
"""

import ast
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from app.cluster.job_queue import at
from app.corpus.clean.cleaning import clean
from app.corpus.mining.calls_in_tests import from_tests, is_test
from app.corpus.mining.closure import Package, dotted
from app.corpus.mining.dangers import NotSelfContainedError
from app.corpus.mining.docstring_examples import from_docstring
from app.corpus.mining.module import Module
from app.corpus.mining.records import STAGES, Call, Candidate, Mined, NoProblemError
from app.corpus.mining.statement import (
    MAX_DOCSTRING_CHARS,
    bare_arguments,
    is_too_poor,
    is_trivial,
    without_lines,
    without_paths,
)
from app.corpus.recipes import Cleaning
from app.corpus.records import PROBLEM, Origin, Rejected, RejectedFileError
from app.corpus.sources.distributions import Distribution, SourceFile
from app.corpus.sources.headers import judge_header
from app.corpus.sources.untrusted import failure
from app.files.python_source import parsed

MAX_FUNCTION_LINES = 100
"""Lines of a function at most, without its docstring."""
MAX_CALLS = 24
"""Calls that are kept of one function, in the order of the files."""
_SEEN, _SEEDS, _ALONE = STAGES[:3]
_UNEXPECTED = {RecursionError: "too deeply nested", SyntaxError: "no whole lines of its file"}
MAX_TEST_BYTES = 1_000_000
Read = Callable[[SourceFile], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Function:
    """A module-level function of a distribution."""

    module: Module
    node: ast.FunctionDef


def find_candidates(
    distribution: Distribution,
    read: Read,
    split: str,
    *,
    rules: Cleaning | None = None,
    also_allow: frozenset[str] = frozenset(),
) -> Mined:
    """Candidates in the order of paths and lines, rejections, and counts of the first three stages.

    read: gives a file's bytes; a file for which it raises OSError or RejectedFileError is left out, as are files that
    `app.corpus.clean.cleaning.clean` refuses.
    """
    mined = Mined()
    rules = rules or Cleaning()
    modules = list(_modules(distribution, read, rules, also_allow, mined))
    if reason := at(f"{distribution.name}: its modules together"):
        mined.rejections.append(refused(distribution, "", reason))
        return mined
    package = Package(modules)
    functions = [_Function(module=module, node=node) for module in modules for node in module.functions]
    mined.counts[_SEEN] = len(functions)
    called = _calls_in_tests(functions, _tests(distribution, read, also_allow, mined))
    digests: set[str] = set()
    for function, calls in zip(functions, called, strict=True):
        path, name = function.module.path, function.node.name
        try:
            if reason := at(f"{distribution.name}: {path}: {name}"):
                raise NoProblemError(reason)
            candidate = _candidate(function, package, calls, distribution, split, mined, rules.min_docstring_chars)
            if candidate is not None:
                if candidate.digest in digests:
                    raise NoProblemError("a copy of another function")
                digests.add(candidate.digest)
                mined.candidates.append(candidate)
        except (NotSelfContainedError, NoProblemError, RecursionError, SyntaxError) as error:
            reason = _UNEXPECTED.get(type(error), str(error))
            mined.rejections.append(refused(distribution, path, reason, name))
        except Exception as error:  # whatever a function holds is its own matter: it ends no build
            mined.rejections.append(refused(distribution, path, failure(error), name))
    mined.counts[_ALONE] = len(mined.candidates)
    return mined


def _modules(
    distribution: Distribution, read: Read, rules: Cleaning, also_allow: frozenset[str], mined: Mined
) -> Iterator[Module]:
    for file in distribution.files:
        if is_test(file.path):
            continue
        reason = at(f"{distribution.name}: {file.path}")
        try:
            if not reason:
                licence = file.licence or distribution.verdict.licence
                cleaned = clean(read(file), file.path, rules, also_allow, licence)
                if cleaned.copyright:
                    mined.copyright[file.path] = cleaned.copyright
                yield Module(file.path, cleaned.text, cleaned.tree, cleaned.licence)
        except (RejectedFileError, OSError, RecursionError):
            continue
        except Exception as error:  # whatever a file holds is its own matter: it ends no build
            reason = failure(error)
        if reason:
            mined.rejections.append(refused(distribution, file.path, reason))


def refused(distribution: Distribution, path: str, reason: str, name: str = "") -> Rejected:
    """The record of what is refused. name: of the function; empty for a whole file."""
    return Rejected(origin=_origin(distribution, path), name=name, what=PROBLEM, reason=reason)


def _origin(d: Distribution, path: str, licence: str = "") -> Origin:
    return Origin(distribution=d.name, version=d.version, licence=licence or d.verdict.licence, path=path)


def _tests(
    distribution: Distribution, read: Read, also_allow: frozenset[str], mined: Mined
) -> Iterator[tuple[ast.Module, str]]:
    """Syntax trees and licences of the test files, one at a time. They are read for calls, so nothing is cleaned; one
    whose head names a licence that is not taken is left out."""
    for file in distribution.files:
        if is_test(file.path):
            if reason := at(f"{distribution.name}: {file.path}"):
                mined.rejections.append(refused(distribution, file.path, reason))
                continue
            try:
                raw = read(file)
            except (RejectedFileError, OSError):
                continue
            if len(raw) <= MAX_TEST_BYTES and (tree := parsed(raw)):
                text = raw.decode("utf-8-sig", "replace").replace("\r\n", "\n").replace("\r", "\n")
                verdict = judge_header(text, file.licence or distribution.verdict.licence, also_allow)
                if verdict.approved:
                    yield tree, verdict.licence


def _calls_in_tests(functions: list[_Function], tests: Iterable[tuple[ast.Module, str]]) -> list[list[Call]]:
    """The calls of each function in tests under its licence that import it from where it is, or from a package
    above."""
    by_name: dict[str, list[int]] = {}
    for index, function in enumerate(functions):
        by_name.setdefault(function.node.name, []).append(index)
    found: list[list[Call]] = [[] for _ in functions]
    for tree, licence in tests:
        try:
            calls = list(from_tests(tree))
        except Exception:  # a test file that can't be understood gives no calls
            continue
        for module, name, call in calls:
            modules = ((place, functions[place].module) for place in by_name.get(name, ()))
            places = [i for i, one in modules if one.licence == licence and _may_be(module, dotted(one.path))]
            if len(places) == 1 and len(found[places[0]]) < MAX_CALLS:
                found[places[0]].append(call)
    return found


def _may_be(imported: str, module: str) -> bool:
    """Whether `from imported import f` may give the f of a module: itself or a package above it."""
    return not imported or f".{imported}." in f".{module}."


def _calls_in_module(function: _Function) -> list[Call]:
    """Calls in the examples of the module's own docstring."""
    docstring = ast.get_docstring(function.module.tree)
    if not docstring or f"{function.node.name}(" not in docstring:
        return []
    return [replace(call, from_docstring=False) for call in from_docstring(function.node.name, docstring).calls]


def _candidate(
    function: _Function,
    package: Package,
    in_tests: list[Call],
    distribution: Distribution,
    split: str,
    mined: Mined,
    min_docstring_chars: int,
) -> Candidate | None:
    """The candidate that a function makes; None for one without documented examples or calls. Raises
    NotSelfContainedError, NoProblemError."""
    node, module = function.node, function.module
    docstring = ast.get_docstring(node)
    if not docstring or node.name.startswith("__"):
        return None
    examples = from_docstring(node.name, docstring)
    calls = [*examples.calls, *_calls_in_module(function), *in_tests][:MAX_CALLS]
    if not calls:
        return None
    mined.counts[_SEEDS] += 1
    _refuse_unfit(node)
    if len(docstring) < min_docstring_chars:
        raise NoProblemError(f"too short a docstring: {len(docstring)} characters")
    has_examples = any(call.from_docstring for call in examples.calls)
    docstring = without_lines(docstring, examples.lines_to_drop if has_examples else examples.lines)
    docstring = without_paths(docstring, node.name)
    if len(docstring) > MAX_DOCSTRING_CHARS:
        raise NoProblemError(f"too long a docstring: {len(docstring)} characters")
    if is_too_poor(docstring):
        raise NoProblemError("says too little: its docstring")
    signature, body, prelude = _standing_alone(node, module, package)
    return Candidate(
        id=f"{distribution.name}/{function.module.path}/{node.name}",
        origin=_origin(distribution, module.path, module.licence),
        split=split,
        entry_point=node.name,
        prelude=prelude,
        signature=signature,
        docstring=docstring,
        body=body,
        calls=tuple(calls),
        digest=_digest(node),
        undecorated=bool(node.decorator_list) and "@" not in signature.partition("def ")[0],
    )


def _refuse_unfit(node: ast.FunctionDef) -> None:
    if len(node.body) == 1:
        raise NoProblemError("trivial: it has no body")
    if is_trivial(node):
        raise NoProblemError("trivial: it only gives back or passes on its arguments")
    if _is_generator(node):
        raise NoProblemError("a generator: its values can't be compared")
    first, second = node.body[:2]
    if (num_lines := (node.end_lineno or 0) - (first.end_lineno or 0)) > MAX_FUNCTION_LINES:
        raise NoProblemError(f"too long a function: {num_lines} lines")
    if first.lineno <= node.lineno or second.lineno <= (first.end_lineno or 0):
        raise NoProblemError("laid out on one line")


def _is_generator(node: ast.FunctionDef) -> bool:
    waiting: list[ast.AST] = list(node.body)
    while waiting:
        part = waiting.pop()
        if isinstance(part, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(part, ast.FunctionDef | ast.Lambda | ast.ClassDef | ast.AsyncFunctionDef):
            waiting.extend(ast.iter_child_nodes(part))
    return False


def _standing_alone(node: ast.FunctionDef, module: Module, package: Package) -> tuple[str, str, str]:
    """Signature, body and prelude. Decorators are left out where they need something from elsewhere, then annotations
    too. Raises NotSelfContainedError for what is wrong with the function as it is."""
    docstring = node.body[0]
    assert docstring.end_lineno is not None and node.end_lineno is not None
    body = "".join(module.lines[docstring.end_lineno : node.end_lineno])
    first = min([node.lineno, *(item.lineno for item in node.decorator_list)])
    starts = dict.fromkeys((first, node.lineno))
    signatures = ["".join(module.lines[start - 1 : docstring.lineno - 1]) for start in starts]
    refusal: NotSelfContainedError | None = None
    for signature in (*signatures, f"def {node.name}({ast.unparse(bare_arguments(node.args))}):\n"):
        try:
            return signature, body, package.prelude(module, node.name, signature + body)
        except NotSelfContainedError as error:
            refusal = refusal or error
    assert refusal is not None
    raise refusal


def _digest(node: ast.FunctionDef) -> str:
    bare = ast.FunctionDef("f", node.args, node.body[1:], [], None)
    text = ast.dump(bare).replace(f"id='{node.name}'", "id='f'")
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
