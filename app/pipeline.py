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
from collections.abc import Callable, Iterator
from typing import Any

from app import hardware, stages
from app.cluster.offline import offline
from app.cluster.session import connected
from app.errors import NothingToLearnError, causes
from app.evaluation import gate
from app.evaluation.measurement import Engines, measure_candidates, search_training_data
from app.evaluation.stage import BASE, EVOLVE, GRM, SFT, is_evaluated, load_suites
from app.files.json_files import read_json
from app.progress import say
from app.prompting.turn_ends import is_taught_to_answer
from app.records import UNTRUSTED_TIERS, Generator, Judge
from app.runs import Run, update_info
from app.sandbox.tiers import confinement
from app.settings import Profile


def run_pipeline(run: Run, profile: Profile, *, keep_anyway: bool = False, unsafe: bool = False) -> None:
    """keep_anyway: what a stage trains is kept, whatever the validation says. unsafe: run programs on a machine that
    can't confine them (`app.sandbox.tiers`)."""
    tokenizer = stages.check_chat_uses(profile)
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
    with hardware.PeakMemory() as memory, contextlib.ExitStack() as cluster:
        if not complete:
            with offline():  # for the workers of all stages: the one Ray serves those that train too
                cluster.enter_context(connected(profile.cluster))
            learns = GRM in trained or EVOLVE in trained
            stages.require_what_stages_need(profile, trains=SFT in trained, learns=learns)
        stages.corpus(run, profile, unsafe=unsafe)
        if SFT in trained:
            stages.sft(run, profile)
        for stage, work in ((GRM, stages.grm), (EVOLVE, stages.evolve)):
            if stage in trained and (reason := _done_or_why_not(work, run, profile)):
                left_out[stage] = reason
                del trained[stage]
                update_info(run, left_out=left_out)
        for stage, reason in left_out.items():
            say(f"{stage} is left out: {reason}")
        for suites in problems:
            search_training_data(run, profile, suites)
        with _started_once(stages.generator_and_judges) as engines:
            for stage, adapter in trained.items():
                gate.validate(run, profile, stage, adapter, engines, keep_anyway=keep_anyway, unsafe=unsafe)
            measure_candidates(run, profile, {BASE: "", **trained}, engines, unsafe=unsafe)
    _keep_peak(run, memory.peak_bytes)
    stages.report(run)


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


def _keep_peak(run: Run, peak_bytes: int) -> None:
    before = read_json(run.info).get("peak_memory_bytes", 0)
    update_info(run, peak_memory_bytes=max(before, peak_bytes))
