"""The evolution stage: a population learns by reward, is selected and renewed, and its best adapter is kept.

    problems    grm/problems/, grm/drafts/    those of grm.problems, and how often the untouched model solves them:
                                              self-reward's, made here where that stage was left out
    ruler       evolve/validation_problems/   what individuals are measured by; evolve/untouched/ the model's own drafts
    population  evolve/individuals/           by who gives `Population`: on Ray Tune (`tune_spaces.experiment`)
    the choice  evolve/fresh/                 the best of the last generation, measured again on drafts of its own
    the end     evolve/adapter, loras/, attribution.csv, and meta.json, written last

Each part is skipped where it is there, so the stage goes on wherever it was ended. Run: python -m app evolve --profile
P --run DIR
"""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from app.errors import NothingToLearnError
from app.evaluation.measurement import Engines
from app.evaluation.stage import GRM
from app.evaluation.statistics import Comparison, compare
from app.evolution.history import all_lived, read_boundaries
from app.evolution.imitation import imitation_id
from app.evolution.inheritance import begin
from app.evolution.measuring import measured
from app.evolution.records import Lived
from app.evolution.ruler import ruler_of
from app.evolution.selection_drafts import fresh_draws
from app.evolution.trial import STATE, Surroundings
from app.files.json_files import read_json, write_json
from app.models.adapters import CONFIG, WEIGHTS
from app.models.base import ensure_model, load_tokenizer
from app.progress import say
from app.records import Generator, Judge
from app.reward.by_reward.grpo import training_settings
from app.reward.by_reward.keeping import make_whole
from app.reward.drafts import headroom
from app.reward.drafts.asking import Asked, asked
from app.reward.drafts.audit import audit
from app.reward.drafts.files import read_columns
from app.reward.model_card import write_evolved_card
from app.reward.preparing import facts_of, hardened, mined_from, write_rights
from app.reward.problems.find import licences, of_arm
from app.reward.records import TrainingProblem
from app.running.deadlines import NEVER, Deadline
from app.runs import Run, git_commit
from app.sandbox.tiers import confinement
from app.settings import Profile
from app.stage_settings.evolve import EvolveSettings
from app.training import lora
from app.training.ray_train import replace_folder
from app.training.state import ADAPTER


class Population(Protocol):
    """Lets it learn to the end of its last generation."""

    def __call__(self, run: Run, around: Surroundings, origin: Path, *, with_trunk: bool) -> None:
        """origin: the TrainState that a trunk, or the first generation itself, begins with."""
        ...


def run_evolve(
    run: Run,
    profile: Profile,
    problems: Sequence[TrainingProblem],
    measuring_by: Sequence[TrainingProblem],
    engines: Engines,
    population: Population,
    *,
    engine_sleeps: bool,
    engine_is_shared: bool,
    deadline: Deadline = NEVER,
) -> None:
    """Evolve the run's adapter, and write evolve/meta.json last; do nothing where that is there. Needs a connected Ray.

    problems: of profile.grm.problems; measuring_by: those that individuals are measured by. engines: starts the
    generator, with room for trainers beside it, and the judges. engine_sleeps: trainer and engine take turns on the
    card. engine_is_shared: several individuals draw at the same time, so that nobody's speed can be told. deadline: the
    generation that it falls into is the last one. Raises NothingToLearnError where no problem lies in the band.
    """
    if run.evolve_meta.exists():
        return
    run.decision("evolve").unlink(missing_ok=True)  # about an adapter that was there before
    start, profile = time.monotonic(), of_individuals(profile)
    taken = of_arm(problems, "grpo")
    mined_from(profile.grm.problems, run)
    held = hardened(run.grm_problems, profile, problems, "evolve")
    measuring = hardened(run.evolve_validation_problems, profile, measuring_by, "evolve")
    usable, tokenizer = {one.given.id for one in taken}, load_tokenizer(ensure_model(profile.model))
    chosen = asked([one.problem for one in held if one.problem.given.id in usable], tokenizer, profile.grm)
    ruled = asked([one.problem for one in measuring], tokenizer, profile.grm, "evolve.validation")
    with engines(profile, False) as (generator, judge):
        around = _surroundings(
            run, profile, chosen, ruled, generator, judge,
            engine_sleeps=engine_sleeps, engine_is_shared=engine_is_shared,
        )  # fmt: skip
        around = replace(around, deadline=deadline)
        winner, began_with = populate(run, profile, around, population)
        left = _left_by_selection(ruled, around)
        fresh = _measured_again(run, winner, around, left)
    replace_folder(state_of(run, winner) / ADAPTER, run.evolve_adapter)
    learnt = _learnt_from(run, chosen)
    parent = GRM if began_with == "self-reward" else ""
    write_rights(run.evolve_adapter, run, profile, "evolve", learnt, parent)
    taught = [one.problem for one in held]
    found = audit(run.evolve_audit, run.evolve_drafts(), taught, profile.sandbox, confinement(), seed=profile.seed)
    meta = _meta(run, profile, winner) | {
        "cut": _cut_of(run, profile.evolve, deadline),
        "start": began_with,
        "problems": _by_source(learnt),
        "fresh": asdict(fresh) if fresh else None,
        "fresh_problems": "unseen" if left else "the same",
        "audit": asdict(found),
        "seconds": round(time.monotonic() - start, 1),
    }
    write_evolved_card(run.evolve_adapter, meta)
    _copy_weights(run)
    write_json(run.evolve_meta, meta)


