"""Drafts of a problem that give the same on its inputs agree, whatever is right: MBR-exec on the real sandbox."""

import dataclasses

import pytest

from app.best_of.agreement import MAX_INPUTS, agreement
from app.profiles import smoke
from app.records import ProblemStyle, Status
from app.reward.critic.agreement import agreements, inputs_of
from app.reward.records import TrainingProblem
from app.sandbox.tiers import confinement
from tests.unit.reward.made_drafts import judged, problem

SETTINGS = smoke().sandbox.model_copy(update={"num_workers": 2, "timeout_s": 1.0})
SORTED, REVERSED = "def f(x): return sorted(x)", "def f(x): return sorted(x)[::-1]"
EXAMPLES = ">>> f([3, 1, 2])\n    [1, 2, 3]\n    >>> f([5, 4])\n    [4, 5]"
HEAD = f'def f(x: list) -> list:\n    """Sort.\n\n    {EXAMPLES}\n    """\n'


def scored(asked: TrainingProblem, programs: list[str]) -> list[float]:
    drafts = [judged(Status.INFRA, name="a", sample=n, program=one) for n, one in enumerate(programs)]
    found = agreements({"a": asked}, drafts, SETTINGS, confinement())
    return [found["a", one] for one in programs]


def test_drafts_that_give_the_same_agree_and_those_that_give_nothing_do_not() -> None:
    sorting = "def f(x):\n    y = list(x)\n    y.sort()\n    return y"
    crashing = ["def f(x): return 1 / 0", "def f(x): return [][1]", "def f(", "print('hi')"]
    endless = "def f(x):\n    while True: pass"
    programs = [SORTED, REVERSED, sorting, SORTED, *crashing, endless, "def f(x): return sorted(x) if x else 7"]
    assert scored(problem("a"), programs) == [0.3, 0.1, 0.3, 0.3, 0, 0, 0, 0, 0, 0.1]


def test_what_is_right_decides_nothing() -> None:
    assert scored(problem("a"), [SORTED, REVERSED, REVERSED, REVERSED]) == [0.25, 0.75, 0.75, 0.75]


def test_floats_that_are_nearly_equal_agree() -> None:
    halves = ["def f(x): return [v / 3 for v in x]", "def f(x): return [v * (1 / 3) for v in x]"]
    assert scored(problem("a"), halves) == [1, 1]


def test_a_problem_without_tests_has_the_inputs_of_its_examples_and_more() -> None:
    untested = problem("a", tests="")
    assert inputs_of(untested) is None
    too_deep = dataclasses.replace(untested.given, prompt="-" * 100_000)
    assert inputs_of(dataclasses.replace(untested, given=too_deep, problem=too_deep)) is None
    assert scored(untested, [SORTED, SORTED, REVERSED]) == [0, 0, 0]
    given = dataclasses.replace(untested.given, prompt=HEAD)
    told = dataclasses.replace(untested, given=given, problem=given)
    inputs = inputs_of(told)
    assert inputs is not None and 2 < len(inputs.calls) <= MAX_INPUTS
    assert [call.args for call in inputs.calls[:2]] == [([3, 1, 2],), ([5, 4],)]
    by_examples_alone = "def f(x): return {(3, 1, 2): [1, 2, 3], (5, 4): [4, 5]}.get(tuple(x), 0)"
    assert scored(told, [SORTED, SORTED, REVERSED, by_examples_alone]) == [0.5, 0.5, 0.25, 0.25]


def test_tests_that_call_nothing_give_no_inputs() -> None:
    given = dataclasses.replace(problem("a").given, style=ProblemStyle.STDIO, tests='[["1", "2"]]')
    assert inputs_of(dataclasses.replace(problem("a"), given=given, problem=given)) is None


@pytest.mark.parametrize(
    ("given", "shares"),
    [
        ({"a": ("1", "2"), "b": ("1", "2"), "c": ("1", "")}, {"a": 0.75, "b": 0.75, "c": 0.25}),
        ({"a": ("",), "b": ("",)}, {"a": 0.0, "b": 0.0}),
        ({"a": ()}, {"a": 0.0}),
    ],
)
def test_a_share_counts_drafts_and_not_programs(given: dict[str, tuple[str, ...]], shares: dict[str, float]) -> None:
    votes = {program: 2 if program == "a" and len(given) == 3 else 1 for program in given}
    assert agreement(given, votes) == shares
