"""The command `evaluate`: measure a run or any model, score given samples, show a prompt, or look for contamination."""

import argparse
import hashlib
import json
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.errors import UserError, did_you_mean
from app.files.user_files import user_path
from app.overrides import with_overrides
from app.profiles import get_profile, profile_of_machine
from app.progress import say
from app.running.run_settings import chosen_profile, stored_profile
from app.runs import Run, left_out, open_run, runs_root
from app.settings import EvaluationSettings, ModelSettings, Profile

if TYPE_CHECKING:
    from app.evaluation.measurement import Engines

MAX_BEST_OF = 64
FREE = ("evaluation", "generation", "sandbox")
"""Groups of settings that an evaluation may choose anew for its measurements, without changing the run's."""


def evaluate(arguments: argparse.Namespace, engines: "Engines") -> None:
    """engines: what starts the generator and the judges, where anything is measured."""
    _check_combination(arguments)
    if arguments.samples:
        return _score(arguments)
    identity, profile = _profiles(arguments)
    from app.evaluation.stage import check

    check(profile.evaluation)
    if arguments.show_prompt:
        return _show_prompt(profile, arguments.show_prompt)
    with open_run(_folder(arguments), identity, resume=True) as run:
        from app.evaluation.best_of_score import read_scores, say_scores
        from app.evaluation.measurement import contamination, measure_candidates

        if arguments.contamination:
            found = contamination(run, profile)
            return print(json.dumps(found) if arguments.json else _contamination_text(found))
        candidates = _candidates(arguments, run)
        results, comparisons = measure_candidates(run, profile, candidates, engines, unsafe=arguments.unsafe)
        systems = read_scores(run, profile.evaluation, candidates)
        say_scores(systems)
        if arguments.json:
            shown = {"results": [asdict(r) for r in results], "comparisons": [asdict(c) for c in comparisons]}
            shown |= {"best_of": [asdict(one) for one in systems]} if systems else {}
            return print(json.dumps({"run": str(run.root)} | shown))
        return print(f"evaluation: {run.evaluation}")


def _check_combination(arguments: argparse.Namespace) -> None:
    given = [f"--{name}" for name in ("run", "model", "samples") if getattr(arguments, name) is not None]
    others = [option for option in ("adapter", "show_prompt", "best_of") if getattr(arguments, option)]
    if "--samples" in given and (given != ["--samples"] or others):
        more = [f"--{option.replace('_', '-')}" for option in others]
        raise UserError(f"{' and '.join([*given, *more])} can't go together: --samples needs no model")
    if arguments.against and not arguments.samples:
        raise UserError("--against FILE needs --samples FILE: it names the samples to compare with")
    if arguments.contamination and given != ["--run"]:
        raise UserError("--contamination needs --run DIR: a run's training data is looked through")
    if not given and not (arguments.show_prompt and arguments.profile):
        raise UserError("evaluate needs --run DIR or --model NAME_OR_PATH to measure, or --samples FILE.jsonl to score")


def _profiles(arguments: argparse.Namespace) -> tuple[Profile, Profile]:
    """What the run directory must hold, and the same with this evaluation's own settings."""
    name, is_there = arguments.profile, arguments.run is not None and stored_profile(arguments.run) is not None
    if arguments.model is not None and not is_there:
        name = name or profile_of_machine()
    base = chosen_profile(arguments.run, name)
    if arguments.model is not None:
        base = base.model_copy(update={"model": _model(arguments.model, base.model)})
    free = [text for text in arguments.overrides if text.partition(".")[0] in FREE]
    identity = with_overrides(base, [text for text in arguments.overrides if text not in free])
    profile = with_overrides(identity, free)
    return identity, profile.model_copy(update={"evaluation": _evaluation(arguments, profile.evaluation)})


def _model(name: str, like: ModelSettings) -> ModelSettings:
    """Where a model of this name comes from."""
    source = "path" if user_path(name).is_dir() else "package" if name.startswith("SmolLM2-135M") else "hub"
    if source == "hub" and name.endswith(".gguf"):
        source = "gguf"
    if source == "hub" and name.startswith((".", "/", "~")):
        raise UserError(
            f"--model {name} does not exist: give a model's folder, a GGUF file or its name on the Hugging Face Hub"
        )
    return like.model_copy(update={"source": source, "name": name, "revision": None, "quantization": "none"})


def _evaluation(arguments: argparse.Namespace, settings: EvaluationSettings) -> EvaluationSettings:
    from app.evaluation.stage import full

    if arguments.suite is not None:
        settings = settings.model_copy(update={"suites": tuple(arguments.suite.split(","))})
    if arguments.best_of is not None:
        settings = settings.model_copy(update={"best_of": _best_of(arguments.best_of)})
    if arguments.problems:
        settings = settings.model_copy(update={"problems": (*settings.problems, *_named(arguments, settings))})
    return full(settings) if arguments.full else settings


def _best_of(number: int) -> int:
    if not 2 <= number <= MAX_BEST_OF:
        raise UserError(f"--best-of {number} is no choice: give 2 to {MAX_BEST_OF} drafts")
    return number


