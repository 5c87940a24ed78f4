"""By what drafts are ranked: the critic where it was found to rank better than what needs none, else the best of these.

    grm/critic/adapter/       what the critic has learnt (`app.reward.critic.training`)
    grm/critic/metrics.json   what it and the baselines are worth on unseen problems, and which of them ranks

The critic is used where its best of n beats the best baseline's on the held-out problems and the 95 % interval of the
paired difference lies above zero. That the baseline is the best of several on these problems is in its favour.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.files.json_files import read_json, write_json
from app.progress import say
from app.records import FinishReason
from app.reward.critic.agreement import agreements
from app.reward.critic.critic import Critic, LocalCritic
from app.reward.critic.measures import AGREEMENT, CRITIC, LENGTH, LOGPROB, Group, Table, groups_of, table_of
from app.reward.critic.questions import claim_of
from app.reward.critic.training import Learnt, Ruling, is_held_out, rulings_of
from app.reward.imitation.selection import Rank, mean_logprob
from app.reward.records import JudgedDraft, TrainingProblem
from app.runs import Run
from app.sandbox.tiers import Confinement, confinement
from app.settings import Profile
from app.stage_settings.grm import CriticSettings

NOT_DECISIVE = {"checkpoint_every", "batch_size", "num_cpus"}
"""Settings that decide nothing of what is chosen."""
Critics = Callable[[Path, CriticSettings, int], AbstractContextManager[Critic]]
"""Starts the critic of a folder, by its settings and a seed."""
Start = Callable[[], AbstractContextManager[Critic]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What ranks drafts, and why. Made by `choose`."""

    ranking: str
    """CRITIC or one of BASELINES."""
    reason: str
    """For a person, after the ranking's name."""


class Ranking:
    """Ranks drafts of any problems by what was chosen. Made by `trained_critic`."""

    def __init__(
        self,
        choice: Choice,
        problems: Mapping[str, TrainingProblem],
        profile: Profile,
        start: Start,
        confined: Confinement,
    ) -> None:
        """problems: by their ids, those of all drafts that are to be ranked. start: starts the critic where it is
        used."""
        self.choice, self._problems = choice, problems
        self._profile, self._start, self._confined = profile, start, confined

    def of(self, drafts: Sequence[JudgedDraft]) -> Rank:
        """A rank of these drafts (`selection.selected`); those that were cut come last."""
        ended = [one for one in drafts if one.draft.finish_reason == FinishReason.STOP]
        name = self.choice.ranking
        if name == LOGPROB:
            return mean_logprob
        if name == LENGTH:
            return shortness
        if name == AGREEMENT:
            scores = agreements(self._problems, ended, self._profile.sandbox, self._confined)
        else:
            with self._start() as critic:
                scores = _critic_scores(critic, self._problems, ended)
        return lambda one: scores.get((one.draft.problem_id, one.program), 0.0)


def shortness(judged: JudgedDraft) -> float:
    """The fewer tokens, the better."""
    return -judged.draft.num_tokens


def local_critic(folder: Path, settings: CriticSettings, seed: int) -> AbstractContextManager[Critic]:
    """A critic in this process, as `Critics` has it."""
    return nullcontext(LocalCritic(folder, settings, seed))


def trained_critic(
    run: Run,
    profile: Profile,
    problems: Sequence[TrainingProblem],
    drafts: Sequence[JudgedDraft],
    *,
    critics: Critics = local_critic,
) -> Ranking:
    """Learn a critic from judged drafts, compare it with the baselines on held-out problems, write down what came of
    it, and say what is used. Called again, training goes on where it was ended.

    problems: of these drafts, and of those that are to be ranked; drafts of others play no part. critics: starts the
    critic; in this process, if nothing is said.
    """
    settings, confined = profile.grm.critic, confinement()
    start: Start = functools.partial(critics, run.grm_critic, settings, profile.seed)
    by_id = {one.given.id: one for one in problems}
    judged = [one for one in drafts if one.draft.problem_id in by_id]
    rulings = rulings_of(by_id, judged, settings, profile.seed)
    groups = held_out_groups(judged, settings, profile.seed)
    made_of = _made_of(rulings, groups, profile)
    held = read_json(run.grm_critic_metrics) if run.grm_critic_metrics.exists() else {}
    if held.get("made_of") == made_of:
        choice = Choice(ranking=held["used"], reason=held["why"])
    else:
        learnt, table = _measured(by_id, rulings if settings.train != "never" else [], groups, profile, confined, start)
        choice = choose(table)
        write_json(run.grm_critic_metrics, {"made_of": made_of, **told(settings, choice, table, learnt)})
    say(f"  drafts are ranked by {choice.ranking}: {choice.reason}")
    return Ranking(choice, by_id, profile, start, confined)


