"""Problems in this project's own form: YAML files of functions and classes to write, each with a reference and tests.

Those that come with the project lie in datasets/problems; README.md there tells the form, and a user's file or folder
of the same form is read by path. A test is a line such as `last_word("a b") == "b"`: the function, or the class, that
the signature names, on plain values, and the answer, a plain value too. What is called for a class is a function beside
the program that makes the object, calls its methods one after the other and gives the list of what they returned.

Limits: bodies without texts of several lines, because they are indented here; no imports before the signature.
"""

import ast
import textwrap
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from app.errors import UserError
from app.overrides import parse_settings, read_yaml
from app.problem_sets.task import Task
from app.records import Problem
from app.runs import REPOSITORY
from app.settings import Settings

FOLDER = REPOSITORY / "datasets" / "problems"
TRAIN, VALIDATION = "train", "validation"
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
DRIVER = '''\
def {entry_point}(arguments, calls):
    made = {name}(*arguments)
    answers = []
    for method, *given in calls:
        try:
            answers.append(getattr(made, method)(*given))
        except (ValueError, LookupError) as error:
            answers.append(type(error).__name__)
    return answers
'''


class Case(NamedTuple):
    """One test."""

    arguments: str
    """As they are written between the parentheses of the call."""
    answer: str
    """Source of a plain value."""


def _body(text: str) -> str:
    try:
        ast.parse("def _():\n" + textwrap.indent(text, "    "))
    except SyntaxError as error:
        raise ValueError(f"no Python: {error.msg} in line {(error.lineno or 1) - 1}") from None
    return textwrap.indent(text, "    ")


def _signature(text: str) -> str:
    """The signature, with the colon that it may be written without."""
    head = text.strip().removesuffix(":") + ":"
    try:
        (node,) = ast.parse(f"{head}\n    ...").body
    except (SyntaxError, ValueError):
        node = None
    if not isinstance(node, ast.FunctionDef | ast.ClassDef):
        raise ValueError("neither the head of a function, as `def area(sides: list[int]) -> int`, nor of a class")
    return head


Body = Annotated[str, Field(min_length=1), AfterValidator(_body)]


class OwnProblem(Settings):
    """One function or class to write."""

    id: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]+(/[a-z0-9_-]+)+$")]
    split: Literal["train", "validation"] = VALIDATION
    difficulty: Literal["easy", "medium", "hard"]
    """easy: one or two plain lines; medium: a loop with a condition or two; hard: an algorithm, or a class."""
    signature: Annotated[str, AfterValidator(_signature)]
    statement: str = Field(min_length=1)
    """Says every rule that a test checks."""
    reference: Body
    wrong: Body
    """What somebody writes who reads the statement hastily; it must fail."""
    tests: str
    """Made by hand: the corners."""
    examples: int = Field(default=1, ge=0)
    """How many of the first tests the prompt shows, below the statement; of a class none is shown."""
    inputs: str = ""
    """How the arguments of generated tests are drawn (`python -m tests.own_problems`)."""
    generated: str = ""
    """Further tests, with the reference's answers."""

    @model_validator(mode="after")
    def _has_tests(self) -> "OwnProblem":
        if not self.cases:
            raise ValueError("there are no tests: write at least one under `tests`")
        return self

    @property
    def name(self) -> str:
        return self.signature.split("(")[0].split(":")[0].split()[1]

    @property
    def is_class(self) -> bool:
        return self.signature.startswith("class ")

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
        lines = [line for case in shown for line in (f">>> {self.name}({case.arguments})", case.answer)]
        text = "\n".join([self.statement.strip(), *([""] if lines else []), *lines])
        escaped = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
        docstring = textwrap.indent(f'"""{escaped}\n"""\n', "    ")
        return f"{self.signature}\n{docstring}"


class _File(Settings):
    """Problems of one theme."""

    theme: str = Field(min_length=1)
    """What they are about, in a few words."""
    problems: tuple[OwnProblem, ...] = Field(min_length=1)


def read_problems(path: Path = FOLDER) -> list[OwnProblem]:
    """The problems of a YAML file, or of all in a folder, in the order of the files' names.

    Raises UserError naming the file, the key and what is wrong with it.
    """
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise UserError(
            f"{path} holds no problems: give a YAML file, or a folder of them, in the form of datasets/problems"
        )
    found: dict[str, OwnProblem] = {}
    for file in files:
        for problem in parse_settings(_File, read_yaml(file, str(file), "correct it"), str(file), "correct it").problems:
            if problem.id in found:
                raise UserError(f"{file}: the problem {problem.id!r} is there twice: give one of them another id")
            found[problem.id] = problem
    return list(found.values())


def tasks_of(path: Path = FOLDER) -> list[Task]:
    """The same as problems with tests, both splits."""
    return [_task(problem) for problem in read_problems(path)]


def _task(problem: OwnProblem) -> Task:
    entry_point = f"use_{problem.name}" if problem.is_class else problem.name
    lines = [f"    assert same(candidate({case.arguments}), {case.answer})\n" for case in problem.cases]
    return Task(
        problem=Problem(
            id=problem.id,
            source="pocketcoder",
            licence="MIT",
            prompt=problem.prompt,
            entry_point=entry_point,
            tests=f"{_SAME}def check(candidate):\n{''.join(lines)}",
            setup=DRIVER.format(entry_point=entry_point, name=problem.name) if problem.is_class else "",
            difficulty=problem.difficulty,
            split=problem.split,
        ),
        canonical_solution=problem.reference,
    )


def _cases(text: str, name: str, key: str) -> list[Case]:
    """The tests of a text, one a line. Raises ValueError for a line of another form."""
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{key}: no Python: {error}") from None
    lines = text.splitlines()
    found = []
    for statement in statements:
        line = "\n".join(lines[statement.lineno - 1 : statement.end_lineno])
        call, separator, answer = _parts(statement, text)
        if not separator or not call.startswith(f"{name}("):
            raise ValueError(f"{key}: {textwrap.shorten(line, 60)!r} is no line `{name}(plain values) == plain value`")
        found.append(Case(call.removeprefix(f"{name}(").removesuffix(")").strip(), answer))
    return found


def _parts(statement: ast.stmt, text: str) -> tuple[str, str, str]:
    """The call, "==" and the answer of a test; empty texts for anything else than a call on plain values."""
    match statement:
        case ast.Expr(value=ast.Compare(left=ast.Call(args=args, keywords=[]) as call, ops=[ast.Eq()], comparators=[answer])):
            try:
                for value in (*args, answer):
                    ast.literal_eval(value)
            except (ValueError, TypeError):
                return "", "", ""
            return ast.get_source_segment(text, call) or "", "==", ast.get_source_segment(text, answer) or ""
    return "", "", ""
