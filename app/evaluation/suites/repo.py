"""Multi-file coherence: complete one function whose helpers and types live in other files of its package.

The problems are this project's own, one YAML file a package under datasets/benchmarks/repo (README.md there tells the
form; --problems takes a file or folder of the same form). A prompt holds every file, so one `Problem` is all that is
needed to ask, to build the program and to judge it. The program is one source text: it brings the package's files along
and imports the target's module through the ordinary import system. What is called is a driver that the problem sets up
beside the program; it makes the package's objects from plain data and plain data from them.

Limits: flat packages (no sub-packages); the target is the last definition of its file; bodies without texts of several
lines, because they are indented here.
"""

import ast
import re
import sys
import textwrap
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field, StringConstraints

from app.errors import UserError
from app.evaluation.suites.suite import ProgramSuite
from app.files.python_source import parse, parsed
from app.overrides import read_settings
from app.problem_sets.problem_files import yaml_files
from app.problem_sets.task import Task
from app.prompting.replies import bound_names, code_block, defines
from app.records import Problem
from app.runs import REPOSITORY
from app.stage_settings.base import Settings

FOLDER = REPOSITORY / "datasets" / "benchmarks" / "repo"
TAKEN = sys.stdlib_module_names | {"app", "candidate", "numpy", "tests"}
"""Names that mean something else where a program runs."""
_PATH_LINE = re.compile(r"^# (\w+/\w+\.py)\n", re.MULTILINE)
_FUTURE = re.compile(r"^from __future__ import .*\n", re.MULTILINE)
_MARK = "PACKAGE  # defined by the program only, which is why this runs beside it\n"
_PROGRAM = '''\
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec

PACKAGE = {package!r}
FILES = {files!r}


class Files:
    """Finds and loads the modules of the package, whose source is in FILES."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        return ModuleSpec(name, Files, is_package=name == PACKAGE) if name in FILES else None

    @staticmethod
    def create_module(spec):
        return None

    @staticmethod
    def exec_module(module):
        code = compile(FILES[module.__name__], module.__name__.replace(".", "/") + ".py", "exec")
        exec(code, module.__dict__)


sys.meta_path.insert(0, Files)
import_module({target!r})
'''


def _python(text: str) -> str:
    try:
        parse(text)
    except SyntaxError as error:
        raise ValueError(f"no Python: {error.msg} in line {error.lineno}") from None
    if _PATH_LINE.search(text):
        raise ValueError("a line such as '# shop/types.py' begins a file in a prompt: leave it out of the source")
    return text


def _body(text: str) -> str:
    _python("def _():\n" + textwrap.indent(text, "    "))
    return textwrap.indent(text, "    ")


def _package_name(name: str) -> str:
    if name in TAKEN:
        raise ValueError("there is another module of this name: choose another")
    return name


Source = Annotated[str, AfterValidator(_python)]
Body = Annotated[str, AfterValidator(_body), Field(min_length=1)]
FileName = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]*\.py$")]
PackageName = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]*$"), AfterValidator(_package_name)]


class Target(Settings):
    """One function to complete."""

    file: FileName
    difficulty: Literal["easy", "medium", "hard"]
    """easy: one name of one sibling; medium: several, or a convention; hard: several files' conventions together."""
    before: Source = ""
    """The file's source before the function."""
    header: Source
    """Signature and docstring."""
    body: Body
    wrong: Body
    """What somebody writes who guesses at the siblings; it must fail."""
    driver: Source
    """Its last function is what the tests call, with plain data only."""
    tests: Source

    @cached_property
    def name(self) -> str:
        return _last_function(self.header)


class Package(Settings):
    """One file of problems."""

    package: PackageName
    files: dict[FileName, Source] = Field(min_length=1)
    """The siblings; `__init__.py` is empty where it is not given."""
    problems: tuple[Target, ...] = Field(min_length=1)


class Parts(NamedTuple):
    """A prompt taken apart."""

    package: str
    siblings: dict[str, str]
    """Source by path."""
    path: str
    """The target's file."""
    unfinished: str
    """Its source, up to the docstring of the function."""
    before: str
    name: str