def _named(arguments: argparse.Namespace, settings: EvaluationSettings) -> list[str]:
    """--problems PATH may leave out its suite when there is only one."""
    only = settings.suites[0] if len(settings.suites) == 1 else ""
    texts = []
    for text in arguments.problems:
        if "=" not in text and not only:
            raise UserError(f"--problems {text} does not say whose: write SUITE=PATH, for example mbpp={text}")
        texts.append(text if "=" in text else f"{only}={text}")
    return texts


def _folder(arguments: argparse.Namespace) -> Path:
    return arguments.run or runs_root() / f"evaluate-{Path(arguments.model).name}"


def _candidates(arguments: argparse.Namespace, run: Run) -> dict[str, str]:
    """Adapters by candidate's name; the untouched model is always beside them."""
    from app.evaluation.stage import BASE, EVOLVE, GRM, SFT

    if arguments.model and arguments.adapter is None:
        return {BASE: ""}
    if arguments.adapter is None:
        trained = {stage: str(folder) for stage, folder in run.trained().items()}
        wanted = {} if trained or SFT in left_out(run) else {SFT: str(run.sft_adapter)}
        return {BASE: "", **trained, **wanted}
    folder = arguments.adapter.resolve()
    if stage := {run.sft_adapter: SFT, run.grm_adapter: GRM, run.evolve_adapter: EVOLVE}.get(folder):
        return {BASE: "", stage: str(folder)}
    return {BASE: "", f"{folder.name}-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}": str(folder)}


def _show_prompt(profile: Profile, problem_id: str) -> None:
    from app.evaluation.measure import render
    from app.evaluation.stage import problem_paths
    from app.evaluation.suites.registry import get_suite
    from app.models.base import ensure_model, load_tokenizer

    tokenizer = load_tokenizer(ensure_model(profile.model))
    names: list[str] = []
    for name in profile.evaluation.suites:
        suite = get_suite(name)
        problems = [task.problem for task in suite.load(problem_paths(profile.evaluation).get(name))]
        for problem in problems:
            if problem.id == problem_id:
                for protocol in profile.evaluation.protocols:
                    say(f"{name}, protocol {protocol}:")
                    print(render(tokenizer, suite, problem, protocol, ()))
                return
        names += [problem.id for problem in problems]
    hint = did_you_mean(problem_id, names, f"the first one is {names[0]!r}")
    raise UserError(f"{', '.join(profile.evaluation.suites)} has no problem {problem_id!r}: {hint}")


def _score(arguments: argparse.Namespace) -> None:
    from app.evaluation import scoring
    from app.evaluation.stage import check, describe, problem_paths
    from app.evaluation.statistics import compare
    from app.evaluation.suites.registry import get_suite
    from app.sandbox.local import LocalJudges
    from app.sandbox.tiers import confinement

    strange = [text for text in arguments.overrides if text.partition(".")[0] not in ("evaluation", "sandbox")]
    if strange:
        raise UserError(f"--set {strange[0]} changes nothing about given samples: only evaluation.* and sandbox.* do")
    profile = with_overrides(get_profile(arguments.profile or "laptop"), arguments.overrides)
    settings = _evaluation(arguments, profile.evaluation)
    check(settings)
    if len(settings.suites) > 1:
        raise UserError(f"--suite {arguments.suite} names several: the samples of a file belong to one suite")
    suite = get_suite(settings.suites[0])
    tasks = suite.load(problem_paths(settings).get(suite.name))
    with ExitStack() as opened:
        paths = filter(None, (arguments.samples, arguments.against))
        files = [opened.enter_context(closing(scoring.Samples(path, suite, tasks))) for path in paths]
        judges = opened.enter_context(closing(LocalJudges(profile.sandbox, confinement(unsafe=arguments.unsafe))))
        scored = [scoring.score(suite, tasks, samples, judges) for samples in files]
    shown = scoring.as_json(scored[0][0], files[0].num_missing)
    if arguments.against:
        compared = compare(scored[1][1], scored[0][1])
        if compared is None:
            raise UserError(f"{arguments.samples} and {arguments.against} have no problem in common: nothing compares")
        shown["comparison"] = asdict(compared)
    if arguments.json:
        return print(json.dumps(shown))
    print(describe(scored[0][0]) + f", tier {shown['tier']}")
    if arguments.against:
        print(comparison_text(shown["comparison"]))
    return None


def comparison_text(compared: dict[str, Any]) -> str:
    low, high = compared["interval_95"]
    return (
        f"difference {100 * compared['difference']:+.1f} points (95 %: {100 * low:+.1f} to {100 * high:+.1f}) over "
        f"{compared['num_problems']} problems: {compared['num_better']} better, {compared['num_worse']} worse, exact "
        f"sign test p = {compared['p_value']:.2g}; {_power(compared['detectable'])}"
    )


def _power(detectable: float | None) -> str:
    if detectable is None:
        return "so few problems can show no difference"
    return f"a true difference under {100 * detectable:.1f} points would be missed more often than one time in five"


def _contamination_text(found: dict[str, Any]) -> str:
    lines = [
        f"{suite}: longest overlap {summary['longest_words']} words ({summary['longest_in']}), "
        f"{summary['problems_with_10_words']} of {summary['problems']} problems share 10 words or more: "
        f"{summary['each']}" + (f"; {summary['unguarded']}" if summary["unguarded"] else "")
        for suite, summary in found.items()
    ]
    return "\n".join(lines)
