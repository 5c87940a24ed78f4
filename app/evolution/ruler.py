"""Which problems all individuals are measured by, how long drafts of them are, and how fast the untouched model draws
them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from app.corpus.draws import by_hash
from app.evolution.measuring import Ruler, base_speeds, measured
from app.evolution.selection_drafts import first_draws, selection_budget
from app.files.json_files import read_json, write_json
from app.progress import say
from app.records import Generator, Judge, Sampling
from app.reward.drafts.asking import Asked
from app.runs import Run
from app.settings import Profile


def ruler_of(
    run: Run,
    profile: Profile,
    ruled: Sequence[Asked],
    generator: Generator,
    judge: Judge,
    facts: Mapping[str, Any],
    *,
    speed_counts: bool,
) -> Ruler:
    """As many of the problems, by hash, as selection can pay for. What the untouched model draws of them is kept: it
    says how long drafts are, and how fast they come."""
    settings, grm = profile.evolve, profile.grm
    order = sorted(ruled, key=lambda one: by_hash(one.problem.given.id))[: settings.validation_problems]
    sampling = Sampling(max_new_tokens=grm.max_new_tokens, temperature=grm.temperature, seed=profile.seed)
    whole = Ruler(
        problems=order,
        samples=tuple(range(settings.drafts)),
        sampling=sampling,
        times_speed=settings.fitness.speed_worth > 0,
        scores_kl=settings.fitness.form == "linear" or settings.fitness.beta > 0,
    )
    speeds = _speeds(run, base_speeds(run.evolve_untouched, whole, generator, judge, facts))
    metrics, _ = measured(run.evolve_untouched, "", whole, generator, judge, facts)
    names = [str(number) for number in range(settings.population + settings.imitation)]
    ids = [one.problem.given.id for one in order]
    a_draft = metrics.num_tokens / max(1, len(ids) * settings.drafts)
    first, *_ = first_draws(
        names, ids, settings, tokens_a_draft=a_draft, budget=selection_budget(settings) // 2, seed=profile.seed
    )  # the other half is for close calls, and for drafts that grow longer
    taken = set(first.problems)
    say(f"  individuals are measured by {len(taken)} of {len(ruled)} problems, {settings.drafts} drafts of each")
    return replace(
        whole,
        problems=[one for one in order if one.problem.given.id in taken],
        base_speeds=speeds if speed_counts else (),
    )


def _speeds(run: Run, found: tuple[float, ...]) -> tuple[float, ...]:
    """Those of the untouched model, kept: they are measured but once, when its drafts are drawn."""
    path = run.evolve_untouched / "speeds.json"
    if found:
        write_json(path, {"tokens_per_second": found})
    return tuple(read_json(path)["tokens_per_second"]) if path.exists() else ()