class Repo(ProgramSuite):
    name = "repo"
    place = "datasets/benchmarks/repo of this repository (MIT)"

    def load(self, path: Path | None) -> list[Task]:
        files = yaml_files(path or FOLDER, "datasets/benchmarks/repo")
        tasks = [task for file in files for task in _tasks(file)]
        ids = [task.problem.id for task in tasks]
        if twice := next((name for name in ids if ids.count(name) > 1), None):
            raise UserError(f"{path or FOLDER}: the problem {twice!r} is there twice: give one of them another name")
        return tasks

    def question(self, problem: Problem) -> str:
        parts = taken_apart(problem.prompt)
        shown = "\n\n".join(f"`{path}`:\n```python\n{text.rstrip()}\n```" for path, text in parts.siblings.items())
        return (
            f"These are files of the package `{parts.package}`:\n\n{shown}\n\n"
            f"Complete the function `{parts.name}` of the file `{parts.path}`. Reply with the whole function in one "
            f"code block.\n```python\n{parts.unfinished.rstrip()}\n```"
        )

    def text(self, problem: Problem) -> str:
        return problem.prompt

    def program(self, problem: Problem, protocol: str, reply: str) -> str:
        parts = taken_apart(problem.prompt)
        if protocol == "completion":
            return assembled(parts, parts.unfinished.rstrip() + reply)
        code = code_block(reply, parts.name, given=parts.before)
        if defines(code, parts.name):
            return assembled(parts, code if _is_whole_file(code, parts.before) else _joined(parts.before, code))
        body = code if code.lstrip("\n").startswith((" ", "\t")) else textwrap.indent(code, "    ")
        return assembled(parts, f"{parts.unfinished.rstrip()}\n{body}")

    def given_program(self, problem: Problem, completion: str) -> str:
        parts = taken_apart(problem.prompt)
        return assembled(parts, parts.unfinished + completion)

    def whole_program(self, problem: Problem, solution: str) -> str:
        """solution: the whole file that the function belongs to."""
        return assembled(taken_apart(problem.prompt), solution)


def taken_apart(prompt: str) -> Parts:
    """The files of a prompt that `load` made."""
    pieces = _PATH_LINE.split(prompt)[1:]
    files = dict(zip(pieces[::2], pieces[1::2], strict=True))
    path, unfinished = files.popitem()
    function = parse(unfinished).body[-1]
    start = min([function.lineno, *(mark.lineno for mark in getattr(function, "decorator_list", []))])
    before = "".join(unfinished.splitlines(keepends=True)[: start - 1])
    return Parts(path.partition("/")[0], files, path, unfinished, before, _last_function(unfinished))


def assembled(parts: Parts, target: str) -> str:
    """The program: the siblings, and this source of the target's file."""
    files = {parts.package: "", **{_module(path): text for path, text in parts.siblings.items()}}
    files[_module(parts.path)] = target
    return _PROGRAM.format(package=parts.package, files=files, target=_module(parts.path))


def _module(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _joined(before: str, code: str) -> str:
    """The code behind what the file has before it; only imports from __future__ must stand at the top."""
    return "".join(_FUTURE.findall(code)) + before + "\n\n" + _FUTURE.sub("", code)


def _is_whole_file(code: str, before: str) -> bool:
    """Whether all that the file defines before the function, and all it imports, is in the code once more."""
    tree = parsed(code)
    return tree is not None and bound_names(parse(before)) <= bound_names(tree)


def _last_function(source: str) -> str:
    last = parse(source).body[-1:]
    return last[0].name if last and isinstance(last[0], ast.FunctionDef) else ""


def read_package(file: Path) -> Package:
    """Raises UserError naming the file, the key and what is wrong with it."""
    return read_settings(Package, file, str(file), "correct it")


def _tasks(file: Path) -> list[Task]:
    package = read_package(file)
    return [_task(package, target, f"{file}: problems.{n}") for n, target in enumerate(package.problems)]


def _task(package: Package, target: Target, place: str) -> Task:
    entry_point = _last_function(target.driver)
    has_check = "check" in bound_names(parse(target.tests))
    for wrong, why in (
        (target.file in package.files, f"file = {target.file!r} is one of the siblings: give the target its own file"),
        (not target.name, "header ends in no function: give one signature with a docstring"),
        (not entry_point, "driver ends in no function: define there what the tests call"),
        (not has_check, "tests define no check(candidate): write the assertions in one"),
    ):
        if wrong:
            raise UserError(f"{place}.{why}")
    siblings = "".join(f"# {package.package}/{name}\n{text.rstrip()}\n\n\n" for name, text in package.files.items())
    before = f"{target.before.rstrip()}\n\n\n" if target.before else ""
    return Task(
        problem=Problem(
            id=f"repo/{package.package}/{target.name}",
            source="pocketcoder",
            licence="MIT",
            prompt=f"{siblings}# {package.package}/{target.file}\n{before}{target.header.rstrip()}\n",
            entry_point=entry_point,
            tests=target.tests,
            setup=_MARK + target.driver,
            difficulty=target.difficulty,
        ),
        canonical_solution=target.body,
    )
