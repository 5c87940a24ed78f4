"""Self-reward on a card: solve rates of training problems, what is learnt from them, and what it was worth.

    python -m benchmarks.reward rates --problems FILE --out OUT --model FOLDER --gpu [--part 0 --parts 2]
    python -m benchmarks.reward grpo --problems FILE --out OUT --name NAME --model FOLDER --gpu --set grm.steps=40
    python -m benchmarks.reward distill --problems FILE --out OUT --name NAME --model FOLDER --teacher FOLDER --gpu
    python -m benchmarks.reward imitate --how rft|upft --problems FILE --out OUT --name NAME --model FOLDER --gpu
        [--rounds 2] [--set grm.imitate.learning_rate=5e-5]
    python -m benchmarks.sft_arms measure --out OUT --arm NAME:none:grm.steps=40 --suite ... : adapters under OUT

`rates` draws --drafts of each problem and keeps them judged, and the problems' rates in a small file beside; `imitate`
takes these drafts for its first round, and draws what is missing (with one round and grm.imitate.replay_share=0 nothing
is); `grpo` learns from the problems whose rate lies within --band (all, where OUT has no rates), `distill` what a
larger model says of its drafts of any of them. All three write OUT/adapters/NAME/adapter. All go on where they were
ended. --gpu: `grm` has its defaults, whatever the profile says. --cap 8: trainer and engine take turns on so much of
the card (`app.reward.turns`), in one process, where the engine is started first; the peak is read through NVML.
`benchmarks.reward_trl` is TRL's way beside `grpo`. Each prints one JSON line. FILE: what `app.reward.problems.store`
wrote.
"""

import argparse
import itertools
import json
import math
import statistics
import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from app.corpus.draws import bits
from app.files.json_files import read_json, write_json
from app.models.base import ensure_model, load_tokenizer
from app.models.config import config_of
from app.overrides import with_overrides
from app.profiles import get_profile
from app.records import Prompt, Sampling
from app.reward.by_reward.learning import learn
from app.reward.by_reward.outlets import Files
from app.reward.by_reward.validation import read_validations
from app.reward.by_reward.watch import StepFigures
from app.reward.drafts.asking import asked
from app.reward.drafts.drafting import judged_drafts, prompt_of
from app.reward.drafts.files import read_drafts
from app.reward.drafts.solve_rates import rates as rates_of
from app.reward.imitation.rounds import learn_by_imitation
from app.reward.imitation.training import imitate_in_files
from app.reward.problems.held_out import held_out as validated_by
from app.reward.problems.store import made_once, read
from app.reward.records import TrainingProblem
from app.reward.turns import engine_settings
from app.running.arm_paths import ArmPaths
from app.sandbox.apart import JudgesApart
from app.sandbox.tiers import confinement
from app.settings import Profile
from app.stage_settings.grm import GrmSettings
from app.training.memory import give_back
from benchmarks.card_memory import CardMemory, Watched, leave_room
from benchmarks.sft_arms import engine_of

ENDS = {"reward": "reward_mean", "teacher_kl": "teacher_kl", "entropy": "entropy", "tokens": "mean_tokens"}
"""Figures of which the first and the last are told, by their names there."""


def rates(arguments: argparse.Namespace) -> dict[str, Any]:
    profile = profile_of(arguments).for_drafts()
    tokenizer = load_tokenizer(ensure_model(profile.model))
    every = [one.problem for one in read(arguments.problems)]
    problems = [one for one in every if bits(one.given.id) % arguments.parts == arguments.part]
    prompts = [
        Prompt(id=one.given.id, text=prompt_of(tokenizer, one), samples=tuple(range(arguments.drafts)))
        for one in problems
    ]
    sampling = Sampling(max_new_tokens=profile.grm.max_new_tokens, temperature=profile.grm.temperature)
    path = arguments.out / f"rates-{arguments.part}.parquet"
    start, drawn = time.perf_counter(), list[float]()
    with closing(JudgesApart(profile.sandbox, confinement())) as judges:
        generator = engine_of(profile)
        generator.generate(prompts[:1], sampling)  # loads it
        loaded = time.perf_counter()
        judged = judged_drafts(
            path, problems, prompts, sampling, generator, judges, on_drawn=lambda: drawn.append(time.perf_counter())
        )
    found = rates_of(judged)
    write_json(path.with_suffix(".json"), {"drafts": arguments.drafts, "rates": found})
    solved = [passed / counted for passed, counted in found.values() if counted]
    seconds = (drawn or [time.perf_counter()])[0] - loaded
    return {
        "problems": len(problems),
        "drafts": len(judged),
        "tokens": sum(one.draft.num_tokens for one in judged),
        "load_s": round(loaded - start, 1),
        "draw_s": round(seconds, 1),
        "judged_s": round(time.perf_counter() - loaded, 1),
        "pass@1": round(sum(solved) / len(solved), 4),
        "any": round(sum(rate > 0 for rate in solved) / len(solved), 4),
    }


