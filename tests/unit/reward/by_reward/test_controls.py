"""Rewards for controls know nothing of right and wrong."""

from app.records import Status
from app.reward.by_reward.controls import rewarded
from tests.unit.reward.made_drafts import group, judged, problem

PROBLEMS = {name: problem(name) for name in "ab"}


def test_shuffled_verdicts_are_as_many_as_before_and_others_drafts() -> None:
    drafts = [*group("+" * 8 + "-/?!" * 4), *group("-" * 12, "b")]
    found = rewarded(drafts, PROBLEMS, "shuffled", 1)
    before, after = ([one.reward for one in held] for held in (drafts, found))
    assert before.count(1) == after.count(1) and before.count(None) == after.count(None)
    assert before != after and any(one.reward for one in found if one.draft.problem_id == "b")
    assert [one.draft for one in found] == [one.draft for one in drafts]
    assert found == rewarded(drafts, PROBLEMS, "shuffled", 1) != rewarded(drafts, PROBLEMS, "shuffled", 2)


def test_format_is_a_program_that_defines_what_was_asked_for() -> None:
    drafts = [
        judged(Status.WRONG_ANSWER, program="def f(x): return 1"),
        judged(Status.PASSED, program="def g(x): return 1", sample=1),
        judged(Status.LOAD_ERROR, program="def f(x: return", sample=2),
        judged(Status.WRONG_ANSWER, program="def f(x): pass", sample=3),
        judged(Status.PASSED, program="def f(x): return 2", sample=4, cut=True),
    ]
    assert [one.reward for one in rewarded(drafts, PROBLEMS, "format", 0)] == [1, 0, 0, 0, None]


def test_tests_change_nothing() -> None:
    drafts = group("+-?")
    assert rewarded(drafts, PROBLEMS, "tests", 0) == drafts
