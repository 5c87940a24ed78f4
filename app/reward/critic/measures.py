"""How well rankings of drafts tell right from wrong ones, on problems that no critic has learnt from.

AUC is the chance that a right draft is ranked before a wrong one, ties counting one half: over all drafts together
(pooled), and within each problem that has both, averaged (within). Only the second says something about choosing among
drafts of one problem. The best of n is what a person gets who draws n drafts and takes the best-ranked: the share of
problems solved so, where several are best the mean over these.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.evaluation.statistics import Comparison, compare
from app.evaluation.verdict_counts import mean_score
from app.records import Score
from app.reward.records import JudgedDraft

CRITIC, LOGPROB, LENGTH, AGREEMENT = "critic", "mean_logprob", "length", "mbr_exec"
BASELINES = (LOGPROB, LENGTH, AGREEMENT)
"""Rankings that need no critic: likely drafts first, short ones first, those that many others agree with."""
CHANCE, ORACLE = "chance", "oracle"
"""What drawing one draft gives, and what a ranking gives that is never wrong."""
Group = Sequence[JudgedDraft]
"""Drafts of one problem with a reward, in the order of their numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """How well one ranking does. Made by `measured`; kept in grm/critic/metrics.json."""

    ranking: str
    auc_pooled: float | None
    """None where drafts all pass or all fail."""
    auc_within: float | None
    """None where no problem has right and wrong drafts."""
    best_of_n: Score


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All rankings on the same drafts. Made by `table_of`; read by `app.reward.critic.choice` and the report."""

    best_of: int
    problems: int
    mixed: int
    """Problems with right and wrong drafts: the others tell no ranking from another."""
    drafts: int
    rows: tuple[Measured, ...]
    """The critic first where there is one, then BASELINES, CHANCE and ORACLE."""
    against: Mapping[str, Comparison]
    """The critic's best of n minus each baseline's, paired by problem; empty without a critic."""

    def row(self, ranking: str) -> Measured:
        return next(row for row in self.rows if row.ranking == ranking)

    @property
    def best_baseline(self) -> str:
        return max(BASELINES, key=lambda name: self.row(name).best_of_n.value)


def groups_of(drafts: Iterable[JudgedDraft], best_of: int) -> dict[str, list[JudgedDraft]]:
    """By problem the first `best_of` drafts that have a reward; problems with fewer than two are left out."""
    groups: dict[str, list[JudgedDraft]] = defaultdict(list)
    for one in drafts:
        if one.reward is not None:
            groups[one.draft.problem_id].append(one)
    firsts = {name: sorted(group, key=lambda one: one.draft.sample)[:best_of] for name, group in groups.items()}
    return {name: group for name, group in firsts.items() if len(group) > 1}


def table_of(groups: Mapping[str, Group], scores: Mapping[str, Mapping[str, Sequence[float]]], best_of: int) -> Table:
    """scores: by ranking and problem, one for each draft of the group; the higher, the better. Those of BASELINES, and
    of the critic where there is one. There has to be a problem."""
    rights = {name: [one.reward == 1 for one in group] for name, group in groups.items()}
    alike = {name: [0.0] * len(group) for name, group in groups.items()}
    knowing = {name: [float(right) for right in held] for name, held in rights.items()}
    given = {**scores, CHANCE: alike, ORACLE: knowing}
    names = [name for name in (CRITIC, *BASELINES, CHANCE, ORACLE) if name in given]
    solved = {name: {p: best_of_n(given[name][p], rights[p]) for p in groups} for name in names}
    return Table(
        best_of=best_of,
        problems=len(groups),
        mixed=sum(len(set(held)) == 2 for held in rights.values()),
        drafts=sum(map(len, groups.values())),
        rows=tuple(_measured(name, given[name], rights, solved[name]) for name in names),
        against={} if CRITIC not in given else _against(solved),
    )


def table_from(held: Mapping[str, Any]) -> Table:
    """The table of its fields as JSON has them. Raises KeyError or TypeError for anything else."""
    rows = (Measured(**{**row, "best_of_n": Score(**row["best_of_n"])}) for row in held["rows"])
    against = {name: Comparison(**found) for name, found in held["against"].items()}
    return Table(**{**held, "rows": tuple(rows), "against": against})


def _against(solved: Mapping[str, Mapping[str, float]]) -> dict[str, Comparison]:
    found = {name: compare(solved[name], solved[CRITIC]) for name in BASELINES}
    return {name: one for name, one in found.items() if one is not None}


def _measured(
    ranking: str,
    scores: Mapping[str, Sequence[float]],
    rights: Mapping[str, Sequence[bool]],
    solved: Mapping[str, float],
) -> Measured:
    every = [(score, right) for name, held in rights.items() for score, right in zip(scores[name], held, strict=True)]
    within = [found for name, held in rights.items() if (found := auc(scores[name], held)) is not None]
    return Measured(
        ranking=ranking,
        auc_pooled=auc([score for score, _ in every], [right for _, right in every]),
        auc_within=sum(within) / len(within) if within else None,
        best_of_n=mean_score(list(solved.values())),
    )


def auc(scores: Sequence[float], rights: Sequence[bool]) -> float | None:
    """The chance that a right one scores above a wrong one, ties one half (Mann and Whitney 1947); None where there are
    not both."""
    num_right = sum(rights)
    num_wrong = len(rights) - num_right
    if not num_right or not num_wrong:
        return None
    order = sorted(range(len(scores)), key=lambda place: scores[place])
    wrong_below, won, start = 0, 0.0, 0
    while start < len(order):  # over groups of equal score
        end = start
        while end < len(order) and scores[order[end]] == scores[order[start]]:
            end += 1
        right = sum(rights[place] for place in order[start:end])
        wrong = end - start - right
        won += right * (wrong_below + wrong / 2)
        wrong_below += wrong
        start = end
    return won / (num_right * num_wrong)


def best_of_n(scores: Sequence[float], rights: Sequence[bool]) -> float:
    """Whether the best-scored one is right; of several the share that is."""
    best = max(scores)
    tied = [right for score, right in zip(scores, rights, strict=True) if score == best]
    return sum(tied) / len(tied)
