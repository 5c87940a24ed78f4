"""What SFT costs or gives: adapters trained on rows of several kinds (`benchmarks.sft_rows`), each beside the untouched
model, paired by problem.

Steps; those that take --share deal their work to several cards, one process a card, and skip what is there:

    python -m benchmarks.sft_arms train   --rows FOLDER --out OUT [--share 0/4] [--gpu] [--set KEY=VALUE]
    python -m benchmarks.sft_arms measure --out OUT [--share 0/4] [--gpu] --suite mbpp_tuning=FILE --suite ours
    python -m benchmarks.sft_arms choose  --out OUT
    python -m benchmarks.sft_arms confirm --out OUT [--share 0/4] [--gpu] --suite humaneval --suite tooluse=FOLDER
    python -m benchmarks.sft_arms pool    --out OUT
    python -m benchmarks.sft_arms pair    --out OUT --left base --right ARM,ARM [--measured measure] : means of seeds

Arms are those of ARMS, or given by --arm NAME:ROWS:KEY=VALUE+KEY=VALUE, where ROWS is a folder in that of --rows;
--only takes some. All of ARMS but one see as many tokens, and those that differ in rows alone train at the rate at
which harm shows. `measure` takes the base anew in each share, so that its own spread is seen. `choose` pools all
measurements by problem, of arms that were measured on all of them; the default is no SFT where no arm is above the base
with p < 0.05 by the sign test. `confirm` measures the best arm and today's recipe on suites that chose nothing, `pool`
says what its shares come to together. Each result is one JSON line, printed and kept in OUT. Limits: the best of
several arms is flattered by chance; one seed.
"""

import argparse
import gc
import itertools
import json
import time
import traceback
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from app.errors import UserError
from app.evaluation.measure import measure_candidate, plan_measurement
from app.evaluation.stage import BASE, against_base, measurement, read_result
from app.evaluation.statistics import Comparison, compare
from app.evaluation.suites.registry import NUM_PROBLEMS, get_suite
from app.evaluation.suites.suite import Suite
from app.files.json_files import read_json, write_json
from app.models.base import ensure_model, load_tokenizer
from app.overrides import with_overrides
from app.problem_sets.task import Task
from app.profiles import get_profile
from app.records import Generator
from app.runs import Run
from app.sandbox.local import LocalJudges
from app.sandbox.tiers import confinement
from app.settings import Profile
from benchmarks.tuning import rows, tune

