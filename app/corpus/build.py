"""The corpus stage, on Ray: sources -> documents -> problems -> packed training shards.

    plan      sources found, files drawn by hash and cut into shards; made anew whenever a build goes on
    extract   read, clean, decontaminate, cut into documents (`extract`)
    twice     exact and near-duplicates over all documents (`duplicates`)
    mine      candidates for problems, distribution by distribution; copies out; run in the sandbox (`mining.storage`)
    render    documents and training problems -> examples -> tokens (`samples`)
    choose    the examples that are learnt, by the recipe's shares of learnt tokens (`shares`)
    assemble  chosen samples -> packed rows (`assemble`)
    report    rejected.parquet, attribution.csv, manifest.json (`manifest`)

What meets untrusted content, up to render, runs in queues of plain tasks (`app.cluster.job_queue` says why); assemble
is a stream of Ray Data. Each task writes its Parquet file whole and returns a few numbers, so that memory stays flat
and a killed build goes on with the files that are missing or were made from something else (`identity`). Everything is
drawn by hash: one seed gives the same bytes on any number of workers. The run directory must be on storage that all
nodes share. Run: python -m app corpus --profile P --run DIR
"""

import dataclasses
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from app.cluster.job_queue import run_tasks
from app.corpus import manifest
from app.corpus.clean.duplicates import Duplicates, find_duplicates
from app.corpus.clean.extract import ExtractJob, ShardFile, extract_shard
from app.corpus.clean.guard import GUARD, Guard, guard_of, signs_bytes
from app.corpus.draws import by_hash
from app.corpus.identity import (
    BuildIdentity,
    changes,
    contents_sha256,
    digest,
    identify,
    of_mined,
    of_shard,
    shown,
    source_digests,
    stage_digest,
)
from app.corpus.jobs import BuildSettings, discard_others
from app.corpus.mining import standard_library
from app.corpus.mining.storage import (
    CheckJob,
    MineJob,
    ProveJob,
    check_chunk,
    chunks,
    mine_distribution,
    problem_row,
    prove_chunk,
    read_problems,
    write_problems,
)
from app.corpus.recipe_check import check_recipe, network_needs
from app.corpus.recipe_files import load_recipe
from app.corpus.recipes import SPLITS, Recipe, StandardLibrary, TaskSource, split_of
from app.corpus.records import Origin
from app.corpus.rows.assemble import AssembleJob, assemble_shards
from app.corpus.rows.samples import HELD_OUT, RenderJob, render_shard
from app.corpus.rows.shares import choose
from app.corpus.sources.distributions import Distribution, SourceFile, under_others
from app.corpus.sources.find import draw_files, find_distributions, selected
from app.corpus.sources.task_files import RejectedProblem, file_of, given_problems
from app.errors import UserError
from app.files.home import cache_root
from app.files.json_files import read_json, write_atomic, write_json
from app.models.base import ensure_model
from app.progress import say
from app.records import BenchmarkText
from app.running.run_settings import DECISIVE_SANDBOX
from app.runs import Run
from app.settings import Profile

