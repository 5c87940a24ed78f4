"""Solved problems become examples in the words of the suites, and their hidden tests stay hidden."""

import ast
import dataclasses
import math
from typing import Any

import pytest

from app.corpus.draws import Draws
from app.corpus.examples.forms import problem_examples, shown_tests
from app.corpus.examples.words import as_task, first_sentences
from app.corpus.records import Bug, Example, Origin, SolvedProblem
from app.evaluation.suites.humaneval import HumanEval
from app.evaluation.suites.mbpp import Mbpp
from app.problem_sets.task import Task
from app.prompting.replies import code_block
from app.records import Problem, ProblemStyle
from tests.unit.corpus.examples.test_forms import ALL, answered, asked


def solved(**changes: Any) -> SolvedProblem:
    docstring = '"""Return the integer part of the square root of n.\n\n    >>> root(10)\n    3\n    """'
    prompt = f"import math\n\n\ndef root(n):\n    {docstring}\n"
    problem = Problem(
        id="mined/1", source="mined", licence="MIT", prompt=prompt, entry_point="root",
        tests="".join(f"assert root({n}) == {math.isqrt(n)}\n" for n in (0, 4, 10, 99, 10**200)),
        style=ProblemStyle.ASSERTIONS, split="train",
    )  # fmt: skip
    solution = prompt + "    low = math.isqrt(n)\n    if low * low > n:\n        low -= 1\n    return low\n"
    bug = Bug(program=solution.replace("> n", ">= n"), failure="assert root(4) == 2  # gives 1")
    values: dict[str, Any] = {
        "problem": problem, "solution": solution, "bugs": (bug,),
        "description": "Return the integer part\nof the square root of n.",
        "origin": Origin(distribution="d", version="1", licence="MIT", path="d.py"),
    }  # fmt: skip
    return SolvedProblem(**(values | changes))


def problems_by_form(given: SolvedProblem) -> dict[str, list[Example]]:
    forms: dict[str, list[Example]] = {}
    for example in problem_examples(given, ALL, 0, fills_in=False):
        forms.setdefault(example.form, []).append(example)
    return forms


@pytest.mark.parametrize(
    "code",
    [
        'def root(n): "Return the integer part of the square root of n."; return math.isqrt(n)\n',
        'def root(n):\n    "Return the integer part of the square root of n."; low = n\n    return low\n',
        'def root(n):\n    "Return the integer part of the square root of n."\n',
        'def root(n):\n    "Return the integer part of the square root of n."\n    return math.isqrt(n)\n',
    ],
)
def test_the_code_that_is_to_be_described_lost_its_docstring_alone(code: str) -> None:
    shown = []
    for seed in range(8):
        for example in problem_examples(solved(solution=f"import math\n\n\n{code}"), ALL, seed, fills_in=False):
            if example.form == "code_to_doc":
                shown.append(ast.unparse(ast.parse(code_block(example.turns[0]["content"], "root"))))
    whole = ast.parse(code)
    assert isinstance(whole.body[0], ast.FunctionDef)
    del whole.body[0].body[0]
    is_laid_out = code.count("\n") == 3 and ";" not in code
    assert bool(shown) == is_laid_out and {*shown} <= {ast.unparse(whole)}


def test_a_problem_is_asked_in_the_words_of_humaneval_and_of_mbpp() -> None:
    given = solved()
    human, mbpp = (example for example in problems_by_form(given)["problem"] if example.turns)
    assert [human.turns[0]] == HumanEval().chat(given.problem, ())
    task = as_task(given.description, Draws("0:task:mined/1"))
    assert task in ("Write a function to return the integer part of the square root of n.",
                    "Write a python function to return the integer part of the square root of n.")  # fmt: skip
    shown = dataclasses.replace(given.problem, prompt=task, tests="\n".join(shown_tests(given, 0)))
    assert [mbpp.turns[0]] == Mbpp().chat(shown, ())
    assert code_block(answered(mbpp), "def root") == given.solution == code_block(answered(human), "def root")


