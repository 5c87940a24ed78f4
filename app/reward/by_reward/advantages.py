"""What a draft is better than its problem's other drafts: its reward less their mean.

A group whose rewards are all equal teaches nothing and has no advantages. After Dr. GRPO (arXiv 2503.20783) nothing is
divided by the group's deviation unless it is asked for: that would weigh problems that are nearly always, or nearly
never, solved more than the others.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.reward.records import JudgedDraft


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The drafts of one problem that are compared with one another. Made by `groups_of`; read by the update."""

    problem_id: str
    drafts: tuple[JudgedDraft, ...]
    advantages: tuple[float, ...] | None
    """One for each draft, 0 where it has no reward; None where there is nothing to learn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCounts:
    """How many groups there are of each kind. Made by `counts_of`; read by the watch and the report."""

    total: int
    with_variance: int
    all_right: int
    """All rewards are 1."""
    all_wrong: int
    """All rewards are 0."""
    too_few: int
    """Fewer than two drafts have a reward."""


def advantages(rewards: Sequence[float | None], *, by_deviation: bool = False) -> list[float] | None:
    """Each reward less the mean of those that are there, 0 where there is none; None for a group without variance.

    by_deviation: divided by the deviation of the rewards that are there, as in GRPO (arXiv 2402.03300).
    """
    there = [reward for reward in rewards if reward is not None]
    if len(there) < 2 or min(there) == max(there):
        return None
    mean = math.fsum(there) / len(there)
    scale = math.sqrt(math.fsum((r - mean) ** 2 for r in there) / len(there)) if by_deviation else 1.0
    return [0.0 if reward is None else (reward - mean) / scale for reward in rewards]


def groups_of(drafts: Iterable[JudgedDraft], *, by_deviation: bool = False) -> list[Group]:
    """The drafts by problem, in the order in which the problems come first."""
    found: dict[str, list[JudgedDraft]] = defaultdict(list)
    for one in drafts:
        found[one.draft.problem_id].append(one)
    groups = []
    for name, held in found.items():
        gained = advantages([one.reward for one in held], by_deviation=by_deviation)
        groups.append(Group(problem_id=name, drafts=tuple(held), advantages=None if gained is None else tuple(gained)))
    return groups


def counts_of(groups: Sequence[Group]) -> GroupCounts:
    """A group without variance is all right, all wrong, or where a judge gives parts of a point neither."""
    rewards = [[one.reward for one in group.drafts if one.reward is not None] for group in groups]
    equal = [held[0] for held in rewards if len(held) > 1 and min(held) == max(held)]
    return GroupCounts(
        total=len(groups),
        with_variance=sum(group.advantages is not None for group in groups),
        all_right=equal.count(1.0),
        all_wrong=equal.count(0.0),
        too_few=sum(len(held) < 2 for held in rewards),
    )