AGAIN = "base again"
ALPHA = 0.05
ONE_PROTOCOL = ("tooluse", "search_docs", "repo")
"""Suites that are asked in a dialogue alone."""
LENGTH = {"tooluse": 0.3, "leetcode": 1.5}
"""How long a suite's answers are, as a multiple of the other suites'; cards share the work by it."""
SHARED = (
    "sft.epochs=100",
    "sft.max_steps=64",
    "sft.micro_batch=4",
    "sft.grad_accumulation=4",
    "sft.checkpoint_every=64",
)
"""Settings of all arms: about a million tokens in 64 steps of 16 rows of 1,024."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    rows: str
    settings: tuple[str, ...]


def _arm(rows: str, rate: str, *settings: str) -> Arm:
    return Arm(rows=rows, settings=(f"sft.learning_rate={rate}", *settings))


ARMS = {
    "default-2e-4": _arm("default", "2e-4"),
    "own-1e-4": _arm("own", "1e-4"),
    "no-bodies-2e-4": _arm("no-bodies", "2e-4"),
    "default-1e-5": _arm("default", "1e-5"),
    "own-replay-1e-4": _arm("own-replay", "1e-4"),
    "functions-only-2e-4": _arm("functions-only", "2e-4"),
    "default-5e-5": _arm("default", "5e-5"),
    "own-2e-5": _arm("own", "2e-5"),
    "no-plain-text-2e-4": _arm("no-plain-text", "2e-4"),
    "half-2e-4": _arm("default", "2e-4", "sft.max_steps=32"),
    "own-5e-5": _arm("own", "5e-5"),
    "no-tools-2e-4": _arm("no-tools", "2e-4"),
    "no-fill-in-2e-4": _arm("no-fill-in", "2e-4"),
    "replay-1e-4": _arm("replay", "1e-4"),
    "unverified-1e-4": _arm("unverified", "1e-4"),
    "own-2e-4": _arm("own", "2e-4"),
}
"""The first is today's recipe at today's rate. In an order in which each of several cards gets arms of all kinds."""


def train(arguments: argparse.Namespace) -> None:
    device = torch.device("cuda", 0) if arguments.gpu else torch.device("cpu")
    torch.set_float32_matmul_precision("high")
    for name, arm in own_arms(arguments):
        adapter = _adapter(arguments.out, name)
        if not adapter.exists():
            with _told(arguments, arm=name):
                profile = _profile(arguments, *SHARED, *arm.settings)
                adapter.parent.mkdir(parents=True, exist_ok=True)
                result = tune(profile, rows(arguments.rows / arm.rows), device, adapter.parent)
                _say(arguments, arm=name, rows=arm.rows, settings=arm.settings, **result)
        gc.collect()
        if arguments.gpu:
            torch.cuda.empty_cache()


def measure(arguments: argparse.Namespace) -> None:
    _measure(arguments, [name for name, _ in own_arms(arguments)], list(asked_of(arguments)))


def choose(arguments: argparse.Namespace) -> None:
    found = pooled(arguments.out, "measure")
    whole = max((comparison.num_problems for comparison in found.values()), default=0)
    arms = {n: c for n, c in found.items() if n != AGAIN and c.num_problems == whole}
    for name, comparison in found.items():
        _say(arguments, arm=name, **told_of(comparison), whole=comparison.num_problems == whole)
    if not arms:
        raise UserError(f"{arguments.out} holds no arm beside the base: run `train` and `measure` first")
    best = max(arms, key=lambda name: arms[name].difference)
    helps = arms[best].difference > 0 and arms[best].p_value < ALPHA
    chosen = {"best": best, "default": best if helps else "no SFT", "arms": {n: told_of(c) for n, c in arms.items()}}
    write_json(arguments.out / "chosen.json", chosen)
    _say(arguments, best=best, default=chosen["default"])


def confirm(arguments: argparse.Namespace) -> None:
    best = read_json(arguments.out / "chosen.json")["best"]
    _measure(
        arguments, list(dict.fromkeys((best, next(iter(ARMS))))), dealt(list(asked_of(arguments)), arguments.share)
    )


def pool(arguments: argparse.Namespace) -> None:
    """Say what all shares of `confirm` come to together: each measurement, then programs pooled."""
    for (label, name), (base, other) in sorted(_rates(arguments.out, "confirm").items()):
        if name != BASE and (found := compare(base, other)):
            _say(arguments, arm=name, suite=label, **told_of(found))
    for protocols in ("chat", "completion", "chat,completion"):
        for name, found in pooled(arguments.out, "confirm", protocols.split(",")).items():
            _say(arguments, arm=name, pooled=protocols, **told_of(found))


def pair(arguments: argparse.Namespace) -> None:
    """One arm against another, each the mean of several measured ones (the seeds of one arm), by problem: each suite in
    a dialogue, then programs pooled."""
    found: dict[str, dict[str, _Rates]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    sides = {"left": arguments.left.split(","), "right": arguments.right.split(",")}
    for (label, name), (_, rates) in sorted(_rates(arguments.out, arguments.measured).items()):
        suite, protocol, *_ = label.partition("#")[0].split("-")
        for side, names in sides.items():
            if name in names and protocol == "chat":
                for problem, rate in rates.items():
                    found[suite][side][problem].append(rate)
                    if suite not in ONE_PROTOCOL:
                        found["pooled"][side][f"{suite}: {problem}"].append(rate)
    for suite, both in found.items():
        means = [{k: sum(v) / len(v) for k, v in both[side].items()} for side in sides]
        if comparison := compare(*means):
            passed = {side: round(sum(mean.values()), 1) for side, mean in zip(sides, means, strict=True)}
            _say(arguments, suite=suite, **sides, passed=passed, **told_of(comparison))


def pooled(out: Path, step: str, protocols: Sequence[str] = ("chat", "completion")) -> dict[str, Comparison]:
    """Each arm against its shares' base over all problems with programs, a problem's rate being the mean over the
    protocols; AGAIN: the other shares' bases against the first one's."""
    sides: dict[str, tuple[_Rates, _Rates]] = defaultdict(lambda: (defaultdict(list), defaultdict(list)))
    first: dict[str, Mapping[str, float]] = {}
    for (label, name), (base, other) in sorted(_rates(out, step).items()):
        suite, protocol, *_ = label.partition("#")[0].split("-")
        if suite in ONE_PROTOCOL or protocol not in protocols:
            continue
        if name == BASE:
            key = label.partition("#")[0]
            base, other, name = first.setdefault(key, other), other, AGAIN
            if base is other:
                continue
        for side, rates in zip(sides[name], (base, other), strict=True):
            for problem, rate in rates.items():
                side[f"{suite}: {problem}"].append(rate)
    compared = {
        name: compare(*({k: sum(v) / len(v) for k, v in side.items()} for side in two)) for name, two in sides.items()
    }
    return {name: found for name, found in compared.items() if found}


_Rates = dict[str, list[float]]


def _rates(out: Path, step: str) -> dict[tuple[str, str], tuple[Mapping[str, float], Mapping[str, float]]]:
    """Pass rates of the base and of each candidate, by label#share and candidate."""
    found = {}
    for path in out.glob(f"{step}-*/evaluation/*/*/result.json"):
        base = path.parent.with_name(BASE) / path.name
        if base.exists():
            label = f"{path.parent.parent.name}#{path.parents[3].name}"
            found[label, path.parent.name] = (read_json(base)["pass_rates"], read_json(path)["pass_rates"])
    return found


