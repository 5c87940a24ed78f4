"""Given assertions are taken apart and put together again in their own form."""

import ast
import dataclasses

import pytest

from app.corpus.mining.records import Call
from app.problem_tests.assertions import assertion, can_take_more, seeds_of, with_assertions
from app.records import ProblemStyle
from app.sandbox.catalogue import FIXTURE


def check(*tests: str) -> str:
    return "def check(candidate):\n" + "".join(f"    assert {test}\n" for test in tests)


@pytest.mark.parametrize(
    ("test", "answer", "again"),
    [
        ("candidate([1, 2], k=3) == [4]", [4], "assert candidate([1, 2], k=3) == [4]"),
        ("[4] == candidate([1])", [4], "assert candidate([1]) == [4]"),
        ("candidate([1]) is None", None, "assert candidate([1]) is None"),
        ("candidate([1])", True, "assert candidate([1])"),
        ("not candidate([1])", False, "assert not candidate([1])"),
        ("sorted(candidate([1])) == sorted([2, 1])", None, "assert sorted(candidate([1])) == [1, 2]"),
        ("set(candidate('ab')) == {'b', 'a'}", {"a", "b"}, "assert set(candidate('ab')) == {'a', 'b'}"),
        ("same(candidate({1: 'a'}), (1, 2))", (1, 2), "assert same(candidate({1: 'a'}), (1, 2))"),
        (
            "math.isclose(candidate(2), 0.5, rel_tol=1e-06)",
            0.5,
            "assert math.isclose(candidate(2), 0.5, rel_tol=1e-06)",
        ),
        ("abs(candidate(2) - 0.5) < 1e-5", 0.5, "assert abs(candidate(2) - 0.5) < 1e-05"),
        ("candidate(2) == 0.5", 0.5, "assert is_close(candidate(2), 0.5)"),
        (
            "is_same_tree(candidate(root=tree_node([1, None, 2])), tree_node([2]))",
            [2],
            "assert is_same_tree(candidate(root=tree_node([1, None, 2])), tree_node([2]))",
        ),
        (
            "candidate(lists=[list_node([1]), list_node([])]) == 3",
            3,
            "assert candidate(lists=[list_node([1]), list_node([])]) == 3",
        ),
    ],
)
def test_a_form_comes_back(test: str, answer: object, again: str) -> None:
    (seed,) = seeds_of(dataclasses.replace(FIXTURE, tests=check(test)))
    assert seed.answers == ((answer,) if "sorted" not in test else ())
    assert assertion(seed.form, seed.call, [1, 2] if "sorted" in test else answer) == again


@pytest.mark.parametrize(
    "test",
    [
        "candidate(open) == 1",
        "candidate(1) == candidate(2)",
        "candidate(1) < 3",
        "len(helper(candidate(1))) == 1",
        "candidate(1) in (1, 2)",
        "candidate(*[1]) == 1",
        "candidate(**{'a': 1}) == 1",
        "is_near(candidate(1), 1)",
        "is_same_list(candidate(1), made([1]))",
    ],
)
def test_another_form_leads_nowhere(test: str) -> None:
    seeds = seeds_of(dataclasses.replace(FIXTURE, tests=check(test)))
    assert not seeds or test.startswith("is_same_list")


def test_the_form_of_most_assertions_is_taken() -> None:
    tests = check("candidate(1) is None", "candidate(2) == 2", "candidate(3) == 3")
    assert [seed.call for seed in seeds_of(dataclasses.replace(FIXTURE, tests=tests))] == [
        Call(args=(2,)),
        Call(args=(3,)),
    ]


def test_further_assertions_stand_behind_the_given_ones() -> None:
    tests = 'METADATA = {}\n\n\ndef check(candidate):\n\tassert candidate(1) == 1\n\tassert candidate("""\n""") == 2\n'
    problem = dataclasses.replace(FIXTURE, tests=tests)
    assert with_assertions(problem, ["assert candidate(3) == 4"]) == tests + "\tassert candidate(3) == 4\n"
    nearly = with_assertions(problem, ["assert is_close(candidate(3), 4.5)"])
    assert nearly.startswith(tests + "\tassert is_close(") and nearly.count("def is_close(") == 1
    ast.parse(nearly)
    plain = dataclasses.replace(FIXTURE, style=ProblemStyle.ASSERTIONS, tests="assert f(1) == 1.5")
    held = with_assertions(plain, ["assert is_close(f(3), 4.5)"])
    assert held.index("def is_close(") < held.index("assert f(1)") < held.index("assert is_close(f(3)")


@pytest.mark.parametrize(
    ("tests", "style", "can"),
    [
        (check("candidate(1) == 1"), ProblemStyle.CHECK, True),
        ("def check(candidate): assert candidate(1) == 1", ProblemStyle.CHECK, False),
        (check("candidate(1) == 1") + "    return True\n", ProblemStyle.CHECK, False),
        ('[["1", "2"]]', ProblemStyle.STDIO, False),
    ],
)
def test_where_nothing_can_stand_behind_the_tests_it_is_said(tests: str, style: ProblemStyle, can: bool) -> None:
    assert can_take_more(dataclasses.replace(FIXTURE, tests=tests, style=style)) == can
