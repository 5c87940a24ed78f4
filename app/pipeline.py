"""The main job: corpus, SFT, evaluation, report, in this order, each skipped when it is complete.

Runs as a Ray driver: on a cluster of its own, on the one RAY_ADDRESS names, or as a submitted job. Self-reward
(`grm`) and evolution (`evolve`) will stand between SFT and evaluation. Run: python -m app pipeline --profile P [--run
DIR] [--resume]
"""

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app import hardware
from app.cluster.session import connected, require_resources
from app.corpus.clean.guard import Guard
from app.errors import UserError
from app.evaluation.contamination import overlaps
from app.evaluation.guarded_suites import guard_against, guard_for
from app.evaluation.stage import (
    BASE,
    SFT,
    CandidateComparison,
    is_evaluated,
    load_suites,
    plans,
    problem_paths,
    read_results,
    run_evaluation,
    set_aside_outdated,
)
from app.evaluation.suites.registry import ALWAYS_HERE, evenly_spaced, get_suite
from app.evaluation.suites.suite import Suite, Task
from app.models.adapters import check_adapter
from app.models.base import ensure_model, load_tokenizer, weights_sha256
from app.progress import say
from app.prompting.turn_ends import check_chat
from app.records import SuiteResult
from app.runs import Run, read_json, update_info
from app.settings import Profile


def run_pipeline(run: Run, profile: Profile, *, unsafe: bool = False) -> None:
    """unsafe: run programs on a machine that can't confine them (`app.sandbox.tiers`)."""
    check_chat_uses(profile)
    candidates = {BASE: "", SFT: str(run.sft_adapter)}
    evaluated = is_evaluated(run, profile.evaluation, candidates)
    complete = run.corpus_manifest.exists() and run.sft_meta.exists() and evaluated
    if not evaluated:
        load_suites(profile.evaluation)  # problems that can't be had are missed now, not days later
    with hardware.PeakMemory() as memory, contextlib.nullcontext() if complete else connected(profile.cluster):
        if not complete:
            _require_what_stages_need(profile)
        corpus(run, profile, unsafe=unsafe)
        sft(run, profile)
        evaluate(run, profile, unsafe=unsafe)
    _keep_peak(run, memory.peak_bytes)
    report(run)


def check_chat_uses(profile: Profile) -> None:
    """Raise UserError for a base model that can't be asked as the corpus or the evaluation ask, before any stage."""
    tokenizer = _check_dialogues(profile)
    for protocol in profile.evaluation.protocols:
        if protocol != "completion":
            check_chat(tokenizer, f"the protocol {protocol!r}", "set evaluation.protocols to [completion]")


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

    guard = guard_for(profile.evaluation)
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
    _need(run.corpus_manifest, "corpus", run, profile)
    from app.corpus.identity import check_complete
    from app.training.sft import run_sft

    check_complete(run, profile, ensure_model(profile.model))

    say("sft")
    with run.attempt("sft"), connected(profile.cluster):
        _require_what_stages_need(profile)
        run_sft(run, profile)
    meta = read_json(run.sft_meta)
    return say(f"  {meta['steps']} steps, {meta['tokens']} tokens, loss {meta['final_loss']:.3f}: {run.sft_adapter}")


def evaluate(run: Run, profile: Profile, *, unsafe: bool = False) -> None:
    measure_candidates(run, profile, {BASE: "", SFT: str(run.sft_adapter)}, unsafe=unsafe)


