"""Which drafts rejection-sampled tuning learns (after ReST-EM, arXiv 2312.06585): right ones, all different, more of
them the harder their problem is.

Execution decides first: of a problem with tests only drafts that passed are taken. A ranking (a critic, or the mean
log-probability) decides between those, and alone where there are no tests. Every draft that is taken ended by itself.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from app.corpus.draws import by_hash
from app.records import FinishReason
from app.reward.drafts.drafting import UNTESTED, answers_question
from app.reward.drafts.solve_rates import Rates, rates
from app.reward.records import JudgedDraft, TrainingProblem

MOST_HARD, MOST_MIDDLE, MOST_EASY = 4, 2, 1
"""Drafts that are learnt of a problem whose solve rate is at most HARD, at most MIDDLE, above."""
HARD, MIDDLE = 0.25, 0.75
MOST_UNTESTED = 2
"""Of a problem without tests."""
Rank = Callable[[JudgedDraft], float]
"""The higher, the better."""


def most_learnt(rate: float) -> int:
    """How many drafts are learnt of a problem that is solved at this rate."""
    return MOST_HARD if rate <= HARD else MOST_MIDDLE if rate <= MIDDLE else MOST_EASY


def selected(
    drafts: Iterable[JudgedDraft],
    rank: Rank | None = None,
    untouched: Rates | None = None,
    problems: Mapping[str, TrainingProblem] = {},
) -> list[JudgedDraft]:
    """The drafts to learn, best first within a problem, problems in the order in which they come first. Drafts of
    several rounds are one choice.

    rank: None takes an order drawn by hash, and leaves out problems without tests. untouched: how often the model that
    is trained solves the problems, by which they are hard or easy; the drafts' own rates for those it does not hold.
    problems: by their ids; with a rank, those without tests have to be there.
    """
    held: dict[str, list[JudgedDraft]] = defaultdict(list)
    for one in drafts:
        held[one.draft.problem_id].append(one)
    solved = {**rates(one for group in held.values() for one in group), **(untouched or {})}
    taken: list[JudgedDraft] = []
    for name, group in held.items():
        if name in solved:
            passed, counted = solved[name]
            taken += _best([one for one in group if one.reward == 1], rank, most_learnt(passed / counted))
        elif rank is not None:
            taken += _best([one for one in group if is_complete(one, problems)], rank, MOST_UNTESTED)
    return taken


def candidates(drafts: Iterable[JudgedDraft], problems: Mapping[str, TrainingProblem]) -> list[JudgedDraft]:
    """Those that `selected` chooses from where there is a ranking: right ones, and complete ones without tests."""
    return [one for one in drafts if one.reward == 1 or is_complete(one, problems)]


def mean_logprob(judged: JudgedDraft) -> float:
    """A ranking that needs no critic."""
    return judged.draft.mean_logprob


def _best(drafts: Sequence[JudgedDraft], rank: Rank | None, most: int) -> list[JudgedDraft]:
    """The first ones of different shape."""
    order = sorted(drafts, key=lambda one: (-rank(one) if rank else 0.0, _by_hash(one)))
    different = {one.shape or one.program: one for one in reversed(order)}
    return [one for one in order if different[one.shape or one.program] is one][:most]


def _by_hash(judged: JudgedDraft) -> bytes:
    draft = judged.draft
    return by_hash(f"{draft.problem_id}\n{draft.sample}\n{draft.seed}\n{draft.text}")


def is_complete(judged: JudgedDraft, problems: Mapping[str, TrainingProblem]) -> bool:
    """Whether an untested draft ended by itself and holds a program that defines what its problem asks for."""
    ended = judged.verdict.tier == UNTESTED and judged.draft.finish_reason == FinishReason.STOP
    return ended and bool(judged.shape) and answers_question(problems[judged.draft.problem_id], judged.program)
