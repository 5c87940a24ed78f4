"""Problems in this project's own form: YAML files of functions and classes to write, each with a reference and tests.

Those that come with the project lie in datasets/problems, whose README.md tells the form; a user's file or folder of
the same form is read by path. A test is a line such as `last_word("a b") == "b"`: the function, or the class, that the
signature names, called with plain values, and the answer, a plain value too. What is called for a class is a function
beside the program: it makes the object, calls its methods one after the other and gives the list of what they returned.

Limits: bodies without texts of several lines, because they are indented here; no imports before the signature.
"""

import ast
import textwrap
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from app.errors import UserError
from app.files.python_source import parse
from app.overrides import read_settings
from app.problem_sets.problem_files import yaml_files
from app.problem_sets.task import Task
from app.records import BenchmarkText, Problem
from app.runs import REPOSITORY, located
from app.stage_settings.base import Settings

USER = "user"
"""`Problem.source` of what a user brings."""
FOLDER = REPOSITORY / "datasets" / "problems"
_SAME = '''\
def same(answer, expected):
    """Equal, and of the same types all the way down: True is not 1, and a list is not a tuple."""
    if isinstance(expected, dict):
        return isinstance(answer, dict) and len(answer) == len(expected) and all(
            key in answer and same(answer[key], value) for key, value in expected.items()
        )
    if type(answer) is not type(expected):
        return False
    if isinstance(expected, (list, tuple)):
        return len(answer) == len(expected) and all(map(same, answer, expected))
    return answer == expected


'''
_DRIVER = """\
def {entry_point}(arguments, calls):
    made = {name}(*arguments)
    answers = []
    for method, *given in calls:
        try:
            answers.append(getattr(made, method)(*given))
        except (ValueError, LookupError) as error:
            answers.append(type(error).__name__)
    return answers
"""


class Case(NamedTuple):
    """One test, as it is written."""

    arguments: str
    """What is written between the parentheses of the call."""
    answer: str


def _body(text: str) -> str:
    try:
        parse("def _():\n" + textwrap.indent(text, "    "))
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"no Python: {getattr(error, 'msg', error)}") from None
    return textwrap.indent(text, "    ")


def _signature(text: str) -> str:
    """The signature with a colon at its end, which it may be written without."""
    head = text.strip().removesuffix(":") + ":"
    try:
        (node,) = parse(f"{head}\n    ...").body
    except (SyntaxError, ValueError):
        node = None
    if not isinstance(node, ast.FunctionDef | ast.ClassDef):
        raise ValueError("neither the head of a function, such as `def area(sides: list[int]) -> int`, nor of a class")
    return head


Body = Annotated[str, Field(min_length=1), AfterValidator(_body)]


class OwnProblem(Settings):
    """One function or class to write."""

    id: Annotated[str, StringConstraints(pattern=r"^[\w-]+(/[\w-]+)+$")]
    split: Literal["train", "validation"] = "validation"
    difficulty: Literal["easy", "medium", "hard"]
    """easy: one or two plain lines; medium: a loop with a condition or two; hard: an algorithm, or a class of several
    methods."""
    signature: Annotated[str, AfterValidator(_signature)]
    statement: str = Field(min_length=1)
    """Says every rule that a test checks."""
    reference: Body
    wrong: Body
    """What somebody writes who reads the statement hastily; it has to fail."""
    tests: str
    """Made by hand, with the corners."""
    examples: int = Field(default=1, ge=0)
    """How many of the first tests the prompt shows; of a class none is shown."""
    inputs: str = ""
    """How the arguments of generated tests are drawn; only `tests.own_problems` reads it."""
    licence: str = ""
    """SPDX expression; empty: that of its file."""
    generated: str = ""
    """Further tests, with the reference's answers."""

    @model_validator(mode="after")
    def _has_tests(self) -> "OwnProblem":
        if not self.cases:
            raise ValueError("it has no tests")
        return self

    @property
    def is_class(self) -> bool:
        return self.signature.startswith("class ")

    @property
    def name(self) -> str:
        """Of the function or class."""
        return self.signature.partition(" ")[2].partition("(")[0].partition(":")[0].strip()

    @property
    def entry_point(self) -> str:
        return f"use_{self.name}" if self.is_class else self.name

    @property
    def driver(self) -> str:
        """What defines the entry point beside the program; empty where the program itself does."""
        return _DRIVER.format(entry_point=self.entry_point, name=self.name) if self.is_class else ""

    @cached_property
    def by_hand(self) -> list[Case]:
        return _cases(self.tests, self.name, "tests")

    @cached_property
    def cases(self) -> list[Case]:
        """All tests, those made by hand first."""
        return [*self.by_hand, *_cases(self.generated, self.name, "generated")]

    @property
    def prompt(self) -> str:
        """Signature and docstring."""
        shown = [] if self.is_class else self.by_hand[: self.examples]
        examples = "".join(f"\n>>> {self.name}({case.arguments})\n{case.answer}" for case in shown)
        text = self.statement.strip() + (f"\n{examples}" if shown else "")
        escaped = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
        docstring = textwrap.indent(f'"""{escaped}\n"""\n', "    ")
        return f"{self.signature}\n{docstring}"