def measure_candidates(
    run: Run, profile: Profile, candidates: Mapping[str, str], *, unsafe: bool = False
) -> tuple[list[SuiteResult], list[CandidateComparison]]:
    """Every candidate on profile.evaluation, as far as it has no result yet, and each against the base model.

    candidates: adapter by name, empty for the base model.
    """
    if str(run.sft_adapter) in candidates.values():
        _need(run.sft_meta, "sft", run, profile)
    folder = ensure_model(profile.model)
    for adapter in filter(None, candidates.values()):
        check_adapter(Path(adapter), folder)
    suites, tokenizer = load_suites(profile.evaluation), load_tokenizer(folder)
    planned = set_aside_outdated(run, plans(run, profile, candidates, suites, tokenizer, weights_sha256(folder)))
    if is_evaluated(run, profile.evaluation, candidates):
        say("evaluate: complete")
        return read_results(run, profile.evaluation, candidates)
    from actors.generator import GeneratorClient
    from actors.judges import JudgePool

    say("evaluate")
    with run.attempt("evaluate"), connected(profile.cluster):
        require_resources("generation", num_cpus=1, num_gpus=int(profile.generation.use_gpu))
        found = _contamination(run, profile, suites)  # before the generator, which without a card takes every core
        with (
            contextlib.closing(JudgePool(profile.sandbox, unsafe=unsafe)) as judges,
            contextlib.closing(GeneratorClient(profile.model, profile.generation)) as generator,
        ):
            run_evaluation(run, planned, found, tokenizer, generator, judges)
    return read_results(run, profile.evaluation, candidates)


def _contamination(
    run: Run, profile: Profile, suites: Mapping[str, tuple[Suite, list[Task]]]
) -> dict[str, dict[str, Any] | None]:
    """By suite, over the problems that are measured."""
    found = {}
    for name, (_, tasks) in suites.items():
        chosen = {task.problem.id for task in evenly_spaced(tasks, profile.evaluation.num_problems)}
        found[name] = _with_guard(run, name, tasks, overlaps(run, name, tasks, profile.model, chosen))
    return found


def _with_guard(run: Run, suite: str, tasks: list[Task], summary: dict[str, Any] | None) -> dict[str, Any] | None:
    """The summary with what the run's corpus was not guarded against; also said."""
    if summary is None:
        return None
    if lacking := guard_against(read_json(run.corpus_manifest), suite, tasks):
        say(f"  {suite}: of this run's corpus, {lacking}; what was trained on it may know these problems")
    return summary | {"unguarded": lacking}


def contamination(run: Run, profile: Profile) -> dict[str, Any]:
    """Of every suite of profile.evaluation, and of those that ship with us."""
    _need(run.corpus_manifest, "corpus", run, profile)
    with connected(profile.cluster):
        suites = benchmarks(profile).items()
        found = {n: _with_guard(run, n, tasks, overlaps(run, n, tasks, profile.model)) for n, tasks in suites}
        return {name: summary for name, summary in found.items() if summary}


def benchmarks(profile: Profile) -> dict[str, list[Task]]:
    """The problems that a run's training data are searched for: of the suites to be measured, and of those that are
    always here."""
    paths = problem_paths(profile.evaluation)
    names = dict.fromkeys((*ALWAYS_HERE, *profile.evaluation.suites, *paths))
    return {name: get_suite(name).load(paths.get(name)) for name in names}


def report(run: Run) -> None:
    from app.report import write_report

    say("report")
    with run.attempt("report"):
        write_report(run)


def _require_what_stages_need(profile: Profile) -> None:
    workers = profile.sft.num_workers  # and one CPU for the data that feeds them
    gpus = workers if profile.sft.use_gpu else 0
    require_resources(f"sft.num_workers={workers}", num_cpus=workers + 1, num_gpus=gpus)
    require_resources("generation", num_cpus=1, num_gpus=int(profile.generation.use_gpu))


def _need(artifact: Path, stage: str, run: Run, profile: Profile) -> None:
    if not artifact.exists():
        command = f"python -m app {stage} --profile {profile.name} --run {run.root}"
        raise UserError(f"run {run.root} lacks {artifact.relative_to(run.root)}: run `{command}` first")


def _keep_peak(run: Run, peak_bytes: int) -> None:
    before = read_json(run.info).get("peak_memory_bytes", 0)
    update_info(run, peak_memory_bytes=max(before, peak_bytes))
