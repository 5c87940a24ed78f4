"""Evolution beside one long training of as many tokens, on a real model: which adapter each of them leaves, and at what
cost.

    python -m benchmarks.evolution_arms --arm population|pool|one --problems FILE --rates FILE --out OUT --name NAME
        --model FOLDER --gpu [--tokens 9500000] [--set seed=1 --set evolve.slots=4]
    python -m benchmarks.sft_arms measure --out OUT --arm NAME:none:grm.steps=1 --suite ... : adapters under OUT

    population  a rung of three rates, a trunk, 4 individuals in 3 generations, an imitation of their pool in each
    pool        one individual in 3 generations, an imitation of its own pool in each
    one         one individual, nothing else

The stage's own code on a local Ray (`app.evolution.stage.populate`, `tune_spaces.experiment`), but for problems and
solve rates, which are given: FILEs of `app.reward.problems.store` and of `benchmarks.reward rates`
(benchmarks/solve_rates.json has those of Qwen2.5-Coder-0.5B-Instruct). `evolve.*` is what that has by itself, whatever
the profile says, and --set grm.problems=[...] names the sources of FILE. --tokens: of all
that is drawn or learnt, for rung and trunk, by individuals, for selection and in imitations. How much selection and
imitations take is known only when they have, so it is a plan; what was spent is told. One JSON line an arm: seconds by
what they went to, of the whole and of all individuals together, of which the overhead follows where one trains at a
time: what the whole took beyond drafting, judging, training and measuring. Goes on where it was ended; the seconds are
then those of the last part.
"""

import argparse
import json
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from app.cluster.session import connected
from app.errors import UserError
from app.evolution.curriculum import source_weights
from app.evolution.history import all_lived, read_boundaries
from app.evolution.records import Lived
from app.evolution.ruler import ruler_of
from app.evolution.stage import of_individuals, populate, state_of
from app.evolution.trial import Surroundings
from app.files.json_files import read_json
from app.models.base import ensure_model, load_tokenizer
from app.overrides import with_overrides
from app.reward.drafts.asking import asked
from app.reward.preparing import facts_of, hardened
from app.reward.problems.held_out import to_measure_by
from app.reward.problems.store import read
from app.runs import Run
from app.settings import Profile
from app.stage_settings.evolve import EvolveSettings
from app.stages import generator_and_judges
from app.training.ray_train import replace_folder
from app.training.state import ADAPTER
from benchmarks.reward import profile_of
from tune_spaces.alpha_evolve import default_genome
from tune_spaces.experiment import evolve_on_ray, num_cards
from tune_spaces.gpu_slots import slots_for

GENERATIONS, INDIVIDUALS = 3, 4
SHARES = {
    "population": {"generation": 0.05, "trunk": 0.12, "rung": 0.02},
    "pool": {"generation": 0.93 / GENERATIONS},
    "one": {"generation": 0.99 / GENERATIONS},
}
"""Of all tokens: one individual's in a generation, the trunk's, one rate's of the rung. Selection and imitations have
the rest."""


def profile_for(arguments: argparse.Namespace) -> Profile:
    """The profile of an arm: it begins with the base, and a kind of tokens for which it has no share is left out."""
    shares = {kind: round(share * arguments.tokens) for kind, share in SHARES[arguments.arm].items()}
    given = [
        "evolve.start=base",
        f"evolve.generations={GENERATIONS}",
        f"evolve.population={INDIVIDUALS if arguments.arm == 'population' else 1}",
        f"evolve.imitation={str(arguments.arm != 'one').lower()}",
        f"evolve.generation_tokens={shares['generation']}",
        f"evolve.trunk_tokens={shares.get('trunk', 0)}",
        f"evolve.rung_tokens={shares.get('rung', 1)}",
    ]
    profile = profile_of(arguments).model_copy(update={"evolve": EvolveSettings()})  # a small machine's measures little
    return of_individuals(with_overrides(profile, [*given, *arguments.overrides])).for_drafts()


