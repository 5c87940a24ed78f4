"""The main job: corpus, SFT, self-reward, evolution, validation of all three, evaluation, report, in this order, each
skipped when it is complete; what trains also where it would do harm or can't be done (`sft.when`, `grm.when`,
`evolve.when`).

Runs as a Ray driver: on a cluster of its own, on the one RAY_ADDRESS names, or as a submitted job. SFT, self-reward
(`grm`) and evolution (`evolve`) each train an adapter of the base model, so none waits for another's validation, which
decides whether an adapter is kept (`app.evaluation.gate`): validations come together, before the evaluation, and the
model is loaded once for all of them.
Run: python -m app pipeline --profile P [--run DIR] [--resume]
"""

import contextlib
import functools
import shutil
from collections.abc import Callable, Iterator
from typing import Any

from app import hardware
from app.cluster.session import connected, require_resources
from app.corpus.clean.guard import Guard
from app.errors import NothingToLearnError, causes
from app.evaluation import gate
from app.evaluation.guarded_suites import guard_for
from app.evaluation.measurement import Engines, measure_candidates, search_training_data
from app.evaluation.stage import BASE, EVOLVE, GRM, SFT, is_evaluated, load_suites
from app.files.json_files import read_json
from app.models.base import ensure_model, load_tokenizer
from app.progress import say
from app.prompting.turn_ends import check_chat, is_taught_to_answer
from app.records import UNTRUSTED_TIERS, Generator, Judge
from app.runs import Run, require_stage, update_info
from app.sandbox.tiers import confinement
from app.settings import Profile


def run_pipeline(run: Run, profile: Profile, *, keep_anyway: bool = False, unsafe: bool = False) -> None:
    """keep_anyway: what a stage trains is kept, whatever the validation says. unsafe: run programs on a machine that
    can't confine them (`app.sandbox.tiers`)."""
    tokenizer = check_chat_uses(profile)
    gate.check(profile.validation)
    left_out = _left_out(run, profile, tokenizer, unsafe)
    adapters = {SFT: str(run.sft_adapter), GRM: str(run.grm_adapter), EVOLVE: str(run.evolve_adapter)}
    trained = {stage: adapter for stage, adapter in adapters.items() if stage not in left_out}
    validated = all(gate.is_validated(run, profile, stage, adapter) for stage, adapter in trained.items())
    measured = is_evaluated(run, profile.evaluation, {BASE: "", **trained}) and validated
    complete = run.corpus_manifest.exists() and trained.keys() <= run.trained().keys() and measured
    asked = [profile.evaluation] if validated else [profile.validation, profile.evaluation]
    problems = [] if measured else [load_suites(settings) for settings in asked]
    if GRM in trained:
        _check_what_grm_asks(run, profile)
    if EVOLVE in trained:
        _check_what_evolution_asks(run, profile)
    update_info(run, left_out=left_out)
    with hardware.PeakMemory() as memory, contextlib.nullcontext() if complete else connected(profile.cluster):
        if not complete:
            learns = GRM in trained or EVOLVE in trained
            _require_what_stages_need(profile, trains=SFT in trained, learns=learns)
        corpus(run, profile, unsafe=unsafe)
        if SFT in trained:
            sft(run, profile)
        for stage, work in ((GRM, grm), (EVOLVE, evolve)):
            if stage in trained and (reason := _done_or_why_not(work, run, profile)):
                left_out[stage] = reason
                del trained[stage]
                update_info(run, left_out=left_out)
        for stage, reason in left_out.items():
            say(f"{stage} is left out: {reason}")
        for suites in problems:
            search_training_data(run, profile, suites)
        with _started_once(generator_and_judges) as engines:
            for stage, adapter in trained.items():
                gate.validate(run, profile, stage, adapter, engines, keep_anyway=keep_anyway, unsafe=unsafe)
            measure_candidates(run, profile, {BASE: "", **trained}, engines, unsafe=unsafe)
    _keep_peak(run, memory.peak_bytes)
    report(run)


def _left_out(run: Run, profile: Profile, tokenizer: Any, unsafe: bool) -> dict[str, str]:
    """The stages that train and are not to, each with the reason."""
    reasons = {
        SFT: why_sft_is_left_out(run, profile, tokenizer),
        GRM: why_grm_is_left_out(run, profile, tokenizer, unsafe),
        EVOLVE: why_evolve_is_left_out(run, profile, tokenizer, unsafe),
    }
    return {stage: reason for stage, reason in reasons.items() if reason}