def _copy_weights(run: Run) -> None:
    """The weights under the name by which they are looked for, with the card and all that travels with them."""
    folder = run.evolve_lora.parent
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(run.evolve_adapter, folder, ignore=shutil.ignore_patterns(CONFIG, WEIGHTS))
    shutil.copyfile(run.evolve_adapter / WEIGHTS, run.evolve_lora)


def populate(run: Run, profile: Profile, around: Surroundings, population: Population) -> tuple[Lived, str]:
    """Let a population learn to its end, or go on with it; returns the best one, whose state is kept, and what they
    all began with. Raises NothingToLearnError where nobody found anything."""
    of_reward = _begins_with_self_reward(run, profile)
    with_trunk = not of_reward and profile.evolve.trunk_tokens > 0
    population(run, around, _origin(run, profile, of_reward=of_reward), with_trunk=with_trunk)
    if not any(one.steps for one in all_lived(run.evolve_individuals)):
        raise NothingToLearnError(
            "no individual found anything to learn, because in all groups all drafts failed or all passed: give "
            "other problems by grm.problems, or raise grm.num_drafts"
        )
    return _winner(run), "trunk" if with_trunk else "self-reward" if of_reward else "base"


def of_individuals(profile: Profile) -> Profile:
    """As individuals learn by it."""
    prompts = profile.evolve.prompts_per_step or profile.grm.prompts_per_step
    return profile.model_copy(update={"grm": profile.grm.model_copy(update={"prompts_per_step": prompts})})


def _surroundings(
    run: Run,
    profile: Profile,
    chosen: Sequence[Asked],
    ruled: Sequence[Asked],
    generator: Generator,
    judge: Judge,
    *,
    engine_sleeps: bool,
    engine_is_shared: bool,
) -> Surroundings:
    """What all individuals share. Raises NothingToLearnError where no problem lies in the default genome's band."""
    grm, facts, solved = profile.grm, facts_of(profile), {}
    if grm.rate_drafts:
        found = headroom.measured(run.grm_rates, chosen, grm, generator, judge, seed=profile.seed, facts=facts)
        solved, learnt = dict(found.solved), headroom.learnable(chosen, found, grm.rate_band)
        say(f"  {len(learnt)} of {len(chosen)} problems are within the band to begin with")
    return Surroundings(
        profile=profile,
        problems=[one.problem for one in chosen],
        untouched=solved,
        ruler=ruler_of(run, profile, ruled, generator, judge, facts, speed_counts=not engine_is_shared),
        generator=generator,
        judge=judge,
        pool=run.evolve_pool,
        facts=facts,
        engine_sleeps=engine_sleeps,
    )


def _begins_with_self_reward(run: Run, profile: Profile) -> bool:
    """Whether the population begins with the adapter that self-reward left, unless it was found to do harm. Decided
    once: what others leave in the run meanwhile changes nothing."""
    path = run.evolve / "start.json"
    if not path.exists():
        has_any = profile.evolve.start == "auto" and GRM in run.adapters()
        of_reward = has_any and read_json(run.grm_adapter / CONFIG)["r"] == profile.grm.lora_r
        write_json(path, {"of_self_reward": of_reward})
    return bool(read_json(path)["of_self_reward"])


def _origin(run: Run, profile: Profile, *, of_reward: bool) -> Path:
    """The TrainState that all begins with."""
    if not run.evolve_origin.exists():
        adapter = run.grm_adapter
        if not of_reward:
            adapter = run.evolve / "new" / ADAPTER
            make_whole(adapter, lambda place: _write_new(profile, place))
        begin(adapter, run.evolve_origin)
        shutil.rmtree(run.evolve / "new", ignore_errors=True)
    return run.evolve_origin