def evolved(arguments: argparse.Namespace) -> dict[str, Any]:
    profile = profile_for(arguments)
    run, tokenizer = Run(arguments.out / "runs" / arguments.name), load_tokenizer(ensure_model(profile.model))
    run.root.mkdir(parents=True, exist_ok=True)
    problems = [one.problem for one in read(arguments.problems)]
    if others := {one.given.source for one in problems} - source_weights(default_genome(profile.grm).mixture).keys():
        raise UserError(f"{arguments.problems} has problems of {', '.join(sorted(others))}: name them by grm.problems")
    measuring = hardened(
        arguments.out / "validation", profile, to_measure_by(profile.evolve, profile.grm, problems), "evolve"
    )
    chosen = asked(problems, tokenizer, profile.grm)
    ruled = asked([one.problem for one in measuring], tokenizer, profile.grm)
    facts, start = facts_of(profile), time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        os.environ |= {"RAY_TMPDIR": folder, "RAY_ADDRESS": ""}
        with connected(profile.cluster):
            slots = slots_for(profile, peak_gib=None, declared=profile.evolve.slots, cards=num_cards())
            engines = generator_and_judges(
                profile,
                False,
                beside_trainer=slots.beside_trainer,
                vram_gib=slots.engine_gib or None,
                engines=slots.engines,
                sharers=slots.number,
            )
            with engines as (generator, judge):
                alone = slots.number == 1
                ruler = ruler_of(run, profile, ruled, generator, judge, facts, speed_counts=alone)
                around = Surroundings(
                    profile=profile, problems=[one.problem for one in chosen], untouched=rates_in(arguments.rates),
                    ruler=ruler, generator=generator, judge=judge, pool=run.evolve_pool, facts=facts,
                    engine_sleeps=slots.takes_turns,
                )  # fmt: skip
                began = time.perf_counter()
                winner, _ = populate(run, profile, around, partial(evolve_on_ray, started=slots))
                ended = time.perf_counter()
    replace_folder(state_of(run, winner) / ADAPTER, arguments.out / "adapters" / arguments.name / "adapter")
    return told(run, winner, ended - began) | {
        "slots": slots.reason,
        "start_s": round(began - start, 1),
        "measured_by": len(ruler.problems),
    }


def rates_in(path: Path) -> dict[str, tuple[int, int]]:
    return {name: (passed, counted) for name, (passed, counted) in read_json(path)["rates"].items()}


def told(run: Run, winner: Lived, seconds: float) -> dict[str, Any]:
    """What came of a population, and what it spent."""
    lived, boundaries = all_lived(run.evolve_individuals), read_boundaries(run.evolve_boundaries)
    kinds = ("drafting", "judging", "training", "measuring")
    spent = {kind: sum(getattr(one, f"{kind}_seconds") for one in lived) for kind in kinds}
    tokens = {
        "drawn": sum(one.drawn_tokens for one in lived),
        "learnt": sum(one.learnt_tokens for one in lived),
        "selection": sum(one.selection_tokens for one in boundaries),
    }
    return {
        "winner": winner.id,
        "tokens": tokens | {"all": sum(tokens.values())},
        "steps": sum(one.steps for one in lived),
        "drafts": sum(one.drafts for one in lived),
        "seconds": round(seconds, 1),
        "of_individuals_s": {kind: round(value, 1) for kind, value in spent.items()},
        "boundaries_s": [round(one.seconds, 1) for one in boundaries],
        "beside_s": round(seconds - sum(spent.values()), 1),
        "pass@1": [{name: round(value, 4) for name, value in one.pass_at_1.items()} for one in boundaries],
        "donors": [dict(one.donors) for one in boundaries],
        "coverage": [
            (round(one.coverage.pool, 4), round(one.coverage.one_policy, 4)) for one in boundaries if one.coverage
        ],
        "peak_gib": round(max(one.peak_gib for one in lived), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--arm", choices=SHARES, required=True)
    parser.add_argument("--problems", type=Path, required=True)
    parser.add_argument("--rates", type=Path, required=True, help="how often the untouched model solves them, as JSON")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--model", help="folder of the base; the profile's own if left out")
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--tokens", type=int, default=9_500_000)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    result = evolved(arguments)
    print(
        json.dumps({"benchmark": "evolution_arms", "arm": arguments.arm, "name": arguments.name, **result}), flush=True
    )


if __name__ == "__main__":
    main()
