"""A draft is compared with its own problem's drafts, and what can't be compared teaches nothing."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.reward.by_reward.advantages import GroupCounts, advantages, counts_of, groups_of
from tests.unit.reward.made_drafts import group

REWARDS = st.lists(st.sampled_from([0.0, 1.0, None]), max_size=20)


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ([1, 0, 0, 0], [0.75, -0.25, -0.25, -0.25]),
        ([1, 1, 0, 1], [0.25, 0.25, -0.75, 0.25]),
        ([1, None, 0, None], [0.5, 0, -0.5, 0]),
        ([1, 1, 1], None),
        ([0, 0, 0], None),
        ([1, None, 1], None),
        ([1, None], None),
        ([None, None], None),
        ([], None),
        ([1], None),
    ],
)
def test_the_baseline_is_the_mean_of_the_rewards_that_are_there(
    rewards: list[float | None], expected: list[float] | None
) -> None:
    assert advantages(rewards) == expected


@given(REWARDS)
def test_advantages_sum_to_nothing_and_what_has_no_reward_gets_none(rewards: list[float | None]) -> None:
    for by_deviation in (False, True):
        found = advantages(rewards, by_deviation=by_deviation)
        there = [reward for reward in rewards if reward is not None]
        assert (found is None) == (len(set(there)) < 2)
        if found is not None:
            assert math.fsum(found) == pytest.approx(0, abs=1e-9)
            assert all(one == 0 for one, reward in zip(found, rewards, strict=True) if reward is None)
            assert all(one > 0 for one, reward in zip(found, rewards, strict=True) if reward == 1)


def test_a_rare_success_weighs_more_by_the_deviation() -> None:
    assert advantages([1, 0, 0, 0]) == [0.75, -0.25, -0.25, -0.25]
    found = advantages([1, None, 0, 0, 0], by_deviation=True)
    assert found == pytest.approx([math.sqrt(3), 0, *[-1 / math.sqrt(3)] * 3])


def test_groups_are_problems_in_the_order_they_come_first() -> None:
    first, second = group("+-/+", "b"), group("++", "a")
    mixed = [first[0], second[0], *first[1:], second[1]]
    found = groups_of(mixed)
    assert [one.problem_id for one in found] == ["b", "a"]
    assert found[0].drafts == tuple(first) and found[1].advantages is None
    assert found[0].advantages == pytest.approx((1 / 3, -2 / 3, 0, 1 / 3)), "a draft that was cut takes no part"


def test_groups_are_counted_by_what_they_teach() -> None:
    marks = ("+-", "+-?", "++", "++!", "--", "-?", "?!", "+/", "/-")
    drafts = [one for number, each in enumerate(marks) for one in group(each, str(number))]
    assert counts_of(groups_of(drafts)) == GroupCounts(total=9, with_variance=2, all_right=2, all_wrong=1, too_few=4)
    assert counts_of([]) == GroupCounts(total=0, with_variance=0, all_right=0, all_wrong=0, too_few=0)