def grpo(arguments: argparse.Namespace) -> dict[str, Any]:
    profile = with_overrides(profile_of(arguments), ["grm.arm=grpo"]).for_drafts()
    problems = [one.problem for one in read(arguments.problems)]
    return learnt(arguments, profile, within_band(problems, arguments))


def distill(arguments: argparse.Namespace) -> dict[str, Any]:
    teacher = ["source=path", f"name={arguments.teacher}", f"dtype={'bfloat16' if arguments.gpu else 'float32'}"]
    given = ["grm.arm=distill", *(f"grm.distill.teacher.{one}" for one in teacher)]
    profile = with_overrides(profile_of(arguments), given).for_drafts()
    return learnt(arguments, profile, [one.problem for one in read(arguments.problems)])


def learnt(arguments: argparse.Namespace, profile: Profile, problems: list[TrainingProblem]) -> dict[str, Any]:
    """Train by `app.reward.by_reward.learning`, and say what came of it."""
    device = torch.device("cuda", 0) if arguments.gpu else torch.device("cpu")
    torch.set_float32_matmul_precision("high")
    card, start = CardMemory(), time.perf_counter()
    folder = arguments.out / "adapters" / arguments.name
    validating = made_once(folder / "problems", validated_by(profile.grm, problems), profile.sandbox, confinement())
    held_out = [one.problem for one in validating]
    with closing(JudgesApart(profile.sandbox, confinement())) as judges:
        engine: Any = (
            capped_engine(profile, card, arguments.cap) if arguments.cap else Watched(engine_of(profile), card)
        )
        loaded = time.perf_counter()
        outlet = Clocked(folder, profile.grm.updates_per_step)
        adapter = learn(
            folder,
            profile,
            problems,
            engine,
            judges,
            device,
            outlet,
            held_out=held_out,
            engine_sleeps=bool(arguments.cap and arguments.gpu),
        )
    engine.goes_on("the end")
    card.stop()
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [later - before for before, later in itertools.pairwise(outlet.ends)] or [math.nan]
    return {
        "name": arguments.name,
        "problems": len(problems),
        "steps": len(rows),
        **{f"{name}_{end}": value for name, key in ENDS.items() for end, value in ends_of([row[key] for row in rows])},
        "validation": {one.step: round(one.mean, 4) for one in read_validations(folder / "validation.jsonl")},
        "seconds": round(time.perf_counter() - start, 1),
        "engine_load_s": round(loaded - start, 1),
        "step_s": [round(one, 2) for one in steps],
        "steps_an_hour": round(3600 / statistics.median(steps), 1),
        "tokens_per_s": round(sum(row["num_tokens"] for row in rows[-len(steps) :]) / sum(steps), 1),
        "draft_tokens_per_s": round(
            sum(r["num_tokens"] for r in rows) / max(1e-9, sum(r["drafting_seconds"] for r in rows))
        ),
        "learnt_tokens_per_s": round(
            sum(r["learnt_tokens"] for r in rows) / max(1e-9, sum(r["training_seconds"] for r in rows))
        ),
        "peak_gib": max(engine.peaks.values()),
        "peaks_gib": engine.peaks,
        "adapter": str(adapter),
    }


class Clocked(Files):
    """Notes when each step ended: a step is all from there to the next end, checkpoint and hand-over included."""

    def __init__(self, folder: Path, updates_per_step: int) -> None:
        super().__init__(folder, updates_per_step)
        self.ends: list[float] = []

    def on_figures(self, figures: StepFigures) -> None:
        super().on_figures(figures)
        self.ends.append(time.perf_counter())


def capped_engine(profile: Profile, card: CardMemory, cap: float) -> Watched:
    """An engine that was awake before the trainer's weights are there, so that what it plans with is its own."""
    settings = engine_settings(profile, config_of(profile.model)[0])
    engine = Watched(engine_of(profile.model_copy(update={"generation": settings})), card)
    engine.generate([Prompt(id="warm-up", text="x")], Sampling(max_new_tokens=2))
    engine.sleep()
    if profile.sft.use_gpu:
        give_back()  # what the engine only held in store is not its own
        leave_room(card, cap)
    return engine