CANDIDATES_A_CHUNK = 40
IDENTITY = "identity.json"
"""In the work folder: what the build that is under way is made from."""
FILE_S, PROBLEM_S, SHARD_S = 120.0, 900.0, 900.0
"""How long a job may be at one file, one problem (many programs are run for it) and the examples of one shard."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BuildPlan:
    """What a build does. Made from the recipe and its sources as they are now."""

    recipe: Recipe
    distributions: list[Distribution]
    """All of them; only those to be mined have their files."""
    shards: list[tuple[ShardFile, ...]]
    sources: dict[str, str]
    """Hash of each distribution (`identity.source_digests`), and of each file of problems."""

    @property
    def mined(self) -> list[Distribution]:
        return [d for d in self.distributions if d.files]


def build_corpus(
    run: Run, profile: Profile, benchmarks: Guard | Iterable[BenchmarkText], *, unsafe: bool = False
) -> None:
    """Build the run's corpus, corpus/manifest.json last; do nothing where that is there. Needs a connected Ray.

    benchmarks: what is kept out; texts are those of one suite without a name. unsafe: run mined functions on machines
    that can't confine them. Raises UserError for a recipe that can't be built.
    """
    if run.corpus_manifest.exists():
        return
    guard = benchmarks if isinstance(benchmarks, Guard) else guard_of({"given": list(benchmarks)})
    plan = _plan(run, profile)
    identity = identify(profile, plan.recipe, ensure_model(profile.model), guard, plan.sources)
    _tell_changes(run.corpus_work / IDENTITY, identity)
    facts = {"guard": guard.facts(), "identity": identity.facts()}
    guarded = signs_bytes(guard.signs(), guard.facts())
    write_atomic(run.corpus_work / GUARD, guarded)
    build = BuildSettings(
        recipe=plan.recipe,
        work=run.corpus_work,
        train=run.train_shards,
        problems=run.problems,
        guard_sha256=hashlib.sha256(guarded).hexdigest(),
        model=profile.model,
        seq_len=profile.corpus.seq_len,
        seed=profile.seed,
        sandbox=profile.sandbox,
        unsafe=unsafe,
    )
    at_once = profile.corpus.num_workers
    extracting = [
        ExtractJob(
            index=index,
            identity=of_shard(files, plan.recipe, plan.sources, build.guard_sha256),
            build=build,
            files=files,
        )
        for index, files in enumerate(plan.shards)
    ]
    discard_others(run.corpus_work / "documents", extracting, run.corpus_work / "rejected")
    run_tasks("corpus, extract", extract_shard, extracting, at_once, **_watched(run, FILE_S))
    copies = find_duplicates([job.part("documents") for job in extracting])
    mined = _mine(run, profile, plan, build)
    rendering = _renderings(build, copies, identity, extracting)
    discard_others(run.corpus_work / "samples", rendering, run.corpus_work / "left_out")
    run_tasks("corpus, render", render_shard, rendering, at_once, **_watched(run, SHARD_S))
    chosen = choose([job.part("samples") for job in rendering], plan.recipe.forms.model_dump())
    assembling = []
    for done, rows, cuts in zip(rendering, chosen.rows, chosen.cuts, strict=True):
        own = {"index": done.index, "take": rows.tolist(), "cuts": cuts}
        made_of = stage_digest("assemble", done.identity, own)
        assembling.append(AssembleJob(identity=made_of, build=build, **own))
    discard_others(run.train_shards, assembling)
    counts = assemble_shards(assembling, at_once)
    made = manifest.write_tables(run, profile, plan, copies, mined, counts, facts)
    if told := manifest.nothing_to_learn(run, made):
        say(f"  {told}")
    write_json(run.corpus_manifest, made)
    shutil.rmtree(run.corpus_work)


def _renderings(
    build: BuildSettings, copies: Duplicates, identity: BuildIdentity, extracted: list[ExtractJob]
) -> list[RenderJob]:
    shared = (build.problems / f"{SPLITS[0]}.parquet", build.work / HELD_OUT)
    inputs = digest([contents_sha256(path) for path in shared])
    made_of = [inputs, build.recipe.forms.model_dump(), build.seq_len, build.seed, identity.tokenizer]
    jobs = []
    for done, rows in zip(extracted, copies.kept, strict=True):
        own = {"index": done.index, "keep": rows.tolist(), "num_shards": len(extracted), "inputs": inputs}
        jobs.append(RenderJob(identity=stage_digest("render", done.identity, own, made_of), build=build, **own))
    return jobs


def _tell_changes(path: Path, identity: BuildIdentity) -> None:
    """Say what has changed since the build that goes on was started, and keep the new record."""
    names = [field.name for field in dataclasses.fields(identity)]
    if path.exists() and (changed := changes(identity, read_json(path), names)):
        say(f"  what was made from something else is made anew: {shown(changed)}")
    write_json(path, identity.facts())


def current_sources(run: Run, profile: Profile) -> dict[str, str]:
    """Hash of each distribution that a build would read now. Raises UserError for a recipe that can't be built."""
    return _plan(run, profile).sources


def _plan(run: Run, profile: Profile) -> BuildPlan:
    if run.corpus_work.exists():
        say(f"  going on with what is in {run.corpus_work}")
    recipe = load_recipe(profile.corpus)
    for need in network_needs(recipe):
        say(f"  {need}")
    if problems := check_recipe(recipe, profile.seed):
        raise UserError(f"recipe {recipe.name!r} can't be built: {'; '.join(problems)}")
    distributions = find_distributions(recipe, cache_root() / "sources")
    trained = [d for d in distributions if split_of(d.name, profile.seed, recipe) == SPLITS[0]]
    chosen = draw_files(trained, profile.seed, profile.corpus.max_files)
    num_approved = sum(d.verdict.approved for d in distributions)
    say(f"  {len(distributions)} distributions, {num_approved} under approved licences; {len(chosen)} files drawn")
    if not chosen:
        raise UserError(f"recipe {recipe.name!r} finds no Python file under an approved licence: add a source to it")
    size = profile.corpus.files_per_shard
    others = {d.name: under_others(d) for d in trained if d.files}
    files = [_shard_file(d, file, others[d.name].get(file.licence, frozenset())) for d, file in chosen]
    shards = [tuple(files[start : start + size]) for start in range(0, len(files), size)]
    mined = _with_files_to_mine(distributions, recipe, profile)
    read = [to_mine if to_mine.files else found for to_mine, found in zip(mined, distributions, strict=True)]
    names = {d.name for d, _ in chosen} | {d.name for d in mined if d.files}
    given = {
        f"problems of {s.kind}": contents_sha256(file_of(s))[:16] for s in recipe.sources if isinstance(s, TaskSource)
    }
    return BuildPlan(recipe=recipe, distributions=mined, shards=shards, sources=source_digests(read, names) | given)


