"""The stages by their commands: corpus, SFT, self-reward, evolution and the report, each of which does nothing where it
is complete, and asks for the stages before it.

`app.pipeline` runs them all.
"""

import contextlib
import functools
import shutil
from collections.abc import Iterator
from typing import Any

from app.cluster.offline import offline
from app.cluster.session import connected, require_engines, require_resources
from app.corpus.clean.guard import Guard
from app.evaluation.guarded_suites import guard_for
from app.files.json_files import read_json
from app.models.base import ensure_model, load_tokenizer
from app.progress import say
from app.prompting.turn_ends import check_chat
from app.records import Generator, Judge
from app.runs import Run, require_stage
from app.settings import Profile


def check_chat_uses(profile: Profile) -> Any:
    """Raise UserError for a base model that can't be asked as the corpus or the evaluation ask, before any stage.
    Returns its tokenizer."""
    tokenizer = _check_dialogues(profile)
    for protocol in profile.evaluation.protocols:
        if protocol != "completion":
            check_chat(tokenizer, f"the protocol {protocol!r}", "set evaluation.protocols to [completion]")
    return tokenizer


def _check_dialogues(profile: Profile) -> Any:
    """The base model's tokenizer, if it can show the recipe's dialogues."""
    from app.corpus.recipe_files import load_recipe
    from app.corpus.rows.render import check_forms

    tokenizer = load_tokenizer(ensure_model(profile.model))
    check_forms(tokenizer, load_recipe(profile.corpus).forms.model_dump())
    return tokenizer


def corpus(run: Run, profile: Profile, *, unsafe: bool = False, by_itself: bool = False) -> None:
    """by_itself: the command asks for a corpus, so that a complete one of other sources is refused as well."""
    from app.corpus.build import build_corpus, current_sources
    from app.corpus.identity import check_complete
    from app.corpus.shard_files import read_whole

    guard = guard_for(profile.evaluation, profile.validation)
    if run.corpus_manifest.exists():
        shutil.rmtree(run.corpus_work, ignore_errors=True)  # of a build killed right after its manifest
        sources = current_sources(run, profile) if by_itself else None
        check_complete(run, profile, ensure_model(profile.model), guard, sources)
        return say("corpus: complete")
    _check_dialogues(profile)
    say("corpus")
    _say_unguarded(guard)
    with run.attempt("corpus"), connected(profile.cluster), read_whole(run.corpus_work):
        build_corpus(run, profile, guard, unsafe=unsafe)
    manifest = read_json(run.corpus_manifest)
    learnt = sorted(manifest["learnt_tokens_by_form"].items(), key=lambda item: -item[1])
    total = sum(count for _, count in learnt)
    say(f"  learnt: {total} tokens, " + ", ".join(f"{form} {count / max(1, total):.0%}" for form, count in learnt))
    for sentence in manifest["short_of_shares"]:
        say(f"  share not met: {sentence}")
    return say(
        f"  {manifest['tokens']} tokens in {manifest['rows']} rows, {manifest['documents']} documents: {run.corpus}"
    )


def _say_unguarded(guard: Guard) -> None:
    if guard.unguarded:
        names = ", ".join(guard.unguarded)
        say(f"  not guarded against: {names} (give their problems with evaluation.problems, SUITE=PATH)")


@offline()
def sft(run: Run, profile: Profile) -> None:
    if run.sft_meta.exists():
        shutil.rmtree(run.sft_work, ignore_errors=True)
        return say("sft: complete")
    require_stage(run, "corpus", run.corpus_manifest, profile)
    from app.corpus.identity import check_complete
    from app.planning.of_run import stage_deadline
    from app.training.sft import run_sft

    check_complete(run, profile, ensure_model(profile.model))

    say("sft")
    with run.attempt("sft"), connected(profile.cluster):
        require_what_stages_need(profile)
        run_sft(run, profile, stage_deadline(run, profile, "sft"))
    meta = read_json(run.sft_meta)
    return say(f"  {meta['steps']} steps, {meta['tokens']} tokens, loss {meta['final_loss']:.3f}: {run.sft_adapter}")