def _measure(arguments: argparse.Namespace, arms: Sequence[str], asked: Sequence[tuple[str, str]]) -> None:
    """The base and the arms that are trained on each suite by each protocol."""
    adapters = {name: _adapter(arguments.out, name) for name in arms}
    candidates = {BASE: ""} | {name: str(path) for name, path in adapters.items() if path.exists()}
    profile = _profile(arguments)
    settings = profile.evaluation.model_copy(
        update={
            "max_new_tokens": arguments.new_tokens,
            "temperature": arguments.temperature,
            "top_p": 1.0,
            "num_problems": arguments.problems,
            "num_samples": arguments.samples,
        }
    )
    run = Run(arguments.out / f"{arguments.step.__name__}-{arguments.share[0]}")
    tokenizer, generator = load_tokenizer(ensure_model(profile.model)), engine_of(profile)
    suites: dict[str, tuple[Suite, list[Task]]] = {}
    with closing(LocalJudges(profile.sandbox, confinement())) as judges:
        for (candidate, adapter), (text, protocol) in itertools.product(candidates.items(), asked):
            with _told(arguments, arm=candidate, suite=text):
                name, _, path = text.partition("=")
                suite, tasks = suites.get(text) or suites.setdefault(text, _loaded(name, path))
                what = measurement(settings, profile, suite, protocol, candidate, adapter, tasks)
                start = time.perf_counter()
                measure_candidate(run, plan_measurement(run, what, {}, tokenizer), {}, tokenizer, generator, judges)
                found = read_result(run.suite_result(what.label, candidate))
                compared = against_base(run, what.label, candidate)
                told = {"passed": found.num_passed, "samples": found.num_samples, "replies": found.replies}
                told |= told_of(compared.comparison) if compared else {}
                _say(arguments, arm=candidate, suite=what.label, seconds=round(time.perf_counter() - start), **told)


def _loaded(name: str, path: str) -> tuple[Suite, list[Task]]:
    suite = get_suite(name)
    return suite, suite.load(Path(path) if path else None)


def engine_of(profile: Profile) -> Generator:
    if profile.generation.engine == "vllm":
        from app.generation.vllm_engine import VllmEngine

        return VllmEngine(profile.model, profile.generation)
    from app.generation.transformers_engine import TransformersEngine

    return TransformersEngine(profile.model, profile.generation)


