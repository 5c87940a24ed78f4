"""The command line: one sub-command a stage. Parses and validates first, imports the heavy modules after.

Standard output carries results only (with --json one JSON object), progress goes to standard error. Exit code 2 and one
sentence for a user's mistake.
"""

import argparse
import errno
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from app.errors import UserError

UNWRITABLE = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT)


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    try:
        COMMANDS[arguments.command](arguments)
    except KeyboardInterrupt:
        sys.exit(_fail("interrupted: go on with --resume", code=130))
    except Exception as error:  # a user's mistake may come back from a Ray worker, wrapped
        sentence = _sentence(error)
        if sentence is None:
            raise
        sys.exit(_fail(sentence))


def _sentence(error: BaseException | None) -> str | None:
    """What to tell the user, if a mistake of theirs lies at the bottom of this error; None for a bug."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        inner = _inner(error)
        if inner is None and isinstance(error, UserError | FloatingPointError):
            return str(error)
        if inner is None and isinstance(error, OSError) and error.errno in UNWRITABLE:
            place = error.filename or "the run directory"
            return f"{place} can't be written ({error.strerror}): free space or give another --run"
        error = inner
    return None


def _inner(error: BaseException) -> BaseException | None:
    """The error that this one wraps: Ray's task errors, Ray Train's worker failures, and Python's own causes."""
    failures = getattr(error, "worker_failures", None)
    if failures:
        return next(iter(failures.values()))
    if error.args and isinstance(error.args[0], BaseException):  # an actor that died in its constructor
        return error.args[0]
    return getattr(error, "cause", None) or error.__cause__


def _fail(sentence: str, code: int = 2) -> int:
    print(f"pocketcoder: {sentence}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m app", description="Train, measure and serve a small code model.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    profile = argparse.ArgumentParser(add_help=False)
    profile.add_argument("--profile", required=True, help="smoke, laptop, rtx3070 or workstation")
    profile.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="e.g. sft.max_steps=20"
    )
    run = argparse.ArgumentParser(add_help=False)
    run.add_argument("--run", required=True, type=Path, metavar="DIR", help="run directory")

    unsafe = argparse.ArgumentParser(add_help=False)
    unsafe.add_argument(
        "--unsafe", action="store_true", help="run programs even where they can't be confined; marks every score"
    )

    commands.add_parser("pull", parents=[profile], help="fetch the base weights")
    pipeline = commands.add_parser("pipeline", parents=[profile, unsafe], help="run all stages")
    pipeline.add_argument("--run", type=Path, metavar="DIR", help="run directory; left out, a new one under runs/")
    pipeline.add_argument("--resume", action="store_true", help="go on with a run that was interrupted")
    commands.add_parser("corpus", parents=[profile, run], help="build the training shards")
    commands.add_parser("sft", parents=[profile, run], help="train the adapter")
    evaluate = commands.add_parser("evaluate", parents=[unsafe], help="measure a run, or score given samples")
    evaluate.add_argument("--profile", help="profile of the run")
    evaluate.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    evaluate.add_argument("--run", type=Path, metavar="DIR", help="measure base and adapter of this run on HumanEval")
    evaluate.add_argument("--samples", type=Path, metavar="FILE.jsonl", help="score these samples instead")
    evaluate.add_argument("--suite", default="humaneval", help="suite of the samples: humaneval or mbpp")
    evaluate.add_argument("--problems", type=Path, metavar="FILE", help="the suite's file, where no package holds it")
    evaluate.add_argument("--full", action="store_true", help="all 164 problems in both protocols")
    evaluate.add_argument("--json", action="store_true", help="print the results as one JSON object")
    commands.add_parser("report", parents=[run], help="write report.md and report.html")
    sandbox = commands.add_parser("sandbox", parents=[unsafe], help="judge a catalogue of programs")
    sandbox.add_argument("--cases", required=True, type=Path, metavar="FILE.jsonl", help="lines of id, input, expected")
    sandbox.add_argument("--timeout", type=float, default=2.0, metavar="S", help="CPU seconds a program may use")
    sandbox.add_argument("--json", action="store_true", help="print the outcome as one JSON object")
    return parser


def _profile(arguments: argparse.Namespace) -> Any:
    from app.profiles import get_profile
    from app.settings import with_overrides

    return with_overrides(get_profile(arguments.profile), arguments.overrides)


def _pull(arguments: argparse.Namespace) -> None:
    profile = _profile(arguments)
    from app.corpus.sources import load_recipe
    from app.models import pull

    load_recipe(profile.corpus.recipe)
    print(f"base model {profile.model.name} is at {pull(profile.model)}")


