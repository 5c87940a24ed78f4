"""What is learnt of a problem: right programs, all different, that ended by themselves, more of a harder problem."""

import dataclasses
import random

import pytest

from app.records import Status
from app.reward.drafts.solve_rates import rates
from app.reward.imitation.selection import candidates, mean_logprob, selected
from app.reward.records import JudgedDraft
from tests.unit.reward.made_drafts import group, judged, problem


def samples(drafts: list[JudgedDraft]) -> list[int]:
    return [one.draft.sample for one in drafts]


def by_sample(one: JudgedDraft) -> float:
    return one.draft.sample


@pytest.mark.parametrize(
    ("marks", "number"),
    [
        ("----------------", 0),
        ("++++++++++++++++", 1),
        ("++++----------------", 4),  # p = 0.2
        ("++++------------", 4),  # 0.25
        ("+++++-----------", 2),  # 0.31
        ("++++++++++++----", 2),  # 0.75
        ("+++++++++++++---", 1),  # 0.81
        ("+---------------", 1),
        ("????", 0),
        ("!!!!", 0),
        ("+???", 1),
    ],
)
def test_more_is_learnt_of_a_harder_problem_and_only_what_passed(marks: str, number: int) -> None:
    chosen = selected(group(marks))
    assert len(chosen) == number and all(one.reward == 1 for one in chosen)


def test_a_draft_that_was_cut_is_not_learnt_though_it_counts_for_its_problem() -> None:
    assert samples(selected(group("+//-"))) == [0], "three of four pass"
    assert selected(group("////")) == []


def test_the_best_ranked_are_taken_first() -> None:
    assert samples(selected(group("++++++--"), rank=by_sample)) == [5, 4]
    likely = [
        dataclasses.replace(one, draft=dataclasses.replace(one.draft, mean_logprob=-1.0)) for one in group("++--")
    ]
    likely[1] = dataclasses.replace(likely[1], draft=dataclasses.replace(likely[1].draft, mean_logprob=-0.1))
    assert samples(selected(likely, rank=mean_logprob)) == [1, 0]
    assert samples(selected(group("-+----+-"), rank=lambda one: -one.draft.sample)) == [1, 6]


def test_a_ranking_never_puts_a_wrong_draft_before_a_right_one() -> None:
    assert samples(selected(group("+---"), rank=by_sample)) == [0]


def test_of_copies_the_best_ranked_is_learnt() -> None:
    twice = [judged(Status.PASSED, sample=n, program=f"def f(x): return x  # {n}") for n in range(3)]
    drafts = [*twice, judged(Status.PASSED, sample=3), *group("-" * 30)[4:]]
    assert samples(selected(drafts, rank=by_sample)) == [3, 2]
    assert len(selected(drafts)) == 2


def test_without_tests_the_ranking_decides_between_programs_that_define_what_is_asked_for() -> None:
    problems = {"a": problem("a", tests="")}
    drafts = [judged(None, sample=number) for number in range(6)]
    drafts[5] = judged(None, sample=5, cut=True)
    for sample, program in ((4, "def f("), (3, "def g(x): return 3"), (2, "def f(x):\n    pass\n\n\nprint(2)")):
        drafts[sample] = judged(None, sample=sample, program=program)
    assert samples(selected(drafts, rank=by_sample, problems=problems)) == [1, 0]
    assert samples(candidates(drafts, problems)) == [0, 1] and selected(drafts) == []


def test_the_choice_does_not_depend_on_the_order_of_a_problems_drafts() -> None:
    drafts = group("++++--------", "a") + group("+++---------", "b")
    chosen = selected(drafts)
    for seed in range(5):
        mixed = random.Random(seed).sample(drafts, len(drafts))
        again = selected(sorted(mixed, key=lambda one: one.draft.problem_id))
        assert again == chosen
    tied = selected(drafts, rank=lambda _: 0.0)
    assert tied == chosen, "ties are broken as if there were no ranking"


def test_drafts_of_several_rounds_are_one_choice_without_copies() -> None:
    def drawn(number: int, seed: int, program: str = "") -> JudgedDraft:
        one = judged(Status.PASSED, sample=number, program=program)
        return dataclasses.replace(one, draft=dataclasses.replace(one.draft, seed=seed))

    first = [drawn(n, seed=0) for n in range(3)] + group("-" * 30)[3:]
    copies = [drawn(n, seed=1, program=f"def f(x): return {n}  # again") for n in range(3)]
    fresh = [drawn(n, seed=1) for n in range(3, 6)]
    untouched = rates(first)
    assert len(selected([*first, *copies], untouched=untouched)) == 3, "a copy of an earlier round is no other program"
    chosen = selected([*first, *copies, *fresh], untouched=untouched)
    assert len(chosen) == 4 and len({one.shape for one in chosen}) == 4
    assert selected([*first, *copies, *fresh], rank=lambda _: 1.0, untouched=untouched) == chosen, "ties go by hash"


def test_how_hard_a_problem_is_the_untouched_model_says() -> None:
    first, later = group("+" + "-" * 9), [judged(Status.PASSED, sample=number) for number in range(10, 20)]
    assert len(selected([*first, *later])) == 2, "eleven of twenty pass"
    assert len(selected([*first, *later], untouched=rates(first))) == 4, "one of ten did"
    others = [judged(Status.PASSED, name="b", sample=number) for number in range(10)]
    assert len(selected(others, untouched=rates(first))) == 1, "of a problem that it was not asked, the drafts do"
