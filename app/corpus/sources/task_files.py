"""Solved problems from the training splits of LeetCodeDataset, MBPP and APPS: a file of the user's, or from the Hub.

The readers that the suites have as well (`app.problem_sets`) read the files; here their references become programs to
learn from: of the imports that a suite's harness puts before every program, those stay that the reference uses. Only
training data is taken: MBPP's tasks 601 to 974, and files of the other two that no test file's name is given to.
Problems belong to no distribution, so each is put on its side of the split by its id.

Limits: nothing is run here; the build proves them and makes the bugs (`app.corpus.mining.storage`). A problem
whose tests exchange linked nodes is left out: its program would hold the code that converts them.
"""

import ast
import builtins
import dataclasses
import importlib
import json
import re
import symtable
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from app.corpus.recipes import AppsTrain, LeetCodeTrain, MbppTrain, Recipe, TaskSource, split_of
from app.corpus.records import Origin, SolvedProblem
from app.errors import UserError
from app.files.table_rows import Unreadable, readable_rows
from app.files.text import one_line, shown
from app.files.user_files import user_path
from app.problem_sets import apps, leetcode, linked_nodes, mbpp
from app.problem_sets.problem_files import hub_file
from app.problem_sets.task import Task
from app.records import Problem

HUB_FILES = {
    "leetcode": (leetcode.HUB, "LeetCodeDataset-train.jsonl", "3 MB"),
    "mbpp_train": (mbpp.HUB, "full/train-00000-of-00001.parquet", "0.1 MB"),
    "apps": (apps.HUB, "train.jsonl", "110 MB"),
}
"""Repository and file of each source, and about how large the file is."""
DIFFICULTIES = {"introductory": "easy", "interview": "medium", "competition": "hard", "": "easy"}
"""APPS' words, and MBPP, which has none and is made of tasks for beginners."""
STAR_MODULES = ("typing", "functools", "collections", "itertools", "heapq", "bisect", "string", "operator", "math")
"""Modules whose `import *` is understood; nothing else is imported because a data file says so."""
_STARTER = re.compile(r"\n[^\n]*(?:complete the following[^\n]*\n)?```(?:python)?\n.*\Z", re.DOTALL)
_SIGNATURE = re.compile(r"\n(?:class Solution\b|def ).*\Z", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedProblem:
    """A problem that is not used. Made here; written by the build to rejected.parquet."""

    id: str
    reason: str


def solved_problems(source: TaskSource, recipe: Recipe, seed: int) -> tuple[list[SolvedProblem], list[RejectedProblem]]:
    """The source's problems in their order, and those left out with the reason.

    Raises UserError when the policy forbids the source, when it is no training file, or when it can't be had.
    """
    if reason := forbidden(source, recipe):
        raise UserError(reason)
    kept: list[SolvedProblem] = []
    rejected: list[RejectedProblem] = []
    for task in tasks_of(source):
        if isinstance(task, Task) and not source.takes(task.problem.id):
            continue
        made = _made(source, task, recipe, seed) if isinstance(task, Task) else task
        if isinstance(made, RejectedProblem):
            rejected.append(made)
        else:
            kept.append(made)
    return kept, rejected


def forbidden(source: TaskSource, recipe: Recipe) -> str:
    """Why the recipe's licence policy forbids the source; empty when it does not."""
    if recipe.licences.allow_non_osi:
        return ""
    return (
        f"{source.kind} is for evaluation only ({source.non_osi}): take it out of the recipe's sources, or set "
        "licences.allow_non_osi: true, which the manifest and the report then show"
    )


def is_on_disk(source: TaskSource) -> bool:
    """Whether the source's file is here: the user's, or in the Hub's cache."""
    if source.path:
        return user_path(source.path).is_file()
    from huggingface_hub import try_to_load_from_cache

    repository, file, _ = HUB_FILES[source.kind]
    return isinstance(try_to_load_from_cache(repository, file, repo_type="dataset"), str)


def tasks_of(source: TaskSource) -> Iterator[Task | RejectedProblem]:
    """The training problems of the source's file; a row that can't be read, or has no tests, with the reason.

    Raises UserError when the file can't be had or none of its rows can be read.
    """
    path = file_of(source)
    first: RejectedProblem | None = None
    is_any = False
    for number, row in enumerate(readable_rows(path, f"source {shown(str(path))}"), 1):
        if isinstance(row, Unreadable):
            yield RejectedProblem(id=f"{path.name}, {row.place}", reason=f"unreadable: {row.reason}")
            continue
        named = row.get("task_id", row.get("problem_id"))
        name = f"{path.name}, row {number}" + ("" if named is None else f" ({one_line(named)})")
        try:
            tasks = _read(source, row)
        except Exception as error:  # whatever a row holds is its own matter: it ends no build
            words = str(error).partition(": give ")[0] if isinstance(error, UserError) else type(error).__name__
            rejected = RejectedProblem(id=name, reason=f"unreadable: {one_line(words)}")
            first = first or rejected
            yield rejected
            continue
        is_any = True
        if not tasks:
            yield RejectedProblem(id=name, reason="no tests: none that can be read")
        yield from (task for task in tasks if not isinstance(source, MbppTrain) or task.problem.split == "train")
    if first and not is_any:
        raise UserError(f"source {source.kind}: none of the rows of {path} can be read: {first.id}: {first.reason}")


def _read(source: TaskSource, row: dict[str, Any]) -> list[Task]:
    """The row's problem as its suite reads it; none where it has no tests. Raises UserError and what odd values do."""
    match source:
        case MbppTrain():
            return mbpp.tasks_of([row], "the row")
        case LeetCodeTrain():
            return leetcode.tasks_of([row], "the row")
        case _:
            return apps.tasks_of([row], "the row", "")[0]


def file_of(source: TaskSource) -> Path:
    """The user's file, or the Hub's. A file that is named as a test file is refused."""
    if not source.path:
        repository, file, _ = HUB_FILES[source.kind]
        return hub_file(f"source {source.kind}", repository, file, "the source's path")
    path = user_path(source.path).resolve()
    if not path.is_file():
        raise UserError(f"source path {source.path!r} is no file: give the training file of {source.kind}")
    if not isinstance(source, MbppTrain) and "test" in path.name.lower():
        raise UserError(f"source path {source.path!r} is a test file by its name: give the training file")
    return path


def _made(source: TaskSource, task: Task, recipe: Recipe, seed: int) -> SolvedProblem | RejectedProblem:
    try:
        made = _solved(source, task, recipe, seed)
        if not isinstance(made, str):
            json.dumps(dataclasses.asdict(made), ensure_ascii=False).encode()
    except Exception as error:  # unforeseen types, half surrogate pairs
        made = f"unreadable: {type(error).__name__}"
    return RejectedProblem(id=one_line(task.problem.id), reason=made) if isinstance(made, str) else made


def _solved(source: TaskSource, task: Task, recipe: Recipe, seed: int) -> SolvedProblem | str:
    """The problem with its solution, or why it is left out."""
    problem = task.problem
    if linked_nodes.are_used(problem):
        return "linked nodes: its tests exchange lists or trees of nodes"
    if not task.canonical_solution.strip():
        return "no solution: the data set has none"
    code = task.canonical_solution.replace("\r\n", "\n").strip() + "\n"
    description = problem.prompt
    if isinstance(source, LeetCodeTrain):
        description = _STARTER.sub("", problem.prompt)
        code_before = problem.prelude
    elif isinstance(source, AppsTrain):
        description = _SIGNATURE.sub("", problem.prompt) if problem.entry_point else problem.prompt
        code_before = apps.IMPORTS
        if problem.entry_point and "class Solution" in code:
            problem = dataclasses.replace(problem, entry_point=f"Solution().{problem.entry_point}")
    else:
        code_before = ""
    try:
        solution = with_imports(code_before, code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"does not parse as Python 3: {type(error).__name__}"
    return SolvedProblem(
        problem=_placed(problem, recipe, seed),
        solution=solution,
        description=description.strip(),
        bugs=(),
        origin=Origin(distribution=source.kind, version="", licence=problem.licence, path=problem.id),
    )


def _placed(problem: Problem, recipe: Recipe, seed: int) -> Problem:
    difficulty = DIFFICULTIES.get(problem.difficulty, problem.difficulty.lower())
    return dataclasses.replace(problem, difficulty=difficulty, split=split_of(problem.id, seed, recipe))


def with_imports(before: str, code: str) -> str:
    """The code after those statements of `before` that it needs; of an `import *` it gets the names that it uses.

    Raises SyntaxError or ValueError for code that Python can't parse.
    """
    if "from __future__" in code:
        return code
    origins = _origins(before)
    wanted: dict[str, _Statement] = {}
    names = _free_names(code)
    while names := {name for name in names if name in origins and name not in wanted}:
        wanted |= {name: origins[name] for name in names}
        names = {free for name in names for free in _free_names(origins[name].text)}
    stars: dict[str, list[str]] = {}
    for name, statement in sorted(wanted.items()):
        if statement.module:
            stars.setdefault(statement.module, []).append(name)
    imports = {f"from {module} import {', '.join(names)}" for module, names in stars.items()}
    others = sorted({s for s in wanted.values() if s.text}, key=lambda s: s.number)
    imports |= {s.text for s in others if s.is_import}
    definitions = [s.text for s in others if not s.is_import]
    return "\n\n\n".join(["\n".join(sorted(imports)), *definitions, code]).lstrip("\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Statement:
    """What defines a name: the module of an `import *`, else a statement of its own and its place."""

    number: int
    module: str = ""
    text: str = ""
    is_import: bool = False


@cache
def _origins(before: str) -> dict[str, _Statement]:
    """What defines each name but those of builtins last, as it would when `before` runs."""
    found: dict[str, _Statement] = {}
    for number, node in enumerate(ast.parse(before).body):
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            if node.module in STAR_MODULES:
                module = importlib.import_module(node.module)
                names = getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")])
                found |= {name: _Statement(number=number, module=node.module) for name in names}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                single = ast.unparse(_only(node, alias))
                name = alias.asname or alias.name.partition(".")[0]
                found[name] = _Statement(number=number, text=single, is_import=True)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = _Statement(number=number, text=ast.unparse(node))
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = _Statement(number=number, text=ast.unparse(node))
    return {name: statement for name, statement in found.items() if not hasattr(builtins, name)}


def _only(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> ast.stmt:
    if isinstance(node, ast.Import):
        return ast.Import(names=[alias])
    return ast.ImportFrom(module=node.module, names=[alias], level=node.level)


def _free_names(code: str) -> set[str]:
    """Names that the code looks up and does not define."""
    module = symtable.symtable(code, "<program>", "exec")
    defined = {symbol.get_name() for symbol in module.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    used: set[str] = set()
    tables = [module]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        used |= {s.get_name() for s in table.get_symbols() if s.is_referenced() and (table is module or s.is_global())}
    return used - defined


def given_problems(recipe: Recipe, seed: int) -> tuple[list[SolvedProblem], list[RejectedProblem]]:
    """The problems of the recipe's training splits, each once, and those left out."""
    kept: dict[str, SolvedProblem] = {}
    refused: list[RejectedProblem] = []
    for source in recipe.sources:
        if isinstance(source, TaskSource):
            problems, rejected = solved_problems(source, recipe, seed)
            refused += rejected
            for solved in problems:
                if kept.setdefault(solved.problem.id, solved) is not solved:
                    refused.append(RejectedProblem(id=solved.problem.id, reason="duplicate: its id was there before"))
    return list(kept.values()), refused
