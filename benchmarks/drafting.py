"""What judging costs the engine that drafts: its tokens a second by itself, and with the sandbox at work beside it.

Each round draws the same drafts of the same problems twice, alone (`Generator.generate`) and as self-reward draws them
(`app.reward.drafts.drafting.judged_drafts`), the order turned round after each. A rate counts the tokens until the last
draft is there; what is judged after that is told apart, since a step waits for it too. The prompts are shown to the
engine before each way, so that neither is timed with their first reading, which vLLM keeps. One JSON line an engine,
arrangement and number of judges, an engine's in a process of its own: the ratio of a round is beside / alone, and 0.9
of the stand-alone rate is what is asked.

    ray        as `python -m app grm` draws: the Generator's actor and the pool of judges on a local Ray of its own,
               which ends with the process
    process    as `benchmarks.reward` draws, without Ray: the engine in the process that asks, the judges in another

Run: python -m benchmarks.drafting --problems FILE [--model FOLDER --gpu] [--engines vllm,transformers] [--rounds 4]
    [--arrangements ray,process] [--judges 14,8]
FILE: what `app.reward.problems.store` wrote. Of Ray the plain package with pandas is enough. Limits: without a card the
engine takes every core, so whatever the judges take is the engine's loss; the judges take a core each, and on a card
the engine's own process needs one or two beside them. Ray's workers give way to
whatever else the machine does, unless RAY_worker_niceness=0 and OMP_WAIT_POLICY=PASSIVE are set.
"""

import argparse
import dataclasses
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

from app.corpus.draws import by_hash
from app.hardware import num_cores
from app.models.base import ensure_model, load_tokenizer
from app.models.config import config_of
from app.overrides import with_overrides
from app.records import Generator, Judge, Prompt, Sampling
from app.reward.drafts.drafting import judged_drafts, prompt_of
from app.reward.problems.store import read
from app.reward.records import TrainingProblem
from app.reward.turns import engine_settings
from app.sandbox.apart import JudgesApart
from app.sandbox.tiers import confinement
from app.settings import Profile, SandboxSettings
from app.stage_settings.grm import GrmSettings
from benchmarks.engines import Apart
from benchmarks.reward import profile_of
from benchmarks.sft_arms import engine_of

JudgesOf = Callable[[int | None], AbstractContextManager[Judge]]
"""So many judges."""


@contextmanager
def on_ray(profile: Profile) -> Iterator[tuple[Generator, JudgesOf]]:
    from actors.generator import GeneratorClient
    from actors.judges import JudgePool
    from app.cluster.session import connected

    settings = engine_settings(profile, config_of(profile.model)[0])
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        os.environ |= {"RAY_TMPDIR": folder, "RAY_ADDRESS": ""}
        with (
            connected(profile.cluster),
            closing(GeneratorClient(profile.model, settings, beside_trainer=True)) as generator,
        ):
            yield generator, lambda number: closing(JudgePool(with_judges(profile, number)))


@contextmanager
def in_process(profile: Profile) -> Iterator[tuple[Generator, JudgesOf]]:
    settings = engine_settings(profile, config_of(profile.model)[0])
    generator = engine_of(profile.model_copy(update={"generation": settings}))
    yield generator, lambda number: closing(JudgesApart(with_judges(profile, number), confinement()))


def with_judges(profile: Profile, number: int | None) -> SandboxSettings:
    return profile.sandbox.model_copy(update={"num_workers": number} if number else {})


ARRANGEMENTS = {"ray": on_ray, "process": in_process}