def ends_of(values: list[float | None]) -> list[tuple[str, float | None]]:
    """Means of the first and the last tenth of the steps."""
    tenth = max(1, len(values) // 10)
    parts = {"first": values[:tenth], "last": values[-tenth:]}
    known = {end: [one for one in part if one is not None] for end, part in parts.items()}
    return [(end, round(sum(part) / len(part), 4) if part else None) for end, part in known.items()]


def imitate(arguments: argparse.Namespace) -> dict[str, Any]:
    given = [f"grm.arm={arguments.how}", f"grm.imitate.rounds={arguments.rounds}"]
    profile = with_overrides(profile_of(arguments), [*given, *arguments.overrides]).for_drafts()
    device = torch.device("cuda", 0) if arguments.gpu else torch.device("cpu")
    torch.set_float32_matmul_precision("high")
    start, tokenizer = time.perf_counter(), load_tokenizer(ensure_model(profile.model))
    fitting = asked([one.problem for one in read(arguments.problems)], tokenizer, profile.grm)
    drafts = [one for path in sorted(arguments.out.glob("rates-*.parquet")) for one in read_drafts(path)]
    places = ArmPaths(arguments.out / "adapters" / arguments.name)
    with closing(JudgesApart(profile.sandbox, confinement())) as judges:
        rounds = learn_by_imitation(
            places,
            profile,
            fitting,
            engine_of(profile),
            judges,
            lambda at: imitate_in_files(at, profile, device),
            given=drafts,
        )
    return {
        "name": arguments.name,
        "how": arguments.how,
        "rounds": [asdict(one) for one in rounds],
        "seconds": round(time.perf_counter() - start, 1),
        "adapter": str(places.adapter),
    }


def within_band(problems: list[TrainingProblem], arguments: argparse.Namespace) -> list[TrainingProblem]:
    """Those whose solve rate is known and within the band; all, where no rates are known."""
    known: dict[str, float] = {}
    for path in sorted(arguments.out.glob("rates-*.json")):
        found = read_json(path)["rates"]
        known |= {name: passed / counted for name, (passed, counted) in found.items() if counted}
    if not known:
        return problems
    low, high = (float(end) for end in arguments.band.split(":"))
    return [one for one in problems if low < known.get(one.given.id, -1) < high]


def profile_of(arguments: argparse.Namespace) -> Profile:
    given = [f"generation.use_gpu={str(arguments.gpu).lower()}", f"sft.use_gpu={str(arguments.gpu).lower()}"]
    if arguments.model:
        given += ["model.source=path", f"model.name={arguments.model}"]
    profile = get_profile(arguments.profile)
    if arguments.gpu:  # a small machine's profile cuts most drafts, and draws few at once
        profile = profile.model_copy(update={"grm": GrmSettings()})
        given += ["generation.engine=vllm", "model.dtype=bfloat16", "generation.batch_size=512"]
    if cap := getattr(arguments, "cap", None):
        given += [f"sft.vram_gib={cap}", f"generation.vram_gib={cap}"]
    return with_overrides(profile, [*given, *arguments.overrides])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    steps = parser.add_subparsers(required=True)
    for step in (rates, imitate, grpo, distill):
        one = steps.add_parser(step.__name__)
        one.add_argument("--problems", type=Path, required=True)
        one.add_argument("--out", type=Path, required=True)
        one.add_argument("--model", help="folder of the base; the profile's own if left out")
        one.add_argument("--profile", default="laptop")
        one.add_argument("--gpu", action="store_true")
        one.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
        one.set_defaults(step=step)
    one = steps.choices["rates"]
    one.add_argument("--drafts", type=int, default=16)
    one.add_argument("--part", type=int, default=0)
    one.add_argument("--parts", type=int, default=1)
    for name in ("imitate", "grpo", "distill"):
        steps.choices[name].add_argument("--name", required=True)
    one = steps.choices["imitate"]
    one.add_argument("--how", choices=("rft", "upft"), default="rft")
    one.add_argument("--rounds", type=int, default=1, help="of rft")
    one = steps.choices["grpo"]
    one.add_argument("--band", default="0:0.9", metavar="ABOVE:BELOW")
    steps.choices["distill"].add_argument(
        "--teacher", required=True, help="folder of a larger model of the same tokens"
    )
    for name in ("grpo", "distill"):
        cap = "GiB of the card for trainer and engine together; they take turns"
        steps.choices[name].add_argument("--cap", type=float, help=cap)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    result = arguments.step(arguments)
    print(json.dumps({"benchmark": "reward", "step": arguments.step.__name__, **result}), flush=True)


if __name__ == "__main__":
    main()
