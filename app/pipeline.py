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
from app.adapters import check_adapter
from app.cluster import connected, require_resources
from app.errors import UserError
from app.evaluation.contamination import overlaps
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
from app.evaluation.suite import Suite, Task
from app.evaluation.suites import ALWAYS_HERE, evenly_spaced, get_suite
from app.models import ensure_model, load_tokenizer, weights_sha256
from app.progress import say
from app.records import SuiteResult
from app.runs import Run, read_json, update_info
from app.settings import Profile


def run_pipeline(run: Run, profile: Profile, *, unsafe: bool = False) -> None:
    """unsafe: run programs on a machine that can't confine them (`app.sandbox.tiers`)."""
    ensure_model(profile.model)
    candidates = {BASE: "", SFT: str(run.sft_adapter)}
    evaluated = is_evaluated(run, profile.evaluation, candidates)
    complete = run.corpus_manifest.exists() and run.sft_meta.exists() and evaluated
    with hardware.PeakMemory() as memory, contextlib.nullcontext() if complete else connected(profile.cluster):
        if not complete:
            _require_what_stages_need(profile)
        corpus(run, profile, unsafe=unsafe)
        sft(run, profile)
        evaluate(run, profile, unsafe=unsafe)
    _keep_peak(run, memory.peak_bytes)
    report(run)


def corpus(run: Run, profile: Profile, *, unsafe: bool = False) -> None:
    if run.corpus_manifest.exists():
        shutil.rmtree(run.corpus_work, ignore_errors=True)  # of a build killed right after its manifest
        return say("corpus: complete")
    from app.corpus.build import build_corpus

    say("corpus")
    with run.attempt("corpus"), connected(profile.cluster):
        suites = benchmarks(profile)
        texts = [task.benchmark_text for tasks in suites.values() for task in tasks]
        build_corpus(run, profile, texts, unsafe=unsafe)
    manifest = read_json(run.corpus_manifest)
    return say(
        f"  {manifest['tokens']} tokens in {manifest['rows']} rows, {manifest['documents']} documents: {run.corpus}"
    )


def sft(run: Run, profile: Profile) -> None:
    if run.sft_meta.exists():
        shutil.rmtree(run.sft_work, ignore_errors=True)
        return say("sft: complete")
    _need(run.corpus_manifest, "corpus", run, profile)
    from app.training.sft import run_sft

    say("sft")
    with run.attempt("sft"), connected(profile.cluster):
        _require_what_stages_need(profile)
        run_sft(run, profile)
    meta = read_json(run.sft_meta)
    return say(f"  {meta['steps']} steps, {meta['tokens']} tokens, loss {meta['final_loss']:.3f}: {run.sft_adapter}")


def evaluate(run: Run, profile: Profile, *, unsafe: bool = False) -> None:
    measure(run, profile, {BASE: "", SFT: str(run.sft_adapter)}, unsafe=unsafe)


def measure(
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
        found[name] = overlaps(run, name, tasks, profile.model, chosen)
    return found


def contamination(run: Run, profile: Profile) -> dict[str, Any]:
    """Of every suite of profile.evaluation, and of those that ship with us."""
    _need(run.corpus_manifest, "corpus", run, profile)
    with connected(profile.cluster):
        return {name: overlaps(run, name, tasks, profile.model) for name, tasks in benchmarks(profile).items()}


def benchmarks(profile: Profile) -> dict[str, list[Task]]:
    """The problems that training data must not hold: of the suites to be measured, and of those that are always
    here."""
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
