"""The main job: corpus, SFT, evaluation, report, in this order, each skipped when it is complete.

Runs as a Ray driver: on a cluster of its own, on the one RAY_ADDRESS names, or as a submitted job. Self-reward
(`grm`) and evolution (`evolve`) will stand between SFT and evaluation. Run: python -m app pipeline --profile P [--run
DIR] [--resume]
"""

import contextlib
import shutil
from pathlib import Path

from app import hardware
from app.cluster import connected, require_resources
from app.errors import UserError
from app.evaluation import humaneval
from app.evaluation.stage import full, is_evaluated, read_results, run_evaluation
from app.models import ensure_model
from app.progress import say
from app.records import SuiteResult
from app.runs import Run, read_json, update_info
from app.settings import Profile


def run_pipeline(run: Run, profile: Profile, *, unsafe: bool = False) -> None:
    """unsafe: run programs on a machine that can't confine them (`app.sandbox.tiers`)."""
    ensure_model(profile.model)
    complete = run.corpus_manifest.exists() and run.sft_meta.exists() and is_evaluated(run, profile.evaluation)
    with hardware.PeakMemory() as memory, contextlib.nullcontext() if complete else connected(profile.cluster):
        if not complete:
            _require_what_stages_need(profile)
        corpus(run, profile)
        sft(run, profile)
        evaluate(run, profile, unsafe=unsafe)
    _keep_peak(run, memory.peak_bytes)
    report(run)


def corpus(run: Run, profile: Profile) -> None:
    if run.corpus_manifest.exists():
        shutil.rmtree(run.corpus_work, ignore_errors=True)  # of a build killed right after its manifest
        return say("corpus: complete")
    from app.corpus.build import build_corpus

    say("corpus")
    with run.attempt("corpus"), connected(profile.cluster):
        build_corpus(run, profile, [task.benchmark_text for task in humaneval.load()])
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


def evaluate(run: Run, profile: Profile, *, full_suite: bool = False, unsafe: bool = False) -> list[SuiteResult]:
    _need(run.sft_meta, "sft", run, profile)
    settings = full(profile.evaluation) if full_suite else profile.evaluation
    if is_evaluated(run, settings):
        say("evaluate: complete")
        return read_results(run, settings)
    from actors.generator import GeneratorClient
    from actors.judges import JudgePool

    say("evaluate")
    with run.attempt("evaluate"), connected(profile.cluster):
        with (
            contextlib.closing(JudgePool(profile.sandbox, unsafe=unsafe)) as judges,
            contextlib.closing(GeneratorClient(profile.model, profile.generation)) as generator,
        ):
            run_evaluation(run, settings, generator, judges)
        return read_results(run, settings)


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