@offline()
def grm(run: Run, profile: Profile) -> None:
    if run.grm_meta.exists():
        shutil.rmtree(run.grm_work, ignore_errors=True)
        return say("grm: complete")
    from actors.critic import critic_on_ray
    from app.planning.of_run import stage_deadline
    from app.reward.arms import told
    from app.reward.problems.find import OF_RUN, load
    from app.reward.problems.held_out import held_out, sources_of, validates
    from app.reward.stage import check_model, run_grm

    check_model(profile)
    validation = sources_of(profile.grm) if validates(profile.grm) else []
    if OF_RUN in (*profile.grm.problems, *validation):
        require_stage(run, "corpus", run.corpus_manifest, profile)
    problems = load(profile.grm.problems, run.problems, profile.validation)
    validating_by = held_out(profile.grm, problems, run.problems, profile.validation)
    say("grm")
    with run.attempt("grm"), connected(profile.cluster):
        require_what_stages_need(profile, trains=False, learns=True)
        engines = functools.partial(generator_and_judges, beside_trainer=True)
        deadline = stage_deadline(run, profile, "grm")
        run_grm(run, profile.for_drafts(), problems, validating_by, engines, critic_on_ray, deadline)
    return say(f"  {told(read_json(run.grm_meta))}: {run.grm_adapter}")


@offline()
def evolve(run: Run, profile: Profile) -> None:
    if run.evolve_meta.exists():
        return say("evolve: complete")
    from actors.generator import cores_left
    from app.evolution.stage import run_evolve, told
    from app.planning.of_run import stage_deadline
    from app.reward.problems.find import OF_RUN, load
    from app.reward.problems.held_out import to_measure_by
    from app.reward.stage import check_model
    from tune_spaces.experiment import evolve_on_ray, num_cards
    from tune_spaces.gpu_slots import slots_for

    check_model(profile)
    if OF_RUN in (*profile.grm.problems, *profile.evolve.validation):
        require_stage(run, "corpus", run.corpus_manifest, profile)
    problems = load(profile.grm.problems, run.problems, profile.validation)
    measuring = to_measure_by(profile.evolve, profile.grm, problems, run.problems)
    say("evolve")
    with run.attempt("evolve"), connected(profile.cluster):
        require_what_stages_need(profile, trains=False, learns=True)
        cores = cores_left(profile.generation)
        slots = slots_for(profile, peak_gib=None, declared=profile.evolve.slots, cards=num_cards(), cores=cores)
        engines = functools.partial(
            generator_and_judges,
            beside_trainer=slots.beside_trainer,
            vram_gib=slots.engine_gib or None,
            engines=slots.engines,
            sharers=slots.number,
        )
        run_evolve(
            run,
            profile.for_drafts(),
            problems,
            measuring,
            engines,
            functools.partial(evolve_on_ray, started=slots),
            engine_sleeps=slots.takes_turns,
            engine_is_shared=slots.number > 1,
            deadline=stage_deadline(run, profile, "evolve"),
        )
    return say(f"  {told(read_json(run.evolve_meta))}: {run.evolve_adapter}")


@contextlib.contextmanager
def generator_and_judges(
    profile: Profile,
    unsafe: bool,
    *,
    beside_trainer: bool = False,
    vram_gib: float | None = None,
    engines: int | None = None,
    sharers: int = 1,
) -> Iterator[tuple[Generator, Judge]]:
    """The actors that draw and judge, on the cluster that is connected. beside_trainer: a trainer is to have room.
    vram_gib: what an engine may take of a card; left out, what the settings say, beside an idle trainer where they
    take turns. engines: how many, where the settings don't say. sharers: who draw and judge at the same time."""
    from actors.generator import GeneratorClient
    from actors.judges import JudgePool
    from app.models.config import config_of
    from app.reward.turns import engine_settings

    settings = engine_settings(profile, config_of(profile.model)[0]) if beside_trainer else profile.generation
    if vram_gib is not None:
        settings = settings.model_copy(update={"vram_gib": vram_gib})
    if engines is not None:
        settings = settings.model_copy(update={"num_workers": engines})
    with (
        contextlib.closing(JudgePool(profile.sandbox, unsafe=unsafe, sharers=sharers)) as judges,
        contextlib.closing(
            GeneratorClient(profile.model, settings, beside_trainer=beside_trainer, sharers=sharers)
        ) as generator,
    ):
        yield generator, judges


def report(run: Run) -> None:
    from app.report import write_report

    say("report")
    with run.attempt("report"):
        write_report(run)


def require_what_stages_need(profile: Profile, *, trains: bool = True, learns: bool = False) -> None:
    """trains: by SFT; learns: from own drafts."""
    if trains:
        workers = profile.sft.num_workers  # and one CPU for the data that feeds them
        gpus = workers if profile.sft.use_gpu else 0
        require_resources(f"sft.num_workers={workers}", num_cpus=workers + 1, num_gpus=gpus)
    if learns:
        uses_gpu = profile.sft.use_gpu or profile.generation.use_gpu
        require_resources("grm, its trainer beside its generator,", num_cpus=2, num_gpus=int(uses_gpu))
    require_engines(profile.generation)