def asked_of(arguments: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Each suite, with its file, by each protocol in which it can be asked."""
    for text in arguments.suite:
        for protocol in arguments.protocols.split(","):
            if protocol == "chat" or text.partition("=")[0] not in ONE_PROTOCOL:
                yield text, protocol


def dealt(asked: list[tuple[str, str]], share: tuple[int, int]) -> list[tuple[str, str]]:
    """This share's part of the measurements, which all take about as long: the longest first, to who has least."""

    def length(one: tuple[str, str]) -> float:
        name = one[0].partition("=")[0]
        return NUM_PROBLEMS[name] * LENGTH.get(name, 1)

    parts: list[list[tuple[str, str]]] = [[] for _ in range(share[1])]
    for one in sorted(asked, key=length, reverse=True):
        min(parts, key=lambda part: sum(map(length, part))).append(one)
    return parts[share[0]]


def own_arms(arguments: argparse.Namespace) -> list[tuple[str, Arm]]:
    arms = ARMS
    if arguments.arm:
        cut = [text.split(":", 2) for text in arguments.arm]
        arms = {name: Arm(rows=folder, settings=tuple(changes.split("+"))) for name, folder, changes in cut}
    names = [name for name in arms if name in (arguments.only or ",".join(arms)).split(",")]
    return [(name, arms[name]) for name in names[arguments.share[0] :: arguments.share[1]]]


def _adapter(out: Path, name: str) -> Path:
    return out / "adapters" / name / "adapter"


def _profile(arguments: argparse.Namespace, *settings: str) -> Profile:
    given = ["generation.engine=vllm", f"generation.use_gpu={str(arguments.gpu).lower()}"]
    if arguments.model:
        given += ["model.source=path", f"model.name={arguments.model}"]
    if arguments.gpu:
        given += ["model.dtype=bfloat16"]
    return with_overrides(get_profile("laptop"), ["sft.max_steps=null", *given, *settings, *arguments.overrides])


def told_of(found: Comparison) -> dict[str, Any]:
    """In points."""
    return {
        "problems": found.num_problems,
        "difference": round(100 * found.difference, 2),
        "interval_95": [round(100 * end, 2) for end in found.interval_95],
        "better_worse": [found.num_better, found.num_worse],
        "p": round(found.p_value, 4),
    }


@contextmanager
def _told(arguments: argparse.Namespace, **what: Any) -> Iterator[None]:
    """Say that a part failed, and go on with the others."""
    try:
        yield
    except Exception as error:
        traceback.print_exc()
        _say(arguments, **what, failed=f"{type(error).__name__}: {error}"[:300])


def _say(arguments: argparse.Namespace, **result: Any) -> None:
    line = json.dumps({"benchmark": "sft_arms", "step": arguments.step.__name__, **result})
    print(line, flush=True)
    with open(arguments.out / f"{arguments.step.__name__}-{arguments.share[0]}.jsonl", "a") as file:
        file.write(line + "\n")


def _share(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    return int(part), int(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    steps = parser.add_subparsers(required=True)
    for step in (train, measure, choose, confirm, pool, pair):
        one = steps.add_parser(step.__name__)
        one.add_argument("--out", type=Path, required=True)
        one.add_argument("--share", type=_share, default=(0, 1), metavar="PART/PARTS")
        one.set_defaults(step=step)
    for name in ("train", "measure", "confirm"):
        one = steps.choices[name]
        one.add_argument("--model", metavar="FOLDER", help="SmolLM2's package if left out")
        one.add_argument("--gpu", action="store_true")
        one.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    for name in ("train", "measure"):
        steps.choices[name].add_argument("--arm", action="append", metavar="NAME:ROWS:KEY=VALUE+KEY=VALUE")
        steps.choices[name].add_argument("--only", metavar="NAME,NAME")
    steps.choices["train"].add_argument("--rows", type=Path, required=True, metavar="FOLDER")
    for name in ("measure", "confirm"):
        one = steps.choices[name]
        one.add_argument("--suite", action="append", required=True, metavar="NAME[=FILE]")
        one.add_argument("--protocols", default="chat,completion")
        one.add_argument("--problems", type=int, help="of each suite, evenly spaced; all if left out")
        one.add_argument("--samples", type=int, default=1)
        one.add_argument("--temperature", type=float, default=0.0)
        one.add_argument("--new-tokens", type=int, default=640)
    for name in ("left", "right"):
        steps.choices["pair"].add_argument(f"--{name}", required=True, metavar="ARM,ARM")
    steps.choices["pair"].add_argument("--measured", default="measure", metavar="STEP", help="measure, hardened, ...")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    arguments.step(arguments)


if __name__ == "__main__":
    main()
