"""A user's own problems: JSON lines of prompts, with tests or without.

    {"id": "shop/1", "prompt": "def net(price, rate):\\n    \\"\\"\\"...\\"\\"\\"\\n", "entry_point": "net",
     "tests": "assert net(119, 19) == 100", "licence": "MIT", "reference": "def net(price, rate): ..."}
    {"id": "shop/2", "prompt": "Write a program that prints today's date.", "licence": "MIT"}

    id            any text, each once; not one that begins with the name of a test suite
    prompt        the head of the function with its docstring (then it is asked for as HumanEval asks), or the whole
                  question as the model is to read it; each once, whatever white space it is written with
    entry_point   what the tests call: a function's name, or an expression such as Solution().net; without tests what a
                  program has to define to be learnt, and it may be missing where the prompt is a question
    tests         assertions that call the entry point by its name, or `def check(candidate):` with assertions; without
                  them drafts can't be judged, only ranked (`app.reward.critic.choice`)
    licence       SPDX expression of the problem's text: an open licence, one for open content (CC-BY-4.0, CC0-1.0), or
                  LicenseRef-NAME for a text that is yours and under no public licence
    reference     a program that passes; without one the problem keeps the tests that it has

Nothing is guessed: a row of another form ends the reading with one sentence. So does a problem of a test suite, or one
by which the run decides whether the training is kept.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.corpus.clean.decontamination import Decontaminator
from app.corpus.sources.admission import judge_content
from app.errors import UserError, did_you_mean
from app.evaluation.suites.splits import repeats, repeats_a_test_problem
from app.files.python_source import parse, parse_expression, parsed
from app.files.table_rows import read_lines
from app.files.text import has_surrogates
from app.problem_sets import own
from app.problem_sets.task import Task
from app.prompting.replies import defines
from app.records import Problem, ProblemStyle
from app.sandbox.marks import BrokenTestsError, mark_assertions
from app.sandbox.splitting import needs_own_objects

SOURCE = own.USER
REQUIRED = ("id", "prompt", "licence")
OPTIONAL = ("entry_point", "tests", "reference")
SUITE_IDS = re.compile(r"(human-?eval|mbpp|apps|leetcode|bigcodebench|livecodebench|bfcl)(?![a-z])", re.I)
"""What the ids of test suites begin with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserProblem:
    """A row that is in order. Made by `user_problems`; read by `app.reward.problems.find`."""

    task: Task
    reference: str
    """Empty for none."""
    words: str
    """The user's turn; empty where HumanEval's words ask for it."""


class _BadRowError(ValueError):
    """What is wrong with a row, and the way out."""


def user_problems(path: Path, shown: str, deciding: Decontaminator | None = None) -> Iterator[UserProblem]:
    """The problems of a file, in its order. shown: the file as the user named it. deciding: what tells the problems by
    which the training is kept or not.

    Raises UserError that names the line, the field and the way out.
    """
    lines: dict[str, int] = {}
    asked: dict[str, int] = {}
    for number, row in read_lines(path, "the file of problems"):
        try:
            made = _problem(row)
            _check_measures_nothing(made.task, deciding)
            name, words = made.task.problem.id, words_of(made.task.problem.prompt)
            if name in lines:
                raise _BadRowError(f"the id {name!r} is that of line {lines[name]} too: give one of them another")
            if words in asked:
                raise _BadRowError(
                    f"the prompt of {name!r} is that of line {asked[words]} too, so it would be learnt twice: take one "
                    "of them out, with the tests of both in the other"
                )
        except _BadRowError as error:
            raise UserError(f"{shown}, line {number}: {error}") from None
        lines[name] = asked[words] = number
        yield made
    if not lines:
        raise UserError(f"{shown} holds no problem: give JSON lines with {', '.join(REQUIRED)} and, if you have them, "
                        f"{', '.join(OPTIONAL)}")  # fmt: skip


def words_of(prompt: str) -> str:
    """What a prompt asks, whatever white space it is written with."""
    return " ".join(prompt.split())


def _problem(row: dict[str, Any]) -> UserProblem:
    _check_fields(row)
    prompt, entry_point, tests = row["prompt"], row.get("entry_point", ""), row.get("tests", "")
    called = _called(entry_point) if entry_point else ""
    style = _style(tests, called) if tests else ProblemStyle.ASSERTIONS
    is_head = _is_head(prompt, entry_point)
    problem = Problem(
        id=row["id"],
        source=SOURCE,
        licence=_licence(row["licence"]),
        prompt=prompt,
        entry_point=entry_point,
        tests=tests,
        style=style,
        prelude=prompt if is_head else "",
        split="train",
    )
    reference = row.get("reference", "")
    _check_reference(reference, entry_point)
    if why := needs_own_objects(problem):
        raise _BadRowError(
            f"tests: {why}, so they can't be kept apart from a program that wants to forge its reward: compare "
            "numbers, texts, lists, tables and the like"
        )
    task = Task(problem=problem, canonical_solution=reference)
    return UserProblem(task=task, reference=reference, words="" if is_head else prompt)


