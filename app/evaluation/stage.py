"""The evaluation stage: every candidate on every suite in every protocol, each skipped when it has its result.

Candidates are the base model and adapters of a run, or one model that nobody trained here. Run: python -m app evaluate
--run DIR [--suite NAME,...], or --model NAME_OR_PATH
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.errors import UserError
from app.evaluation.measure import Measurement, PlannedMeasurement, measure_candidate, plan_measurement
from app.evaluation.statistics import Comparison, compare
from app.evaluation.stored_results import ADAPTER_KEY, BASE_KEY, VERDICTS, VERDICTS_KEY, adapter_sha256, is_adapter
from app.evaluation.suites.registry import evenly_spaced, get_suite
from app.evaluation.suites.suite import Suite
from app.files.json_files import read_json, write_json
from app.files.user_files import user_path
from app.models.base import recorded_folder, weights_sha256
from app.problem_sets.task import Task
from app.progress import say
from app.prompting.protocols import EVALPLUS_STOP
from app.records import Generator, Judge, Sampling, Score, SuiteResult
from app.running.run_settings import stored_profile
from app.runs import Run
from app.settings import EvaluationSettings, Profile

BASE, SFT, GRM, EVOLVE = "base", "sft", "grm", "evolve"


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateComparison:
    """A candidate against the base model on one measurement. Made here; read by the report."""

    suite: str
    candidate: str
    comparison: Comparison


def label(suite: str, protocol: str, settings: EvaluationSettings) -> str:
    """Folder name of a measurement; anything but a single greedy draft of every problem is said in it."""
    name = f"{suite}-{protocol}" + (f"-{settings.num_problems}" if settings.num_problems else "")
    if settings.temperature:
        name += f"-n{settings.num_samples}-t{settings.temperature:g}"
    return name


def full(settings: EvaluationSettings) -> EvaluationSettings:
    """All problems in both protocols, instead of the profile's choice."""
    return settings.model_copy(update={"protocols": ("chat", "completion"), "num_problems": None})


def check(settings: EvaluationSettings) -> None:
    """What can be found wrong before anything is started. Raises UserError."""
    if settings.num_samples > 1 and settings.temperature == 0:
        raise UserError(
            f"evaluation.num_samples={settings.num_samples} with evaluation.temperature=0 would draw the same sample "
            "again and again: set a temperature above 0"
        )
    paths = problem_paths(settings)
    for name in (*settings.suites, *paths):
        get_suite(name)
    for name, path in paths.items():
        if not path.exists():
            raise UserError(f"the problems of {name} are not at {path}: give another path, as SUITE=PATH")


def problem_paths(settings: EvaluationSettings) -> dict[str, Path]:
    """evaluation.problems by suite."""
    pairs = [text.partition("=") for text in settings.problems]
    for name, separator, path in pairs:
        if not separator or not path:
            raise UserError(f"evaluation.problems holds {name!r}: write SUITE=PATH, for example mbpp=mbpp.jsonl")
    return {name: user_path(path) for name, _, path in pairs}


def labels(settings: EvaluationSettings) -> list[str]:
    return [label(suite, protocol, settings) for suite in settings.suites for protocol in settings.protocols]


def is_evaluated(run: Run, settings: EvaluationSettings, candidates: Mapping[str, str]) -> bool:
    """Whether every result is there; whether it was measured so, `plans` says."""
    return all(run.suite_result(name, candidate).exists() for name in labels(settings) for candidate in candidates)


def read_result(path: Path) -> SuiteResult:
    """Raises UserError for a file that another version wrote, or that is broken."""
    held = read_json(path)
    try:
        fields = held["result"]
        for group in ("pass_at", "categories"):
            fields[group] = {name: Score(**score) for name, score in fields[group].items()}
        dict(held["pass_rates"])  # what `against_base` reads
        return SuiteResult(**fields)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{path} is no result as this version writes it ({type(error).__name__}: {error}): remove it, and it is "
            "made anew from the samples beside it"
        ) from None


def read_results(
    run: Run, settings: EvaluationSettings, candidates: Mapping[str, str]
) -> tuple[list[SuiteResult], list[CandidateComparison]]:
    names = labels(settings)
    results = [read_result(run.suite_result(name, candidate)) for candidate in candidates for name in names]
    compared = [against_base(run, name, candidate) for candidate in candidates for name in names]
    return results, [comparison for comparison in compared if comparison]


def against_base(run: Run, name: str, candidate: str) -> CandidateComparison | None:
    """A candidate and the base model on one measurement.

    None while one of the two has no result, or where they were measured with different settings.
    """
    paths = [run.suite_result(name, which) for which in (BASE, candidate)]
    if candidate == BASE or not all(path.exists() for path in paths):
        return None
    base, other = (read_json(run.suite_settings(name, which)) for which in (BASE, candidate))
    if base | {ADAPTER_KEY: other.get(ADAPTER_KEY)} != other:
        return None
    comparison = compare(*(read_json(path)["pass_rates"] for path in paths))
    return CandidateComparison(suite=name, candidate=candidate, comparison=comparison) if comparison else None


def load_suites(settings: EvaluationSettings) -> dict[str, tuple[Suite, list[Task]]]:
    """Every suite with all its problems, by name."""
    paths = problem_paths(settings)
    suites = {name: get_suite(name) for name in settings.suites}
    return {name: (suite, suite.load(paths.get(name))) for name, suite in suites.items()}


