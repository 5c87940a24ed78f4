"""The command line: one sub-command a stage. Parses and validates first, imports the heavy modules after.

Standard output carries results only (with --json one JSON object), progress goes to standard error. Exit code 2 and one
sentence for a user's mistake.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.cluster.signals import interrupt_by_sigterm
from app.connect.command import add_connect_arguments, connect
from app.docsearch.command import add_docsearch_arguments, docsearch
from app.errors import UserError, causes
from app.evaluation.arguments import add_arguments
from app.export.command import add_export_arguments, export
from app.files.user_files import user_path
from app.sandbox.command import add_sandbox_arguments, sandbox


def main(argv: Sequence[str] | None = None) -> None:
    try:
        arguments = _parser().parse_args(argv)
        interrupt_by_sigterm()
        COMMANDS[arguments.command](arguments)
    except KeyboardInterrupt:
        sys.exit(_fail("interrupted: give the same command again to go on (`pipeline` with --resume)", code=130))
    except Exception as error:  # a user's mistake may come back from a Ray worker, wrapped
        sentence = _sentence(error)
        if sentence is None:
            raise
        sys.exit(_fail(sentence))


def _sentence(error: BaseException) -> str | None:
    """What to tell the user, if a mistake of theirs or a loss lies at the bottom of this error; None for a bug."""
    *_, bottom = causes(error)
    if isinstance(bottom, UserError | FloatingPointError):
        return str(bottom)
    from app.cluster import watch
    from app.files import errors

    return errors.sentence_of(bottom) if isinstance(bottom, OSError) else watch.sentence_of(bottom)


def _fail(sentence: str, code: int = 2) -> int:
    print(f"pocketcoder: {sentence}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m app", description="Train, measure and serve a small code model.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    profile = argparse.ArgumentParser(add_help=False)
    profile.add_argument("--profile", help="smoke, laptop, rtx3070 or workstation; left out, the run's own")
    profile.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="e.g. sft.max_steps=20"
    )
    run = argparse.ArgumentParser(add_help=False)
    run.add_argument("--run", required=True, type=user_path, metavar="DIR", help="run directory")

    unsafe = argparse.ArgumentParser(add_help=False)
    unsafe.add_argument("--unsafe", action="store_true", help="run programs unconfined if need be; marks every score")

    pull = commands.add_parser("pull", parents=[profile], help="fetch the base weights, and what self-reward needs")
    pull.add_argument("--run", type=user_path, metavar="DIR", help="fetch those of this run")
    plan = commands.add_parser("plan", parents=[profile], help="what each phase takes of card, memory, disk and days")
    plan.add_argument("--run", type=user_path, metavar="DIR", help="plan with this run's corpus")
    plan.add_argument("--calibrate", action="store_true", help="measure this machine's speed first, and keep it")
    plan.add_argument("--json", action="store_true", help="print the plan as one JSON object")
    pipeline = commands.add_parser("pipeline", parents=[profile, unsafe], help="run all stages")
    pipeline.add_argument("--run", type=user_path, metavar="DIR", help="run directory; left out, a new one under runs/")
    pipeline.add_argument("--resume", action="store_true", help="go on with a run that was interrupted")
    pipeline.add_argument("--keep-anyway", action="store_true", help="keep what was trained, whatever validation says")
    corpus = commands.add_parser("corpus", parents=[profile, unsafe], help="build the training shards")
    corpus.add_argument("--run", type=user_path, metavar="DIR", help="run directory; needed unless --check")
    corpus.add_argument("--check", action="store_true", help="tell what the recipe needs and what is wrong with it")
    commands.add_parser("sft", parents=[profile, run], help="train the adapter")
    commands.add_parser("grm", parents=[profile, run], help="let the model learn from its own drafts, judged by tests")
    commands.add_parser("evolve", parents=[profile, run], help="let a population learn so, and keep the best of it")
    truncate = commands.add_parser("truncate", help="make a smaller adapter, by singular values")
    truncate.add_argument("--adapter", required=True, type=user_path, metavar="DIR", help="PEFT folder")
    truncate.add_argument("--rank", required=True, type=int, metavar="R", help="of the adapter that is made")
    truncate.add_argument("--out", type=user_path, metavar="DIR", help="its folder; left out, beside the other")
    add_arguments(commands.add_parser("evaluate", parents=[unsafe], help="measure a model, or score given samples"))
    which = commands.add_parser("report", help="write report.html").add_mutually_exclusive_group(required=True)
    which.add_argument("--run", type=user_path, metavar="DIR", help="run directory")
    which.add_argument("--tune", type=user_path, metavar="DIR", help="folder of a Tune experiment, alone")
    status = commands.add_parser("status", parents=[run], help="what a run is doing, and what is left by the plan")
    status.add_argument("--json", action="store_true", help="print it as one JSON object")
    _add_serve(commands.add_parser("serve", help="serve the model and a run's adapters, with a page to talk to them"))
    keys = commands.add_parser("keys", help="API keys of the server: add NAME, list, limit NAME, remove NAME")
    keys.add_argument("action", choices=("add", "list", "limit", "remove"))
    keys.add_argument("name", nargs="?", help="whose key; letters, digits, - and _")
    for rate in ("requests", "tokens"):
        keys.add_argument(
            f"--{rate}-per-minute", type=int, metavar="N", help="of this key alone; 0: as many as it likes"
        )
    add_sandbox_arguments(commands.add_parser("sandbox", parents=[unsafe], help="judge a catalogue of programs"))
    docs = commands.add_parser("docsearch", parents=[profile], help="search the documentation, or try the guard of it")
    add_docsearch_arguments(docs)
    add_connect_arguments(commands.add_parser("connect", help="settings of an editor or agent for the running server"))
    add_export_arguments(commands.add_parser("export", parents=[run], help="write the model to take it away"))
    return parser


def _add_serve(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--profile", help="left out, the one of this machine")
    add("--config", type=user_path, metavar="FILE", help="left out, serve_configs/<profile>.yaml")
    add("--run", metavar="DIR", help="whose adapters; latest (finished last, if left out) or none: the base alone")
    add("--host", help="to listen on, if not the config's; 0.0.0.0 for a container")
    add("--port", type=int, help="of the page and the API, if not the config's")
    add("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="serving.timeout_s=60")


def _profile(arguments: argparse.Namespace) -> Any:
    from app.corpus.recipe_files import from_anywhere
    from app.overrides import with_overrides
    from app.running.run_settings import chosen_profile

    return from_anywhere(with_overrides(chosen_profile(arguments.run, arguments.profile), arguments.overrides))


def _pull(arguments: argparse.Namespace) -> None:
    profile = _profile(arguments)
    from app.corpus.recipe_files import load_recipe
    from app.models.base import load_tokenizer, pull
    from app.planning.reward_models import models_beside
    from app.prompting.turn_ends import is_taught_to_answer

    load_recipe(profile.corpus)
    others = models_beside(profile.grm)
    base = pull(profile.model)
    print(f"base model {profile.model.name} is at {base}")
    if others and profile.grm.when == "auto" and not is_taught_to_answer(load_tokenizer(base)):
        others = {}  # the pipeline leaves self-reward out
    for setting, model in others.items():
        print(f"{setting} {model.name} is at {pull(model)}")


def _plan(arguments: argparse.Namespace) -> None:
    profile = _profile(arguments)
    from app.planning.text import plan_command

    plan_command(arguments, profile)


def _pipeline(arguments: argparse.Namespace) -> None:
    from app.runs import new_run_dir, open_run

    profile = _profile(arguments)
    if arguments.resume and arguments.run is None:
        raise UserError("--resume needs --run DIR: name the run to go on with")
    folder = arguments.run or new_run_dir(profile)
    _check_inputs(profile)
    _check_problems(folder, profile, [stage for stage in ("grm", "evolve") if getattr(profile, stage).when != "never"])
    _check_confinement(arguments.unsafe)
    with open_run(folder, profile, resume=arguments.resume) as run:
        print(f"run directory {run.root}", file=sys.stderr)
        from app.pipeline import run_pipeline

        run_pipeline(run, profile, keep_anyway=arguments.keep_anyway, unsafe=arguments.unsafe)
        print(f"report: {run.report_html}")


def _stage(arguments: argparse.Namespace) -> None:
    from app.runs import open_run

    profile = _profile(arguments)
    _check_inputs(profile)
    if arguments.command in ("grm", "evolve"):
        _check_problems(arguments.run, profile, [arguments.command])
    with open_run(arguments.run, profile, resume=True) as run:
        from app import stages

        work, place = {
            "corpus": (lambda: stages.corpus(run, profile, unsafe=arguments.unsafe, by_itself=True), run.corpus),
            "sft": (lambda: stages.sft(run, profile), run.sft),
            "grm": (lambda: stages.grm(run, profile), run.grm),
            "evolve": (lambda: stages.evolve(run, profile), run.evolve),
        }[arguments.command]
        work()
        print(f"{arguments.command}: {place}")


def _corpus(arguments: argparse.Namespace) -> None:
    if not arguments.check:
        if arguments.run is None:
            raise UserError("corpus needs --run DIR: name the run directory, or ask with --check")
        _check_confinement(arguments.unsafe)
        return _stage(arguments)
    from app.corpus.recipe_check import check_recipe, network_needs
    from app.corpus.recipe_files import load_recipe
    from app.profiles import profile_of_machine

    if arguments.run is None:
        arguments.profile = arguments.profile or profile_of_machine()
    profile = _profile(arguments)
    settings = profile.corpus
    recipe = load_recipe(settings)
    for need in network_needs(recipe):
        print(need)
    if problems := check_recipe(recipe, profile.seed):
        raise UserError(f"recipe {settings.recipe!r} can't be built: {'; '.join(problems)}")
    print(f"recipe {recipe.name} can be built: {settings.recipe}")
    return None


def _by_drafts(arguments: argparse.Namespace) -> None:
    _check_confinement(unsafe=False)  # an unconfined program earns no reward, so --unsafe would be of no use
    _stage(arguments)


def _evaluate(arguments: argparse.Namespace) -> None:
    from app.evaluation.command import evaluate

    if not (arguments.show_prompt or arguments.contamination):
        _check_confinement(arguments.unsafe)
    evaluate(arguments, _engines)


def _engines(profile: Any, unsafe: bool) -> Any:
    from app.stages import generator_and_judges

    return generator_and_judges(profile, unsafe)


def _truncate(arguments: argparse.Namespace) -> None:
    from app.models.adapter_ranks import truncate_command

    print(truncate_command(arguments.adapter, arguments.rank, arguments.out))


def _report(arguments: argparse.Namespace) -> None:
    from app.report import write_report, write_tune_report
    from app.runs import Run

    run, tune = arguments.run, arguments.tune
    print(f"report: {write_tune_report(tune.resolve()) if tune else write_report(Run(run.resolve()))}")


def _status(arguments: argparse.Namespace) -> None:
    from app.planning.of_run import print_status

    print_status(arguments.run, as_json=arguments.json)


def _serve(arguments: argparse.Namespace) -> None:
    from app.serving.command import serve

    serve(arguments)


def _keys(arguments: argparse.Namespace) -> None:
    from app.serving.keys import RATES, keys_command

    given = {rate: getattr(arguments, rate) for rate in RATES}
    keys_command(arguments.action, arguments.name, {rate: value for rate, value in given.items() if value is not None})


def _check_confinement(unsafe: bool) -> None:
    """Long before a program is run: a machine that can't confine one says so now."""
    from app.sandbox.tiers import confinement

    confinement(unsafe=unsafe)


def _check_inputs(profile: Any) -> None:
    """What can be found wrong before a run directory is made or Ray is started."""
    from app.corpus.recipe_files import load_recipe

    load_recipe(profile.corpus)


def _check_problems(folder: Path, profile: Any, stages: Sequence[str]) -> None:
    """Refuse problems that these stages can't learn from, of the sources that are on this machine."""
    from app.reward.problems.early import check, check_evolution
    from app.runs import Run

    run = Run(folder)
    if "grm" in stages and not run.grm_meta.exists():
        check(profile.grm, fetches=False)
    if "evolve" in stages and not run.evolve_meta.exists():
        check_evolution(profile.evolve, profile.grm, fetches=False)


COMMANDS = {
    "pull": _pull,
    "plan": _plan,
    "pipeline": _pipeline,
    "corpus": _corpus,
    "sft": _stage,
    "grm": _by_drafts,
    "evolve": _by_drafts,
    "truncate": _truncate,
    "evaluate": _evaluate,
    "report": _report,
    "status": _status,
    "serve": _serve,
    "keys": _keys,
    "sandbox": sandbox,
    "docsearch": docsearch,
    "connect": connect,
    "export": export,
}
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