def _check_fields(row: dict[str, Any]) -> None:
    known = (*REQUIRED, *OPTIONAL)
    for field in REQUIRED:
        if field not in row:
            more = " (an SPDX expression such as MIT or CC-BY-4.0)" if field == "licence" else ""
            raise _BadRowError(f"the field {field!r} is missing: a problem has {', '.join(REQUIRED)}{more}")
    if "tests" in row and "entry_point" not in row:
        raise _BadRowError("the field 'entry_point' is missing: name what the tests call, as net or Solution().net")
    if "reference" in row and "tests" not in row:
        raise _BadRowError("a reference without tests is of no use, since further tests are made from given ones: give "
                           "a test, or leave the reference out")  # fmt: skip
    for field, value in row.items():
        if field not in known:
            hint = did_you_mean(field, known, f"a problem has {', '.join(known)}")
            raise _BadRowError(f"the field {field!r} is unknown: {hint}")
        if not isinstance(value, str):
            raise _BadRowError(f"{field} is {str(value)[:40]!r}, not text: write it as a JSON string")
        if not value.strip():
            raise _BadRowError(f"{field} is empty: " + ("leave it out" if field in OPTIONAL else "fill it in"))
        if has_surrogates(value):
            raise _BadRowError(f"{field} holds half a surrogate pair, which no file can hold: write it as UTF-8")


def _licence(stated: str) -> str:
    verdict = judge_content(stated)
    if not verdict.approved:
        raise _BadRowError(
            f"licence {stated[:60]!r} is none under which a problem may be learnt from ({verdict.reason.rstrip('.')}): "
            "give an SPDX expression such as MIT or CC-BY-4.0, or LicenseRef-Own for a text of yours"
        )
    return verdict.licence


def _called(entry_point: str) -> str:
    """The entry point as tests write it."""
    try:
        tree = parse_expression(entry_point.strip()).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = None
    if not isinstance(tree, ast.Name | ast.Attribute) or entry_point != entry_point.strip():
        raise _BadRowError(
            f"entry_point {entry_point[:60]!r} can't be called: give a function's name such as net, or an expression "
            "such as Solution().net"
        )
    return ast.unparse(tree)


def _style(tests: str, called: str) -> ProblemStyle:
    try:
        count = mark_assertions(tests)[1]
    except BrokenTestsError as error:
        raise _BadRowError(f"{error}: write them as Python") from None
    if not count:
        raise _BadRowError("tests hold no assertion, so every program would pass: write some")
    tree = parse(tests)
    checks = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "check"]
    if checks:
        if len(checks[-1].args.args) != 1:
            raise _BadRowError("tests: check has to take the function, and nothing else: write `def check(candidate):`")
        callee, style, what = checks[-1].args.args[0].arg, ProblemStyle.CHECK, "check does not call its argument"
    else:
        callee, style, what = called, ProblemStyle.ASSERTIONS, "tests do not call the entry point"
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    if not any(ast.unparse(func) == callee for func in calls):
        raise _BadRowError(f"{what} {callee}, so they say nothing about a program: call it")
    return style


def _is_head(prompt: str, entry_point: str) -> bool:
    """Whether the prompt is the beginning of a function, as HumanEval has them."""
    tree = parsed(prompt)
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)] if tree else []
    if names and not entry_point:
        raise _BadRowError(f"the prompt begins the function {names[-1]}, and the field 'entry_point' is missing: name "
                           "what is to be written")  # fmt: skip
    return entry_point in names


def _check_reference(reference: str, entry_point: str) -> None:
    if not reference:
        return
    if parsed(reference) is None:
        raise _BadRowError("reference is no Python: mend it, or leave it out")
    name = re.match(r"\w+", entry_point)
    if name and not defines(reference, name[0]):
        raise _BadRowError(f"reference does not define {name[0]!r}: give a whole program, or leave it out")


def _check_measures_nothing(task: Task, deciding: Decontaminator | None) -> None:
    if SUITE_IDS.match(task.problem.id):
        raise _BadRowError(
            f"the id {task.problem.id!r} is one of a test suite's, and what is measured is not learnt from: take the "
            "problem out, or give your own another id (training splits are sources of their own: mbpp, leetcode=FILE)"
        )
    if repeats_a_test_problem(task):
        raise _BadRowError(
            f"the problem {task.problem.id!r} is one of a test suite's by its text or its function's name, and what is "
            "measured is not learnt from: take it out, or if it is another one give its function another name"
        )
    if deciding is not None and repeats(task, deciding):
        raise _BadRowError(
            f"the problem {task.problem.id!r} is by its text or its function's name one of those that decide in this "
            "run whether the training is kept (validation.suites), and are not learnt from: take it out, or if it is "
            "another one give its function another name"
        )