def measure(arguments: argparse.Namespace, engine: str, arrangement: str) -> None:
    """Print all rounds of one engine in one arrangement, in this process, for each number of judges."""
    profile = with_overrides(profile_of(arguments), [f"generation.engine={engine}", "cluster.dashboard=false"])
    profile = profile.for_drafts()
    tokenizer, grm = load_tokenizer(ensure_model(profile.model)), profile.grm
    found = sorted((one.problem for one in read(arguments.problems)), key=lambda one: by_hash(one.given.id))
    problems = found[: arguments.number]
    numbers = tuple(range(arguments.drafts))
    prompts = [Prompt(id=one.given.id, text=prompt_of(tokenizer, one), samples=numbers) for one in problems]
    start = time.perf_counter()
    with ARRANGEMENTS[arrangement](profile) as (generator, judges_of):
        show(prompts, generator)  # loads it
        loaded = time.perf_counter() - start
        for num_judges in arguments.judges or [profile.sandbox.num_workers]:
            with judges_of(num_judges) as judges:
                rounds = [
                    measured_round(number, problems, prompts, grm, generator, judges)
                    for number in range(arguments.rounds)
                ]
            ratios = [one["beside"] / one["alone"] for one in rounds]
            one = {
                "engine": engine,
                "arrangement": arrangement,
                "problems": len(problems),
                "drafts": len(problems) * arguments.drafts,
                "cores": num_cores(),
                "judges": num_judges or num_cores(),
                "load_s": round(loaded, 1),
                "tokens_per_s_alone": [round(one["alone"], 1) for one in rounds],
                "tokens_per_s_beside": [round(one["beside"], 1) for one in rounds],
                "judged_after_s": [round(one["judged_after"], 2) for one in rounds],
                "ratio": round(statistics.median(ratios), 3),
                "ratio_from_to": [round(min(ratios), 3), round(max(ratios), 3)],
                "ratios": [round(ratio, 3) for ratio in ratios],
            }
            print(json.dumps({"benchmark": "drafting", **one}), flush=True)


def measured_round(
    number: int,
    problems: list[TrainingProblem],
    prompts: list[Prompt],
    grm: GrmSettings,
    generator: Generator,
    judges: Judge,
) -> dict[str, float]:
    sampling, found = Sampling(max_new_tokens=grm.max_new_tokens, temperature=grm.temperature, seed=number), {}
    for way in ("alone", "beside") if number % 2 == 0 else ("beside", "alone"):
        show(prompts, generator)
        if way == "alone":
            found |= alone(prompts, sampling, generator)
        else:
            found |= beside(problems, prompts, sampling, generator, judges)
    return found


def counts_in(text: str) -> list[int]:
    """Raises ValueError, which argparse tells."""
    found = [int(part) for part in text.split(",")]
    if min(found) < 1:
        raise ValueError
    return found


def show(prompts: list[Prompt], generator: Generator) -> None:
    generator.generate([dataclasses.replace(one, samples=(0,)) for one in prompts], Sampling(max_new_tokens=1))


def alone(prompts: list[Prompt], sampling: Sampling, generator: Generator) -> dict[str, float]:
    """In a thread, as judging asks for drafts in one: on crowded cores OpenMP's waiting makes the main thread's own
    work many times slower than another thread's."""
    start = time.perf_counter()
    with ThreadPoolExecutor(1) as thread:
        drafts = thread.submit(generator.generate, prompts, sampling).result()
    return {"alone": sum(draft.num_tokens for draft in drafts) / (time.perf_counter() - start)}


def beside(
    problems: list[TrainingProblem], prompts: list[Prompt], sampling: Sampling, generator: Generator, judge: Judge
) -> dict[str, float]:
    drawn: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        path, start = Path(folder, "drafts.parquet"), time.perf_counter()
        judged = judged_drafts(
            path, problems, prompts, sampling, generator, judge, on_drawn=lambda: drawn.append(time.perf_counter())
        )
        ended = time.perf_counter()
    tokens = sum(one.draft.num_tokens for one in judged)
    return {"beside": tokens / (drawn[0] - start), "judged_after": ended - drawn[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--problems", type=Path, required=True)
    parser.add_argument("--model", help="folder of the base; the profile's own if left out")
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--engines", default="vllm,transformers")
    parser.add_argument("--arrangements", default="ray,process")
    parser.add_argument("--number", type=int, default=32, help="of problems")
    parser.add_argument("--drafts", type=int, default=16, help="of a problem")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--judges", type=counts_in, help="how many, as 14,8; left out, what sandbox.num_workers says")
    arguments = parser.parse_args()
    for engine, arrangement in itertools.product(arguments.engines.split(","), arguments.arrangements.split(",")):
        process = Apart({})
        process.call(measure, arguments, engine, arrangement)
        process.end()


if __name__ == "__main__":
    main()