def _shard_file(d: Distribution, file: SourceFile, others: frozenset[str]) -> ShardFile:
    licence = file.licence or d.verdict.licence
    origin = Origin(distribution=d.name, version=d.version, licence=licence, path=file.path)
    return ShardFile(origin=origin, file=file, source=d.source, under_others=others)


def _with_files_to_mine(distributions: list[Distribution], recipe: Recipe, profile: Profile) -> list[Distribution]:
    """All distributions; only those in which problems are looked for keep their files: taken in a drawn order, while
    they have no more than max_mined_files together. The standard library gets the tests that its source takes, for
    mining alone: they become no training documents."""
    for source in recipe.sources:
        if isinstance(source, StandardLibrary):
            library = selected(standard_library(frozenset(recipe.licences.also_allow)), source)
            distributions = [library if d.files and {*d.files} <= {*library.files} else d for d in distributions]
    most, total, chosen = profile.corpus.max_mined_files, 0, set()
    approved = [d for d in distributions if d.verdict.approved and d.files]
    approved.sort(key=lambda d: by_hash(f"{profile.seed}:mine:{d.name}"))
    for distribution in approved:
        if most is None or total + len(distribution.files) <= most:
            total += len(distribution.files)
            chosen.add(distribution.name)
    return [d if d.name in chosen else dataclasses.replace(d, files=()) for d in distributions]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MinedProblems:
    """What mining gave. Read by `manifest`."""

    funnel: dict[str, int]
    """Functions that reached each stage of `app.corpus.mining.STAGES`."""
    copies: Duplicates
    """The copies among the candidates, over all their files."""
    num_chunks: int
    given: list[RejectedProblem]
    """Problems of training splits that were left out."""
    counts: dict[str, Counter[str]]
    """Problems by split and source."""


def _mine(run: Run, profile: Profile, plan: BuildPlan, build: BuildSettings) -> MinedProblems:
    mining = []
    for index, distribution in enumerate(plan.mined):
        split = split_of(distribution.name, profile.seed, plan.recipe)
        identity = of_mined(distribution, split, plan.recipe, plan.sources, build.guard_sha256)
        bare = dataclasses.replace(distribution, texts=())  # which a task has no use for
        mining.append(MineJob(index=index, identity=identity, build=build, distribution=bare, split=split))
    discard_others(run.corpus_work / "candidates", mining, run.corpus_work / "rejected_candidates")
    funnel: Counter[str] = Counter()
    at_once = profile.corpus.num_workers
    for done in run_tasks("corpus, find problems", mine_distribution, mining, at_once, **_watched(run, FILE_S)):
        funnel.update(done)
    copies = find_duplicates([job.part("candidates") for job in mining])
    limits = [getattr(profile.sandbox, key) for key in DECISIVE_SANDBOX]
    checks = []
    for index, chunk in enumerate(chunks([rows.tolist() for rows in copies.kept], CANDIDATES_A_CHUNK)):
        made_of = [[mining[number].identity, kept] for number, kept in chunk]
        identity = stage_digest("prove", made_of, limits)
        checks.append(CheckJob(index=index, identity=identity, build=build, rows=chunk))
    given, refused = given_problems(plan.recipe, profile.seed)
    cuts = [given[start : start + CANDIDATES_A_CHUNK] for start in range(0, len(given), CANDIDATES_A_CHUNK)]
    proofs = []
    for index, cut in enumerate(cuts, start=len(checks)):
        held = [problem_row(solved) for solved in cut]
        identity = stage_digest("prove", held, limits, build.guard_sha256)
        proofs.append(ProveJob(index=index, identity=identity, build=build, given=cut))
    discard_others(run.corpus_work / "checked", [*checks, *proofs], run.corpus_work / "rejected_problems")
    for done in run_tasks("corpus, prove problems", check_chunk, checks, at_once, **_watched(run, PROBLEM_S)):
        funnel.update(done)
    run_tasks("corpus, prove given problems", prove_chunk, proofs, at_once, **_watched(run, PROBLEM_S))
    checked = [job.part("checked") for job in (*checks, *proofs)]
    counts = write_problems(run.problems, checked)
    _hold_out(run)
    return MinedProblems(funnel=dict(funnel), copies=copies, num_chunks=len(checked), given=refused, counts=counts)


def _watched(run: Run, limit_s: float) -> dict[str, Any]:
    """The way in which jobs of untrusted inputs are run: what each one is at is noted, and what hangs is left out."""
    return {"notes": run.corpus_work / "notes", "limit_s": limit_s}


def _hold_out(run: Run) -> None:
    """Problems to be measured on are kept out of the training documents like those of the benchmarks."""
    texts = [
        BenchmarkText(problem_id=solved.problem.id, entry_point="", text=f"{solved.problem.prompt}\n{solved.solution}")
        for split in SPLITS[1:]
        for solved in read_problems(run.problems, split)
    ]
    write_atomic(run.corpus_work / HELD_OUT, json.dumps([dataclasses.asdict(text) for text in texts]))