def _write_new(profile: Profile, place: Path) -> None:
    """An adapter that changes nothing yet: all individuals begin with the same."""
    settings = training_settings(profile.sft, profile.grm)
    base = ensure_model(profile.model)
    lora.save(lora.load_for_training(base, profile.model, settings, profile.seed, torch.device("cpu")), place)


def _winner(run: Run) -> Lived:
    """The best at the last boundary, the imitation included."""
    last = read_boundaries(run.evolve_boundaries)[-1]
    best = next(iter(last.values))
    return next(one for one in all_lived(run.evolve_individuals) if (one.id, one.generation) == (best, last.generation))


def state_of(run: Run, lived: Lived) -> Path:
    """Adapter and moments of one whose state is kept."""
    return run.individual(lived.id, lived.generation).folder / STATE


def _left_by_selection(ruled: Sequence[Asked], around: Surroundings) -> list[Asked]:
    """The problems to measure by that nobody was measured by; none, where they are fewer than half of the others: a
    comparison on so few would tell nothing."""
    taken = {one.problem.given.id for one in around.ruler.problems}
    left = [one for one in ruled if one.problem.given.id not in taken]
    return left if 2 * len(left) >= len(taken) else []


def _measured_again(run: Run, winner: Lived, around: Surroundings, left: Sequence[Asked]) -> Comparison | None:
    """The winner beside the untouched model, on drafts that had no part in choosing it, of the problems that selection
    has left; where it has left none, of its own."""
    settings, ruler = around.profile.evolve, replace(around.ruler, problems=left or around.ruler.problems)
    ids = [one.problem.given.id for one in ruler.problems]
    samples = fresh_draws([winner.id], ids, settings)[0].samples
    found = []
    for name, adapter in (("untouched", ""), ("winner", str(state_of(run, winner) / ADAPTER))):
        place = run.evolve_fresh / name
        metrics, _ = measured(place, adapter, ruler, around.generator, around.judge, around.facts, samples)
        found.append({problem: passed / counted for problem, (passed, counted) in metrics.rates.items()})
    return compare(*found)


def _learnt_from(run: Run, chosen: Sequence[Asked]) -> list[Asked]:
    """Problems of which somebody drew drafts."""
    paths = run.evolve_drafts().values()
    drawn = {row["problem_id"] for path in paths for row in read_columns(path, ["problem_id"])}
    return [one for one in chosen if one.problem.given.id in drawn]


def _by_source(learnt: Sequence[Asked]) -> list[dict[str, Any]]:
    counted = licences([one.problem for one in learnt])
    return [{"source": source, "licence": licence, "learnt": n} for (source, licence), n in sorted(counted.items())]


def _meta(run: Run, profile: Profile, winner: Lived) -> dict[str, Any]:
    lived, boundaries = all_lived(run.evolve_individuals), read_boundaries(run.evolve_boundaries)
    return {
        "settings": profile.evolve.model_dump(),
        "grm": profile.grm.model_dump(),
        "model": profile.model.model_dump(),
        "parent": str(run.grm_problems),
        "seed": profile.seed,
        "commit": git_commit(),
        "winner": {
            "id": winner.id,
            "generation": winner.generation,
            "is_imitation": winner.id == imitation_id(winner.generation),
            "config": dict(winner.config),
        },
        "generations": len(boundaries),
        "individuals": len({one.id for one in lived if one.generation and one.config}),
        "steps": sum(one.steps for one in lived),
        "drafts": sum(one.drafts for one in lived),
        "drawn_tokens": sum(one.drawn_tokens for one in lived),
        "learnt_tokens": sum(one.learnt_tokens for one in lived),
        "selection_tokens": sum(one.selection_tokens for one in boundaries),
    }


def _cut_of(run: Run, settings: EvolveSettings, deadline: Deadline) -> str:
    reached = len(read_boundaries(run.evolve_boundaries))
    ended = [one for one in all_lived(run.evolve_individuals) if run.individual(one.id, one.generation).cut.exists()]
    if reached == settings.generations and not ended:
        return ""
    return f"in generation {reached} of {settings.generations}, because {deadline.words()} were over"


def told(meta: Mapping[str, Any]) -> str:
    """What evolve/meta.json says, for a person."""
    winner, fresh = meta["winner"], meta["fresh"]
    who = "the imitation of the pool" if winner["is_imitation"] else f"{winner['id']}"
    gain = "" if fresh is None else f", {100 * fresh['difference']:+.1f} points from the base on fresh drafts"
    return (
        f"{meta['individuals']} individuals in {meta['generations']} generations, {meta['drafts']} drafts, "
        f"{meta['drawn_tokens']} tokens drawn; the best is {who}{gain}"
    )