def plans(
    run: Run,
    profile: Profile,
    candidates: Mapping[str, str],
    suites: Mapping[str, tuple[Suite, list[Task]]],
    tokenizer: Any,
    weights: Mapping[str, str],
) -> list[PlannedMeasurement]:
    """What is to be measured, and how.

    candidates: adapter by name, empty for the base model; weights: SHA-256 of the base model's files.

    Raises UserError when the run holds one of these measurements under other settings.
    """
    settings, facts = profile.evaluation, facts_of(profile, weights)
    return [
        plan_measurement(
            run, measurement(settings, profile, suite, protocol, candidate, adapter, tasks), facts, tokenizer
        )
        for candidate, adapter in candidates.items()
        for suite, tasks in suites.values()
        for protocol in settings.protocols
    ]


def facts_of(profile: Profile, weights: Mapping[str, str]) -> dict[str, Any]:
    """What decides the outcome of any measurement beside its own settings."""
    return {
        "model": profile.model.model_dump(),
        BASE_KEY: dict(weights),
        "generation": {key: getattr(profile.generation, key) for key in ("engine", "max_model_len")},
        "sandbox": {key: getattr(profile.sandbox, key) for key in ("timeout_s", "memory_bytes")},
        VERDICTS_KEY: VERDICTS,
    }


def set_aside_outdated(run: Run, planned: Sequence[PlannedMeasurement]) -> list[PlannedMeasurement]:
    """Move what can't be gone on with out of the way, so that it is measured, or judged, anew; nothing is lost."""
    for each in planned:
        if each.settings_changed:
            _renew_settings(run, each)
    return [_set_aside(run, each) if each.outdated else each for each in planned]


def _renew_settings(run: Run, planned: PlannedMeasurement) -> None:
    what = planned.what
    write_json(run.suite_settings(what.label, what.candidate), planned.settings)
    result = run.suite_result(what.label, what.candidate)
    if result.exists():
        write_json(result, read_json(result) | planned.settings)


def _set_aside(run: Run, planned: PlannedMeasurement) -> PlannedMeasurement:
    what = planned.what
    samples = run.suite_samples(what.label, what.candidate)
    place = run.set_aside(samples.parent)
    say(f"  {what.label}, {what.candidate}: {planned.outdated}; what was measured is kept in {place}")
    return replace(planned, outdated="", drawn=place / samples.name if planned.drafts_hold else None)


def outdated(run: Run) -> dict[tuple[str, str], str]:
    """Measurements that other weights, or another sandbox, gave: by label and candidate, each with what changed.

    Weights that are not on this machine count as unchanged.
    """
    profile, results = stored_profile(run.root), sorted(run.evaluation.glob("*/*/result.json"))
    folder = recorded_folder(profile.model) if profile and results else None
    weights = weights_sha256(folder) if folder else None
    found, own = {}, {SFT: str(run.sft_adapter), GRM: str(run.grm_adapter), EVOLVE: str(run.evolve_adapter)}
    for path in results:
        name, held = path.parent.name, read_json(path)
        adapter = own.get(name) or held.get("adapter", "")
        if held.get(VERDICTS_KEY) != VERDICTS:
            found[path.parent.parent.name, name] = "the sandbox judges otherwise since"
        elif weights and weights != held.get(BASE_KEY):
            found[path.parent.parent.name, name] = "the base model's weights are others now"
        elif adapter and is_adapter(adapter) and adapter_sha256(adapter) != held.get(ADAPTER_KEY):
            found[path.parent.parent.name, name] = "the adapter is another now"
    return found


def run_evaluation(
    run: Run,
    planned: Sequence[PlannedMeasurement],
    contamination: Mapping[str, dict[str, Any] | None],
    tokenizer: Any,
    generator: Generator,
    judge: Judge,
) -> None:
    """Measure what has no result yet. contamination: `contamination.overlaps` by suite."""
    for each in planned:
        path = run.suite_result(each.what.label, each.what.candidate)
        if not path.exists():
            notes = {"contamination": contamination[each.what.suite.name]}
            measure_candidate(run, each, notes, tokenizer, generator, judge)
        say(f"  {describe(read_result(path))}")


def describe(result: SuiteResult) -> str:
    """One line, in which each rate has its number of problems and its interval."""
    rates = [
        f"pass@{k} {100 * s.value:.1f} % (95 %: {100 * s.interval_95[0]:.1f} to {100 * s.interval_95[1]:.1f})"
        for k, s in result.pass_at.items()
    ]
    return (
        f"{result.suite}, {result.candidate}: {result.num_passed} of {result.num_samples} samples of "
        f"{result.pass_at['1'].num_problems} problems passed, {', '.join(rates)}{describe_replies(result.replies)}"
    )


def describe_replies(shares: Mapping[str, float]) -> str:
    """What became of the replies, before any test was run; empty where that is not known."""
    words = {"parsed": "parse", "defined": "define what was asked for", "ended": "ended by themselves"}
    found = ", ".join(f"{100 * share:.0f} % {words[name]}" for name, share in shares.items())
    return f"; of the replies {found}" if found else ""


def measurement(
    settings: EvaluationSettings,
    profile: Profile,
    suite: Suite,
    protocol: str,
    candidate: str,
    adapter: str,
    tasks: list[Task],
) -> Measurement:
    """What the settings ask of one suite, protocol and candidate (its adapter's folder; "" for the base)."""
    sampling = Sampling(
        max_new_tokens=settings.max_new_tokens,
        temperature=settings.temperature,
        top_p=settings.top_p,
        seed=profile.seed,
        stop={"completion": suite.stop, "evalplus": EVALPLUS_STOP}.get(protocol, ()),
    )
    return Measurement(
        label=label(suite.name, protocol, settings),
        suite=suite,
        protocol=protocol,
        candidate=candidate,
        adapter=adapter,
        tasks=evenly_spaced(tasks, settings.num_problems),
        sampling=sampling,
        num_samples=settings.num_samples,
    )
