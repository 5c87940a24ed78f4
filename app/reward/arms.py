"""The arms of self-reward: ways to learn from the same problems, one of which a run takes (`grm.arm`).

grpo and distill learn while they draw (`by_reward`), by tests or by what a larger model says; rft and upft
imitate drafts in rounds (`imitation`). Each trains on Ray Train (`ray_learning`) and leaves its adapter in `Run.arm`.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from app.files.json_files import read_json
from app.progress import say
from app.records import Generator, Judge
from app.reward.by_reward.learning import why_ended
from app.reward.by_reward.outlets import read_figures
from app.reward.by_reward.validation import read_validations
from app.reward.critic.choice import Critics, trained_critic
from app.reward.drafts.asking import Asked
from app.reward.drafts.files import read_drafts
from app.reward.drafts.headroom import Headroom, learnable
from app.reward.imitation.lessons import read_lessons
from app.reward.imitation.rounds import Ranking, RoundFigures, learn_by_imitation
from app.reward.imitation.training import total_steps
from app.reward.ray_learning import imitate_on_ray, learn_on_ray
from app.reward.records import JudgedDraft, TrainingProblem
from app.running.deadlines import Deadline, cut_short
from app.runs import Run
from app.settings import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What an arm begins with. Made by `app.reward.stage`."""

    run: Run
    profile: Profile
    problems: Sequence[Asked]
    """All that leave a draft its room."""
    held_out: Sequence[TrainingProblem]
    """To validate by, those that leave a draft its room; none, where nothing is validated."""
    headroom: Headroom | None
    """What the untouched model solves of them; None where its drafts were not asked for."""
    generator: Generator
    judge: Judge
    facts: Mapping[str, Any]
    """What decides drafts and verdicts beside prompts and sampling, kept with the drafts."""
    critics: Critics
    """Starts the critic."""
    deadline: Deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """What an arm came to. Made by ARMS; kept in grm/meta.json."""

    problems: Sequence[Asked]
    """Those that were learnt from."""
    steps: int
    drafts: int
    tokens: int
    """Drawn tokens of these drafts."""
    learnt_tokens: int
    """That entered the loss, all steps together."""
    seconds: float
    """Summed over all steps."""
    why_ended: str
    cut: str
    """What its deadline has cut (`app.running.deadlines.cut_short`); empty where nothing was."""
    more: Mapping[str, Any]
    """What this arm alone has to say."""


def _by_learning(begun: Begun) -> Learnt:
    run, profile, learnt = begun.run, begun.profile, begun.problems
    at = run.arm(profile.grm.arm)
    if begun.headroom:
        learnt = learnable(begun.problems, begun.headroom, profile.grm.rate_band)
        say(f"  {len(learnt)} of {len(begun.problems)} problems are learnt from")
    ids = [one.problem.given.id for one in learnt]
    learn_on_ray(run, profile, ids, begun.generator, begun.judge, begun.facts, begun.held_out, begun.deadline)
    figures, validations = read_figures(at.metrics), read_validations(at.validation)
    of_teacher = {"teacher_kl_first": figures[0].teacher_kl, "teacher_kl_last": figures[-1].teacher_kl}
    return Learnt(
        problems=learnt,
        steps=len(figures),
        drafts=sum(one.num_drafts for one in figures),
        tokens=sum(one.num_tokens for one in figures),
        learnt_tokens=sum(one.learnt_tokens for one in figures),
        seconds=sum(
            one.drafting_seconds + one.judging_seconds + one.scoring_seconds + one.training_seconds for one in figures
        ),
        why_ended=why_ended(figures, profile.grm, validations, is_cut=at.cut.exists()),
        cut=cut_short(len(figures), profile.grm.steps, begun.deadline) if at.cut.exists() else "",
        more={"reward_first": figures[0].reward_mean, "reward_last": figures[-1].reward_mean}
        | {name: value for name, value in of_teacher.items() if value is not None}
        | ({"validations": {one.step: one.mean for one in validations}} if validations else {}),
    )


def _by_imitation(begun: Begun) -> Learnt:
    run, profile = begun.run, begun.profile
    at = run.arm(profile.grm.arm)
    given = read_drafts(run.grm_rates) if begun.headroom else []
    ranking = ranking_of(begun, given) if profile.grm.arm == "rft" else None
    rounds = learn_by_imitation(
        at,
        profile,
        begun.problems,
        begun.generator,
        begun.judge,
        functools.partial(imitate_on_ray, run, profile, begun.generator, begun.deadline),
        given=given,
        facts=begun.facts,
        ranking=ranking,
        deadline=begun.deadline,
    )
    cut = _cut_of(rounds, profile, begun.deadline)
    ids = {one.problem_id for one in read_lessons(at.lessons)}
    return Learnt(
        problems=[one for one in begun.problems if one.problem.given.id in ids],
        steps=sum(one.steps for one in rounds),
        drafts=sum(one.drafts for one in rounds),
        tokens=sum(one.tokens for one in rounds),
        learnt_tokens=sum(one.learnt_tokens for one in rounds),
        seconds=sum(one.seconds for one in rounds),
        why_ended="its time was over" if cut else "all rounds were trained",
        cut=cut,
        more={
            "rounds": [asdict(one) for one in rounds],
            "ranking": read_json(run.grm_critic_metrics) if ranking else None,
        },
    )


def _cut_of(rounds: Sequence[RoundFigures], profile: Profile, deadline: Deadline) -> str:
    last, wanted = rounds[-1], profile.grm.imitate.rounds if profile.grm.arm == "rft" else 1
    steps = total_steps(sum(last.lessons.values()), profile)
    if last.steps == steps and len(rounds) == wanted:
        return ""
    return f"in round {last.round} of {wanted}, {cut_short(last.steps, steps, deadline)}"


def ranking_of(begun: Begun, given: Sequence[JudgedDraft]) -> Ranking | None:
    """What chooses among drafts that no test tells apart; None where all problems have tests, unless it is asked for.

    given: drafts with verdicts, from which it is found out what ranks best."""
    problems = [one.problem for one in begun.problems]
    if begun.profile.grm.critic.train != "always" and all(one.has_tests for one in problems):
        return None
    return lambda drafts: trained_critic(begun.run, begun.profile, problems, given, critics=begun.critics).of(drafts)


ARMS: dict[str, Callable[[Begun], Learnt]] = {
    "grpo": _by_learning, "distill": _by_learning, "rft": _by_imitation, "upft": _by_imitation
}  # fmt: skip
"""By `grm.arm`."""


def told(meta: Mapping[str, Any]) -> str:
    """What grm/meta.json says of the training, for a person."""
    drawn = f"{meta['arm']}: {meta['steps']} steps, {meta['drafts']} drafts, {meta['tokens']} tokens drawn"
    if "rounds" not in meta:
        first, last = ("-" if meta[name] is None else f"{meta[name]:.3f}" for name in ("reward_first", "reward_last"))
        teacher = ""
        if "teacher_kl_first" in meta:
            ends = f"{meta['teacher_kl_first']:.3f} in the first and {meta['teacher_kl_last']:.3f} in the last"
            teacher = f"; nats a token from the teacher: {ends}"
        return f"{drawn}; reward {first} in the first step, {last} in the last{teacher}"
    last = meta["rounds"][-1]
    number = sum(last["lessons"].values())
    return f"{drawn}; {number} samples imitated in round {last['round']}, loss {last['loss_last']:.3f} in the end"
