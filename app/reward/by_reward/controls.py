"""Rewards that know nothing of right and wrong, to hold a gain against: what a training by one of these gains as well
was not learnt from tests (Shao et al., "Spurious Rewards", arXiv 2506.10947).

format: whether a draft holds a program that parses and defines what was asked for, by more than a stub. shuffled: the
verdicts of a step's drafts, dealt out anew by hash, so that as many drafts are rewarded as before.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

from app.corpus.draws import by_hash
from app.records import Status
from app.reward.drafts.drafting import answers_question
from app.reward.records import JudgedDraft, TrainingProblem

Reward = Literal["tests", "format", "shuffled"]


def rewarded(
    drafts: Sequence[JudgedDraft], problems: Mapping[str, TrainingProblem], reward: Reward, seed: int
) -> list[JudgedDraft]:
    """The drafts under another reward, by problem id; themselves where tests decide. Drafts that have no reward keep
    none."""
    if reward == "tests":
        return list(drafts)
    there = [one for one in drafts if one.reward is not None]
    if reward == "format":
        rights = [answers_question(problems[one.draft.problem_id], one.program) for one in there]
    else:
        order = sorted(there, key=lambda one: by_hash(f"{seed} {one.draft.problem_id} {one.draft.sample}"))
        rights = [one.reward == 1 for one in order]
    given = {id(one): right for one, right in zip(there, rights, strict=True)}
    return [_with_verdict(one, given[id(one)]) if id(one) in given else one for one in drafts]


def _with_verdict(judged: JudgedDraft, is_right: bool) -> JudgedDraft:
    status = Status.PASSED if is_right else Status.WRONG_ANSWER
    return dataclasses.replace(judged, verdict=dataclasses.replace(judged.verdict, status=status))
