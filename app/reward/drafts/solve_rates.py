"""How often problems are solved: rates, bands of difficulty, and pass@k, from judged drafts.

All drafts with a verdict that could not be forged count, also those that were cut at their limit of tokens: what is
measured here is the model, as evaluation does it, and not what may be learnt from.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from app.evaluation.statistics import pass_at_k
from app.evaluation.verdict_counts import mean_score
from app.records import Score
from app.reward.records import JudgedDraft

Rates = Mapping[str, tuple[int, int]]
"""By problem: how many drafts passed, and how many count."""
BANDS = ("0", "to 0.25", "to 0.5", "to 0.75", "to 1.0", "1")
"""Of solve rates, the hardest first: never, rarely, ..., nearly always, always."""


def rates(drafts: Iterable[JudgedDraft]) -> dict[str, tuple[int, int]]:
    """In the order in which the problems come first; a problem of which no draft counts is left out."""
    passed, counted = Counter[str](), Counter[str]()
    for one in drafts:
        if (reward := one.verdict.reward) is not None:
            counted[one.draft.problem_id] += 1
            passed[one.draft.problem_id] += reward == 1
    return {name: (passed[name], count) for name, count in counted.items()}


def band(rate: float) -> str:
    """Of BANDS; each up to its bound, the bound included."""
    return BANDS[5] if rate == 1 else BANDS[math.ceil(rate * 4)]


def bands(solved: Iterable[float]) -> dict[str, int]:
    """How many problems there are in each band that has some, the hardest first."""
    found = Counter(map(band, solved))
    return {name: found[name] for name in BANDS if found[name]}


def pass_at(found: Rates, k: int) -> Score | None:
    """Over the problems of which k drafts count; None where there is none. k = 1 gives the mean solve rate."""
    values = [pass_at_k(count, passed, k) for passed, count in found.values() if count >= k]
    return mean_score(values) if values else None