def test_the_completion_form_is_the_frame_that_mbpp_ends_with() -> None:
    plain = {}
    for number in range(20):
        given = solved(problem=dataclasses.replace(solved().problem, id=f"mined/{number}"))
        (example,) = (e for e in problems_by_form(given)["problem"] if not e.turns)
        plain["[BEGIN]" in example.prompt] = (given, example)
    given, example = plain[True]
    suite = Mbpp()
    suite._shots = [Task(problem=given.problem, canonical_solution="pass")] * 3
    task = as_task(given.description, Draws(f"0:task:{given.problem.id}"))
    shown = dataclasses.replace(given.problem, prompt=task, tests="\n".join(shown_tests(given, 0)))
    assert suite.text(shown).endswith(f"\n\n{example.prompt}")
    assert example.completion == f"\n{given.solution.strip()}\n[DONE]"
    given, human = plain[False]
    assert human.prompt == given.problem.prompt.rstrip("\n") and "def root" not in human.completion
    assert human.prompt + human.completion == given.solution, "HumanEval's: the body is learnt"


def test_hidden_tests_are_never_all_shown_and_long_ones_not_at_all() -> None:
    for number in range(30):
        problem = dataclasses.replace(solved().problem, id=f"mined/{number}")
        shown = shown_tests(solved(problem=problem), 0)
        assert 2 <= len(shown) <= 3 and max(map(len, shown)) < 100
        two = dataclasses.replace(problem, tests="assert root(4) == 2\nassert root(9) == 3\n")
        assert len(shown_tests(solved(problem=two), 0)) == 1
        assert shown_tests(solved(problem=dataclasses.replace(problem, tests="assert root(4) == 2\n")), 0) == []


def test_a_bug_is_shown_with_the_test_that_it_fails_and_answered_by_the_solution() -> None:
    given = solved()
    (example,) = problems_by_form(given)["fix_bug"]
    assert "low * low >= n" in asked(example) and "# gives 1" in asked(example)
    assert code_block(answered(example), "def root") == given.solution
    (example,) = problems_by_form(solved(bugs=(dataclasses.replace(given.bugs[0], failure=""),)))["fix_bug"]
    assert all(test in asked(example) for test in shown_tests(given, 0))


def test_problems_of_the_other_sides_of_the_split_are_never_learnt() -> None:
    for split in ("validation", "test", "few_shot"):
        assert not list(
            problem_examples(solved(problem=dataclasses.replace(solved().problem, split=split)), ALL, 0, fills_in=True)
        )


def test_a_problem_of_mbpp_itself_is_asked_as_it_stands() -> None:
    problem = dataclasses.replace(solved().problem, source="mbpp", prompt="Write a function to find the root.")
    given = solved(
        problem=problem, description=problem.prompt, solution="def root(n):\n    return int(n ** 0.5)\n", bugs=()
    )
    forms = problems_by_form(given)
    assert sorted(bool(example.turns) for example in forms["problem"]) == [False, True]
    assert all("Write a function to find the root." in str(example) for example in forms["problem"])


@pytest.mark.parametrize(
    ("description", "wanted"),
    [
        ("Returns the first item of a list.", "that returns the first item of a list."),
        ("Verifies that\n    it is sorted.", None),
        ("Matches pairs by key.", "that matches pairs by key."),
        ("Given a list, return its first item.", None),
        ("Return a dict:\n\n- keys\n- values", "to return a dict:\n\n- keys\n- values"),
    ],
)
def test_descriptions_begin_as_mbpps_tasks_do(description: str, wanted: str | None) -> None:
    task = as_task(description, Draws("any"))
    if wanted is None:
        assert "Write" not in task or task.startswith(
            ("Write a function that verifies", "Write a python function that verifies")
        )
    else:
        assert task.removeprefix("Write a function ").removeprefix("Write a python function ") == wanted


def test_sentences_do_not_end_at_abbreviations() -> None:
    assert first_sentences("Find `c` s.t. A is odd. More. Rest.", 1) == "Find `c` s.t. A is odd."
    assert first_sentences("One. Two\nthree. Four.\n\nFive.", 2) == "One. Two three."
