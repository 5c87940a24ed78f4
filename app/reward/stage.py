"""The self-reward stage: the model learns from its own drafts, which executed tests have judged.

    problems    grm/problems/   those of grm.problems with hardened tests; validation/ below it: those to validate by
    rates       grm/drafts/     drafts by the untouched model: how often it solves each problem
    learning    grm/arms/ARM/   drafts, figures and adapter of grm.arm (`arms`)
    audit       grm/audit.jsonl a second verdict on a sample of the drafts that passed
    the end     grm/adapter, attribution.csv, and meta.json, written last

Each part is skipped where it is there, so the stage goes on wherever it was ended. Run: python -m app grm --profile P
--run DIR
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from app.evaluation.measurement import Engines
from app.files.json_files import write_json
from app.models.base import ensure_model, load_tokenizer
from app.progress import say
from app.reward.arms import ARMS, Begun, Learnt
from app.reward.by_reward.distillation import check_teacher
from app.reward.critic.choice import Critics, local_critic
from app.reward.drafts.asking import asked
from app.reward.drafts.audit import audit
from app.reward.drafts.drafting import check_asked
from app.reward.drafts.headroom import Headroom, measured
from app.reward.drafts.solve_rates import bands
from app.reward.model_card import write_card
from app.reward.preparing import facts_of, hardened, mined_from, write_rights
from app.reward.problems.find import licences, of_arm
from app.reward.problems.store import HardeningCounts, counts_of
from app.reward.records import TrainingProblem
from app.running.deadlines import NEVER, Deadline
from app.runs import Run, git_commit
from app.sandbox.tiers import confinement
from app.settings import Profile
from app.training.ray_train import replace_folder


def check_model(profile: Profile) -> None:
    """Raise UserError for a base model that can't be asked in a dialogue, or a teacher of other tokens, before anything
    is started."""
    check_asked(load_tokenizer(ensure_model(profile.model)))
    if profile.grm.arm == "distill":
        check_teacher(profile.model, profile.grm)


def run_grm(
    run: Run,
    profile: Profile,
    problems: Sequence[TrainingProblem],
    validating_by: Sequence[TrainingProblem],
    engines: Engines,
    critics: Critics = local_critic,
    deadline: Deadline = NEVER,
) -> None:
    """Train the run's adapter, and write grm/meta.json last; do nothing where that is there. Needs a connected Ray.

    problems: of profile.grm.problems; validating_by: those that checkpoints are validated by, if any. engines: starts
    the generator, with room for a trainer beside it, and the judges. critics: starts the critic, where a problem has no
    tests. deadline: ends the learning, with the best checkpoint. Raises NothingToLearnError where the arm can learn
    from none of the problems.
    """
    if run.grm_meta.exists():
        return
    run.decision("grm").unlink(missing_ok=True)  # about an adapter that was there before
    grm = profile.grm
    usable = {one.given.id for one in of_arm(problems, grm.arm)}
    mined_from(grm.problems, run)
    held = hardened(run.grm_problems, profile, problems, "grm")
    counts = counts_of(held)
    say(f"  {_told(counts)}")
    validating = hardened(run.grm_validation_problems, profile, validating_by, "grm") if validating_by else []
    of_validation = counts_of(validating)
    if validating:
        say(f"  to validate by: {_told(of_validation)}")
    tokenizer = load_tokenizer(ensure_model(profile.model))
    taken = [one.problem for one in held if one.problem.given.id in usable]
    chosen = asked(taken, tokenizer, grm)
    tested = [one for one in chosen if one.problem.has_tests]
    to_validate = asked([one.problem for one in validating], tokenizer, grm, "grm.validation") if validating else []
    facts = facts_of(profile)
    with engines(profile, False) as (generator, judge):
        headroom = None
        if tested and grm.rate_drafts and grm.arm != "distill":  # which learns from all, whatever is solved of them
            headroom = measured(run.grm_rates, tested, grm, generator, judge, seed=profile.seed, facts=facts)
        begun = Begun(
            run=run,
            profile=profile,
            problems=chosen,
            held_out=[one.problem for one in to_validate],
            headroom=headroom,
            generator=generator,
            judge=judge,
            facts=facts,
            critics=critics,
            deadline=deadline,
        )
        learnt = ARMS[grm.arm](begun)
    replace_folder(run.arm(grm.arm).adapter, run.grm_adapter)
    taught = [one.problem for one in held]
    found = audit(run.grm_audit, run.grm_drafts(), taught, profile.sandbox, confinement(), seed=profile.seed)
    meta = _meta(run, profile, problems, learnt, counts, headroom) | {"audit": asdict(found)}
    if validating:
        meta["hardening_of_validation"] = asdict(of_validation)
    write_rights(run.grm_adapter, run, profile, "grm", learnt.problems)
    write_card(run.grm_adapter, meta)
    write_json(run.grm_meta, meta)
    shutil.rmtree(run.grm_work, ignore_errors=True)


def _told(counts: HardeningCounts) -> str:
    dropped = sum(counts.dropped.values())
    reasons = "; ".join(f"{reason}: {count}" for reason, count in counts.not_hardened.items())
    kept = f"; none for the others ({reasons})" if reasons else ""
    return (
        f"{counts.problems} problems, {counts.with_added} with {counts.inputs_added} further inputs together, "
        f"{dropped} dropped{kept}"
    )


def _meta(
    run: Run,
    profile: Profile,
    problems: Sequence[TrainingProblem],
    learnt: Learnt,
    counts: HardeningCounts,
    headroom: Headroom | None,
) -> dict[str, Any]:
    return {
        "settings": profile.grm.model_dump(),
        "model": profile.model.model_dump(),
        "parent": str(run.grm_problems),
        "seed": profile.seed,
        "commit": git_commit(),
        "arm": profile.grm.arm,
        "problems": _by_source(problems, [one.problem for one in learnt.problems], headroom),
        "hardening": asdict(counts),
        "untouched": _untouched(headroom) if headroom else None,
        "steps": learnt.steps,
        "drafts": learnt.drafts,
        "tokens": learnt.tokens,
        "learnt_tokens": learnt.learnt_tokens,
        "seconds": round(learnt.seconds, 1),
        "why_ended": learnt.why_ended,
        "cut": learnt.cut,
        **learnt.more,
    }


def _by_source(
    problems: Sequence[TrainingProblem], learnt: Sequence[TrainingProblem], headroom: Headroom | None
) -> list[dict[str, Any]]:
    """A row a source and licence: its problems, those that were learnt from, those without tests, and how often the
    model solved the others."""
    kept, solved = licences(learnt), headroom.solved if headroom else {}
    untested = licences([one for one in problems if not one.has_tests])
    rows = []
    for (source, licence), number in sorted(licences(problems).items()):
        theirs = [one.given.id for one in problems if (one.given.source, one.given.licence) == (source, licence)]
        rates = [passed / counted for passed, counted in (solved[name] for name in theirs if name in solved)]
        row = {"source": source, "licence": licence, "given": number, "learnt": kept[source, licence]}
        rows.append(row | {"untested": untested[source, licence], "solve_rates": bands(rates)})
    return rows


def _untouched(headroom: Headroom) -> Mapping[str, Any]:
    scores = {1: headroom.pass_at_1, headroom.num_drafts: headroom.pass_at_n}
    return {
        "drafts_a_problem": headroom.num_drafts,
        "problems_by_solve_rate": dict(headroom.bands),
        **{f"pass@{k}": asdict(score) for k, score in scores.items() if score is not None},
    }