def _measured(
    problems: Mapping[str, TrainingProblem],
    rulings: Sequence[Ruling],
    groups: Mapping[str, Group],
    profile: Profile,
    confined: Confinement,
    start: Start,
) -> tuple[Learnt | None, Table | None]:
    """What the critic has learnt, and how it compares; None where there is no critic, or nothing to compare by."""
    if not groups:
        return None, None
    learnt, scores = None, baseline_scores(problems, groups, profile, confined)
    if rulings:
        with start() as critic:
            learnt = critic.learn(rulings)
            scores[CRITIC] = critic_scores(critic, problems, groups)
    return learnt, table_of(groups, scores, profile.grm.critic.best_of)


def choose(table: Table | None) -> Choice:
    """The critic where it beats the best baseline beyond doubt."""
    if table is None:
        return Choice(ranking=LOGPROB, reason="no held-out problem has drafts to compare rankings by")
    name = table.best_baseline
    best = table.row(name).best_of_n.value
    if name not in table.against:
        reason = f"there is no critic; of the others it most often puts a right one of {table.best_of} drafts first"
        return Choice(ranking=name, reason=f"{reason}, in {best:.1%} of {table.problems} held-out problems")
    found = table.against[name]
    low, high = (100 * end for end in found.interval_95)
    figures = (
        f"best of {table.best_of} {table.row(CRITIC).best_of_n.value:.1%} for the critic and {best:.1%} for {name}, "
        f"the best baseline, {100 * found.difference:+.1f} points ({low:+.1f} to {high:+.1f}) on {table.problems} "
        "problems that it has not learnt from"
    )
    if found.interval_95[0] > 0:
        return Choice(ranking=CRITIC, reason=figures)
    return Choice(ranking=name, reason=f"the critic is not shown to be better and is not used, {figures}")


def held_out_groups(drafts: Iterable[JudgedDraft], settings: CriticSettings, seed: int) -> dict[str, list[JudgedDraft]]:
    """Drafts of the problems on which rankings are compared."""
    unseen = (one for one in drafts if is_held_out(one.draft.problem_id, settings.held_out, seed))
    return groups_of(unseen, settings.best_of)


def baseline_scores(
    problems: Mapping[str, TrainingProblem], groups: Mapping[str, Group], profile: Profile, confined: Confinement
) -> dict[str, dict[str, list[float]]]:
    """By baseline and problem, as `table_of` takes them."""
    every = [one for group in groups.values() for one in group]
    agreed = agreements(problems, every, profile.sandbox, confined)
    return {
        LOGPROB: {name: [mean_logprob(one) for one in group] for name, group in groups.items()},
        LENGTH: {name: [shortness(one) for one in group] for name, group in groups.items()},
        AGREEMENT: {name: [agreed[name, one.program] for one in group] for name, group in groups.items()},
    }


def critic_scores(
    critic: Critic, problems: Mapping[str, TrainingProblem], groups: Mapping[str, Group]
) -> dict[str, list[float]]:
    """By problem, as `table_of` takes them."""
    found = _critic_scores(critic, problems, [one for group in groups.values() for one in group])
    return {name: [found[name, one.program] for one in group] for name, group in groups.items()}


def _critic_scores(
    critic: Critic, problems: Mapping[str, TrainingProblem], drafts: Sequence[JudgedDraft]
) -> dict[tuple[str, str], float]:
    claims = [claim_of(problems[one.draft.problem_id], one) for one in drafts]
    keys = [(one.draft.problem_id, one.program) for one in drafts]
    return dict(zip(keys, critic.score(claims), strict=True))


def _made_of(rulings: Sequence[Ruling], groups: Mapping[str, Group], profile: Profile) -> str:
    """Digest of what decides the choice."""
    judged = [[(one.draft.sample, one.program, one.reward) for one in groups[name]] for name in sorted(groups)]
    sandbox = profile.sandbox
    facts = [sorted(groups), judged, [asdict(one) for one in rulings], profile.seed,
             profile.grm.critic.model_dump(exclude=NOT_DECISIVE), sandbox.timeout_s, sandbox.memory_bytes]  # fmt: skip
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def told(settings: CriticSettings, choice: Choice, table: Table | None, learnt: Learnt | None) -> dict[str, Any]:
    """For metrics.json."""
    return {
        "model": settings.model.model_dump(),
        "used": choice.ranking,
        "why": choice.reason,
        "learnt": asdict(learnt) if learnt else None,
        "measured": asdict(table) if table else None,
    }