def why_sft_is_left_out(run: Run, profile: Profile, tokenizer: Any) -> str:
    """For a person; empty where the run trains, or has trained, by SFT."""
    if profile.sft.when == "always" or run.sft_meta.exists() or not is_taught_to_answer(tokenizer):
        return ""
    return (
        f"{profile.model.name} was taught to answer already, and learning code that people wrote made such a model "
        "worse (docs/evaluation.md, What SFT costs); `--set sft.when=always` trains it all the same"
    )


def why_grm_is_left_out(run: Run, profile: Profile, tokenizer: Any, unsafe: bool) -> str:
    """For a person; empty where the run learns, or has learnt, from its own drafts."""
    if run.grm_meta.exists():
        return ""
    return _why_not_by_drafts("grm.when", profile.grm.when, profile, tokenizer, unsafe)


def why_evolve_is_left_out(run: Run, profile: Profile, tokenizer: Any, unsafe: bool) -> str:
    """For a person; empty where the run evolves, or has evolved, a population."""
    if run.evolve_meta.exists():
        return ""
    return _why_not_by_drafts("evolve.when", profile.evolve.when, profile, tokenizer, unsafe)


def _why_not_by_drafts(setting: str, when: str, profile: Profile, tokenizer: Any, unsafe: bool) -> str:
    """Why a stage that learns from the model's own drafts is left out."""
    anyway = f"`--set {setting}=always` lets it learn all the same"
    if when == "never":
        return f"{setting}=never says so; {anyway}"
    if when == "auto" and not is_taught_to_answer(tokenizer):
        return f"{profile.model.name} was not taught to answer, and what it would learn from are its answers; {anyway}"
    if confinement(unsafe=unsafe).tier in UNTRUSTED_TIERS:
        return "programs can't be confined on this machine, and one that is not confined earns no reward"
    return ""


def _check_what_grm_asks(run: Run, profile: Profile) -> None:
    """Raise UserError for a model or for problems that the stage can't learn with, before any stage."""
    if not run.grm_meta.exists():
        from app.reward.problems.early import check
        from app.reward.stage import check_model

        check_model(profile)
        check(profile.grm, profile.validation)


def _check_what_evolution_asks(run: Run, profile: Profile) -> None:
    """Raise UserError for a model or for problems that the stage can't learn with, before any stage."""
    if not run.evolve_meta.exists():
        from app.reward.problems.early import check_evolution
        from app.reward.stage import check_model

        check_model(profile)
        check_evolution(profile.evolve, profile.grm)


def _done_or_why_not(stage: Callable[[Run, Profile], None], run: Run, profile: Profile) -> str:
    """Run the stage; why there was nothing to learn, where that is so: the pipeline goes on without it."""
    try:
        stage(run, profile)
    except Exception as error:  # may come back from a Ray worker, wrapped
        *_, bottom = causes(error)
        if not isinstance(bottom, NothingToLearnError):
            raise
        return str(bottom)
    return ""


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
    from app.corpus.recipes import load_recipe
    from app.corpus.rows.render import check_forms

    tokenizer = load_tokenizer(ensure_model(profile.model))
    check_forms(tokenizer, load_recipe(profile.corpus.recipe).forms.model_dump())
    return tokenizer


def corpus(run: Run, profile: Profile, *, unsafe: bool = False, by_itself: bool = False) -> None:
    """by_itself: the command asks for a corpus, so that a complete one of other sources is refused as well."""
    from app.corpus.build import build_corpus, current_sources
    from app.corpus.identity import check_complete

    guard = guard_for(profile.evaluation, profile.validation)
    if run.corpus_manifest.exists():
        shutil.rmtree(run.corpus_work, ignore_errors=True)  # of a build killed right after its manifest
        sources = current_sources(run, profile) if by_itself else None
        check_complete(run, profile, ensure_model(profile.model), guard, sources)
        return say("corpus: complete")
    _check_dialogues(profile)
    say("corpus")
    _say_unguarded(guard)
    with run.attempt("corpus"), connected(profile.cluster):
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