def _pipeline(arguments: argparse.Namespace) -> None:
    from app.runs import new_run_dir, open_run

    profile = _profile(arguments)
    if arguments.resume and arguments.run is None:
        raise UserError("--resume needs --run DIR: name the run to go on with")
    folder = arguments.run or new_run_dir(profile)
    _check_inputs(profile)
    _check_confinement(arguments.unsafe)
    with open_run(folder, profile, resume=arguments.resume) as run:
        print(f"run directory {run.root}", file=sys.stderr)
        from app.pipeline import run_pipeline

        run_pipeline(run, profile, unsafe=arguments.unsafe)
        print(f"report: {run.report_html}")


def _stage(arguments: argparse.Namespace) -> None:
    from app.runs import open_run

    profile = _profile(arguments)
    _check_inputs(profile)
    with open_run(arguments.run, profile, resume=True) as run:
        from app import pipeline

        getattr(pipeline, arguments.command)(run, profile)
        print(f"{arguments.command}: {run.corpus if arguments.command == 'corpus' else run.sft}")


def _evaluate(arguments: argparse.Namespace) -> None:
    if arguments.samples is not None:
        _score(arguments)
    else:
        _measure(arguments)


def _measure(arguments: argparse.Namespace) -> None:
    from app.runs import open_run

    if arguments.profile is None or arguments.run is None:
        raise UserError("evaluate needs --profile P and --run DIR to measure a run, or --samples FILE.jsonl to score")
    profile = _profile(arguments)
    _check_confinement(arguments.unsafe)
    with open_run(arguments.run, profile, resume=True) as run:
        from app.pipeline import evaluate

        results = evaluate(run, profile, full_suite=arguments.full, unsafe=arguments.unsafe)
        if arguments.json:
            print(json.dumps({"run": str(run.root), "results": [asdict(result) for result in results]}))
        else:
            print(f"evaluation: {run.evaluation}")


def _score(arguments: argparse.Namespace) -> None:
    from contextlib import closing

    from app.evaluation.scoring import read_samples, score
    from app.evaluation.suites import load_suite
    from app.sandbox.local import LocalJudges
    from app.sandbox.tiers import confinement
    from app.settings import SandboxSettings

    tasks = load_suite(arguments.suite, arguments.problems)
    programs = read_samples(arguments.samples, tasks)
    with closing(LocalJudges(SandboxSettings(), confinement(unsafe=arguments.unsafe))) as judges:
        result = score(arguments.suite, tasks, programs, judges)
    if arguments.json:
        print(json.dumps(result))
        return
    low, high = result["pass@1_interval_95"]
    print(
        f"{arguments.suite}: {result['passed']} of {result['samples']} samples of {result['problems']} problems "
        f"passed, pass@1 {100 * result['pass@1']:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f}), "
        f"tier {result['tier']}"
    )


def _report(arguments: argparse.Namespace) -> None:
    from app.report import write_report
    from app.runs import Run

    run = Run(arguments.run.resolve())
    write_report(run)
    print(f"report: {run.report_html}")


def _sandbox(arguments: argparse.Namespace) -> None:
    from app.sandbox.catalogue import read_cases, run_catalogue
    from app.sandbox.tiers import confinement
    from app.settings import SandboxSettings, parse_settings

    cases = read_cases(arguments.cases)
    settings = parse_settings(SandboxSettings, {"timeout_s": arguments.timeout}, "--timeout")
    outcome = run_catalogue(cases, settings, confinement(unsafe=arguments.unsafe))
    if arguments.json:
        print(json.dumps(outcome))
        return
    for row in outcome["differing"]:
        print(f"{row['id']}: {row['verdict']}, expected {' or '.join(row['expected'])}: {row['detail']}")
    print(f"sandbox: {outcome['as_expected']} of {outcome['total']} cases as expected, tier {outcome['tier']}")


def _check_confinement(unsafe: bool) -> None:
    """Long before a program is run: a machine that can't confine one says so now."""
    from app.sandbox.tiers import confinement

    confinement(unsafe=unsafe)


def _check_inputs(profile: Any) -> None:
    """What can be found wrong before a run directory is made or Ray is started."""
    from app.corpus.sources import load_recipe

    load_recipe(profile.corpus.recipe)


COMMANDS = {
    "pull": _pull,
    "pipeline": _pipeline,
    "corpus": _stage,
    "sft": _stage,
    "evaluate": _evaluate,
    "report": _report,
    "sandbox": _sandbox,
}
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
