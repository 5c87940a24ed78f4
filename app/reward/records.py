"""The records of self-reward: what is learnt from, and what became of a draft."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.prompting.protocols import Message
from app.records import Draft, Problem, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingProblem:
    """A problem to learn from, never one of a test suite. Made by `app.reward.problems.find`; read by drafting.

    Example: TrainingProblem(suite="mbpp", given=Problem(...), problem=Problem(...), reference="def f(x): ...",
                             question=({"role": "user", "content": "Write a Python function ..."},))
    """

    suite: str
    """The suite whose words ask for it and whose reader finds the program in a reply."""
    given: Problem
    """As its source gives it."""
    problem: Problem
    """The same with hardened tests (`app.reward.problems.hardening`); what a draft has to pass to be rewarded."""
    reference: str
    """A solution, which is never learnt: expected values come from it."""
    question: tuple[Message, ...]
    """The dialogue up to the model's turn."""
    constraints: str = ""
    """What its source says of the arguments beyond the question, one a line; hardening keeps to it
    (`app.problem_tests.limits`)."""
    second: str = ""
    """Another solution that its source gives, by somebody else; never learnt. Where it does not agree with the
    reference, hardening has no further test."""

    @property
    def has_tests(self) -> bool:
        """Whether its drafts can be judged."""
        return bool(self.given.tests)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedDraft:
    """A draft, the program in it, and its verdict. Made by `app.reward.drafts.drafting`; read by the arms and the
    report."""

    draft: Draft
    """With its token ids and their log-probabilities."""
    program: str
    shape: str
    """Digest of the program's syntax tree, by which copies are told; empty where it does not parse."""
    verdict: Verdict
    """On the hardened tests."""

    @property
    def reward(self) -> float | None:
        """0 to 1; None where nothing may be learnt from it (`Verdict.reward`), or where it was cut at its limit of
        tokens."""
        return None if self.draft.finish_reason == "length" else self.verdict.reward


class LessonKind(StrEnum):
    """Why a draft is imitated, and which part of it."""

    RIGHT = "right"
    """It passed its tests, or is the best ranked of a problem without any; all of it is learnt."""
    BEGINNING = "beginning"
    """Any draft's first tokens."""
    WHOLE = "whole"
    """Any draft to its end."""
    REPLAY = "replay"
    """A greedy answer to an ordinary question, all of it."""
    WRITTEN = "written"
    """A reply that no model drew: it was made together with its question, all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """A prompt and the tokens after it that are imitated. Made by `app.reward.imitation.lessons`; read by
    `app.reward.imitation.training`.

    Example: Lesson(kind=LessonKind.RIGHT, problem_id="MBPP/601", round=1, sample=3, prompt_ids=(151644, 872),
                    learnt_ids=(73594, 12669, 151645))
    """

    kind: LessonKind
    problem_id: str
    round: int
    """In which the draft was drawn, from 1; of a pool's draft the generation; of what no round drew 0."""
    sample: int
    """The draft's number."""
    prompt_ids: Sequence[int]
    learnt_ids: Sequence[int]
    """As the engine drew them."""