def sft(run: Run, profile: Profile) -> None:
    if run.sft_meta.exists():
        shutil.rmtree(run.sft_work, ignore_errors=True)
        return say("sft: complete")
    require_stage(run, "corpus", run.corpus_manifest, profile)
    from app.corpus.identity import check_complete
    from app.training.sft import run_sft

    check_complete(run, profile, ensure_model(profile.model))

    say("sft")
    with run.attempt("sft"), connected(profile.cluster):
        _require_what_stages_need(profile)
        run_sft(run, profile)
    meta = read_json(run.sft_meta)
    return say(f"  {meta['steps']} steps, {meta['tokens']} tokens, loss {meta['final_loss']:.3f}: {run.sft_adapter}")


def grm(run: Run, profile: Profile) -> None:
    if run.grm_meta.exists():
        shutil.rmtree(run.grm_work, ignore_errors=True)
        return say("grm: complete")
    from actors.critic import critic_on_ray
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
        _require_what_stages_need(profile, trains=False, learns=True)
        engines = functools.partial(generator_and_judges, beside_trainer=True)
        run_grm(run, profile, problems, validating_by, engines, critic_on_ray)
    return say(f"  {told(read_json(run.grm_meta))}: {run.grm_adapter}")


def evolve(run: Run, profile: Profile) -> None:
    if run.evolve_meta.exists():
        return say("evolve: complete")
    from app.evolution.stage import run_evolve, told
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
        _require_what_stages_need(profile, trains=False, learns=True)
        slots = slots_for(profile, peak_gib=None, declared=profile.evolve.slots, cards=num_cards())
        engines = functools.partial(
            generator_and_judges, beside_trainer=slots.beside_trainer, vram_gib=slots.engine_gib or None
        )
        run_evolve(
            run,
            profile,
            problems,
            measuring,
            engines,
            functools.partial(evolve_on_ray, started=slots),
            engine_sleeps=slots.takes_turns,
            engine_is_shared=slots.number > 1,
        )
    return say(f"  {told(read_json(run.evolve_meta))}: {run.evolve_adapter}")


@contextlib.contextmanager
def generator_and_judges(
    profile: Profile, unsafe: bool, *, beside_trainer: bool = False, vram_gib: float | None = None
) -> Iterator[tuple[Generator, Judge]]:
    """The actors that draw and judge, on the cluster that is connected. beside_trainer: a trainer is to have room.
    vram_gib: what the engine may take of a card; left out, what the settings say, beside an idle trainer where they
    take turns."""
    from actors.generator import GeneratorClient
    from actors.judges import JudgePool
    from app.models.config import config_of
    from app.reward.turns import engine_settings

    settings = engine_settings(profile, config_of(profile.model)[0]) if beside_trainer else profile.generation
    if vram_gib is not None:
        settings = settings.model_copy(update={"vram_gib": vram_gib})
    with (
        contextlib.closing(JudgePool(profile.sandbox, unsafe=unsafe)) as judges,
        contextlib.closing(GeneratorClient(profile.model, settings, beside_trainer=beside_trainer)) as generator,
    ):
        yield generator, judges


@contextlib.contextmanager
def _started_once(start: Engines) -> Iterator[Engines]:
    """Engines that start when they are first asked for and end with the block, so that measurements which follow each
    other load the model once."""
    with contextlib.ExitStack() as stack:
        started: list[tuple[Generator, Judge]] = []

        def engines(profile: Profile, unsafe: bool) -> contextlib.AbstractContextManager[tuple[Generator, Judge]]:
            if not started:
                started.append(stack.enter_context(start(profile, unsafe)))
            return contextlib.nullcontext(started[0])

        yield engines


def report(run: Run) -> None:
    from app.report import write_report

    say("report")
    with run.attempt("report"):
        write_report(run)


def _require_what_stages_need(profile: Profile, *, trains: bool = True, learns: bool = False) -> None:
    """trains: by SFT; learns: from own drafts."""
    if trains:
        workers = profile.sft.num_workers  # and one CPU for the data that feeds them
        gpus = workers if profile.sft.use_gpu else 0
        require_resources(f"sft.num_workers={workers}", num_cpus=workers + 1, num_gpus=gpus)
    if learns:
        uses_gpu = profile.sft.use_gpu or profile.generation.use_gpu
        require_resources("grm, its trainer beside its generator,", num_cpus=2, num_gpus=int(uses_gpu))
    require_resources("generation", num_cpus=1, num_gpus=int(profile.generation.use_gpu))


def _keep_peak(run: Run, peak_bytes: int) -> None:
    before = read_json(run.info).get("peak_memory_bytes", 0)
    update_info(run, peak_memory_bytes=max(before, peak_bytes))