class OwnTask(Task):
    """Its tests, lines of one form for all problems, say nothing about it: its text is the prompt and the reference."""

    @property
    def benchmark_text(self) -> BenchmarkText:
        text = f"{self.problem.prompt}\n{self.canonical_solution}"
        solution = self.canonical_solution
        return BenchmarkText(
            problem_id=self.problem.id, entry_point=self.problem.entry_point, text=text, solution=solution
        )


class _File(Settings):
    """Problems of one theme."""

    theme: str = Field(min_length=1)
    """What they are about, in a few words."""
    licence: str = ""
    """SPDX expression of a user's own file. Those that come with the project are under its licence."""
    problems: tuple[OwnProblem, ...] = Field(min_length=1)


def read_problems(path: Path = FOLDER) -> list[OwnProblem]:
    """The problems of a YAML file, or of all in a folder, in the order of the files' names.

    Raises UserError naming the file, the key and what is wrong with it.
    """
    found: dict[str, OwnProblem] = {}
    for file in yaml_files(path, "datasets/problems"):
        held = read_settings(_File, file, str(file), "correct it")
        for problem in held.problems:
            if problem.id in found:
                raise UserError(f"{file}: the problem {problem.id!r} is there twice: give one of them another id")
            found[problem.id] = problem.model_copy(update={"licence": problem.licence or held.licence})
    return list(found.values())


def tasks_of(path: Path = FOLDER) -> list[Task]:
    """The same as problems with tests, of both splits. A user's keep the licence that their file names, if any."""
    if is_of_project(path):
        return [task_of(problem) for problem in read_problems(path)]
    return [task_of(problem, source=USER, licence=problem.licence) for problem in read_problems(path)]


def place_of(text: str) -> Path:
    """Where a source's problems lie, by what stands behind `ours=`; the project's without it."""
    return located(text) if text else FOLDER


def is_of_project(path: Path) -> bool:
    """Whether a file or folder of problems is one that comes with the project."""
    return path.resolve() == FOLDER or FOLDER in path.resolve().parents


def task_of(problem: OwnProblem, source: str = "pocketcoder", licence: str = "MIT") -> OwnTask:
    lines = [f"    assert same(candidate({case.arguments}), {case.answer})\n" for case in problem.cases]
    return OwnTask(
        problem=Problem(
            id=problem.id,
            source=source,
            licence=licence,
            prompt=problem.prompt,
            entry_point=problem.entry_point,
            tests=f"{_SAME}def check(candidate):\n{''.join(lines)}",
            setup=problem.driver,
            difficulty=problem.difficulty,
            split=problem.split,
        ),
        canonical_solution=problem.reference,
    )


def _cases(text: str, name: str, key: str) -> list[Case]:
    """The tests of a text, one a line. Raises ValueError for a line of another form."""
    try:
        statements = parse(text).body
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{key}: no Python: {error}") from None
    lines = text.splitlines()
    found = []
    for statement in statements:
        line = lines[statement.lineno - 1]
        if not _is_test(statement, name):
            shown = textwrap.shorten(line, 60, placeholder=" ...")
            raise ValueError(f"{key}: {shown!r} has not the form `{name}(plain values) == plain value`")
        comparison: ast.Compare = statement.value  # type: ignore[attr-defined]
        written = line.encode()  # offsets are in bytes
        call, answer = comparison.left, comparison.comparators[0]
        arguments = written[call.col_offset + len(name.encode()) + 1 : (call.end_col_offset or 0) - 1]
        found.append(Case(arguments.decode().strip(), written[answer.col_offset : answer.end_col_offset].decode()))
    return found


def _is_test(statement: ast.stmt, name: str) -> bool:
    match statement:
        case ast.Expr(
            value=ast.Compare(left=ast.Call(func=ast.Name(id=called), args=args, keywords=[]), ops=[ast.Eq()]) as test
        ):
            is_one_line = statement.lineno == statement.end_lineno
            return called == name and is_one_line and all(map(_is_plain, (*args, *test.comparators)))
    return False


def _is_plain(value: ast.expr) -> bool:
    try:
        ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True
