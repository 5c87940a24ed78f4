"""Measures candidates of a run on the cluster: what has no result yet is drawn and judged, and what the training data
share with the problems is looked up."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from app.cluster.session import connected, require_engines
from app.evaluation import best_of_score
from app.evaluation.contamination import overlaps
from app.evaluation.guarded_suites import guard_against
from app.evaluation.stage import (
    CandidateComparison,
    facts_of,
    is_evaluated,
    load_suites,
    plans,
    problem_paths,
    read_results,
    run_evaluation,
    set_aside_outdated,
)
from app.evaluation.suites.registry import ALWAYS_HERE, evenly_spaced, get_suite
from app.evaluation.suites.suite import Suite
from app.files.json_files import read_json
from app.models.adapters import check_adapter
from app.models.base import ensure_model, load_tokenizer, weights_sha256
from app.problem_sets.task import Task
from app.progress import say
from app.records import Generator, Judge, SuiteResult
from app.runs import Run, require_stage
from app.sandbox.tiers import confinement
from app.settings import Profile

Engines = Callable[[Profile, bool], AbstractContextManager[tuple[Generator, Judge]]]
"""Starts what draws and what judges for a profile; the flag lets programs run unconfined."""


def measure_candidates(
    run: Run,
    profile: Profile,
    candidates: Mapping[str, str],
    engines: Engines,
    *,
    stage: str = "evaluate",
    unsafe: bool = False,
) -> tuple[list[SuiteResult], list[CandidateComparison]]:
    """Every candidate on profile.evaluation, where it has no result yet, and each against the base model.

    candidates: adapter by name, empty for the base model. stage: under which name it is told and timed. unsafe: run
    programs on a machine that can't confine them (`app.sandbox.tiers`).
    """
    if str(run.sft_adapter) in candidates.values():
        require_stage(run, "sft", run.sft_meta, profile)
    folder = ensure_model(profile.model)
    for adapter in filter(None, candidates.values()):
        check_adapter(Path(adapter), folder)
    suites, tokenizer = load_suites(profile.evaluation), load_tokenizer(folder)
    weights, num_drafts = weights_sha256(folder), profile.evaluation.best_of
    planned = set_aside_outdated(run, plans(run, profile, candidates, suites, tokenizer, weights))
    systems = []
    if num_drafts:
        best_of_score.check(profile.evaluation, suites)
        facts = facts_of(profile, weights)
        systems = set_aside_outdated(run, best_of_score.plans(run, profile, candidates, suites, tokenizer, facts))
    if is_evaluated(run, profile.evaluation, candidates) and best_of_score.is_measured(
        run, profile.evaluation, candidates
    ):
        say(f"{stage}: complete")
        return read_results(run, profile.evaluation, candidates)
    say(stage)
    with run.attempt(stage), connected(profile.cluster):
        require_engines(profile.generation)
        found = _of_measured(run, profile, suites)  # before the generator, which without a card takes every core
        with engines(profile, unsafe) as (generator, judges):
            run_evaluation(run, planned, found, tokenizer, generator, judges)
            if num_drafts:
                confined = confinement(unsafe=unsafe)
                best_of_score.measure(run, systems, num_drafts, tokenizer, generator, judges, profile.sandbox, confined)
    return read_results(run, profile.evaluation, candidates)


def search_training_data(run: Run, profile: Profile, suites: Mapping[str, tuple[Suite, list[Task]]]) -> None:
    """Look up what the training data share with the suites' problems, for `measure_candidates` to find: it needs a
    core, and engines that are up without a card hold all of them."""
    for name, (_, tasks) in suites.items():
        overlaps(run, name, tasks, profile.model)


def contamination(run: Run, profile: Profile) -> dict[str, Any]:
    """What a run's training data share with the problems of every suite of profile.evaluation, and of those that ship
    with us."""
    require_stage(run, "corpus", run.corpus_manifest, profile)
    paths = problem_paths(profile.evaluation)
    names = dict.fromkeys((*ALWAYS_HERE, *profile.evaluation.suites, *paths))
    suites = {name: get_suite(name).load(paths.get(name)) for name in names}
    with connected(profile.cluster):
        found = {n: _with_guard(run, n, tasks, overlaps(run, n, tasks, profile.model)) for n, tasks in suites.items()}
        return {name: summary for name, summary in found.items() if summary}


def _of_measured(
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
