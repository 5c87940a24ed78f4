"""How corpus, drafting, judging and evolution get faster with workers: each stage by its own code, on a local Ray.

    corpus     a tree of source through the whole build, problems included; workers: shards at once, a core each
    judging    right programs and their tests through the pool of judges; workers: judges
    drafting   prompts of our own problems by several engines; workers: engines, a card each or without cards a core
    evolution  a population of a model that writes words, until all its generations are through; workers: without a card
               the slots in which individuals learn, beside one engine; with cards, the cards of engine and trainings

Prints one JSON line for each stage and number of workers. speedup: its rate by that of the first number; efficiency:
that by how many times as many workers they are. in_tasks_s: of a build's seconds those in which its workers work. What
each starts with (Ray, processes, imports, weights) is not timed, and of evolution engine and judges are not. `same` of
drafting: how many drafts are those of the first number by their tokens; in bf16 another batch can turn a close choice.

Run: python -m benchmarks.scaling [--workers 1,2] [--stages corpus,judging,drafting,evolution]
     python -m benchmarks.scaling --gpu --cards 1,2 --workers 1,2,4,8      cards for drafting and evolution
     [--model FOLDER]   else one with random weights is made, whose drafts all have --new-tokens tokens
Needs no network. Limits: one machine; more workers than cores share them, and say nothing of a larger one.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import ray

from app.cluster.job_queue import run_tasks
from app.cluster.session import connected
from app.hardware import num_cores
from app.overrides import with_overrides
from app.profiles import smoke
from app.records import Draft, Prompt, Sampling, Status
from app.runs import open_run
from app.settings import ClusterSettings, Profile
from benchmarks.cards import SHAPES
from benchmarks.corpus import MIB, RECIPE, make_tree
from benchmarks.sandbox import list_functions

CPU_SHAPE: dict[str, Any] = SHAPES["small"] | {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64}
PROGRAMS = 40


@contextmanager
def on_ray(cpus: int, cards: int = 0) -> Iterator[None]:
    """A Ray of its own, which sees the first cards only."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, range(cards)))
    settings = ClusterSettings(num_cpus=cpus, object_store_bytes=500 << 20, dashboard=False)
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        os.environ |= {"RAY_TMPDIR": folder, "RAY_ADDRESS": ""}
        with connected(settings):
            yield


@ray.remote(num_cpus=1)
def imports() -> None:
    """What the tasks of a build import."""
    import app.corpus.build
    import app.models.base  # noqa: F401

    time.sleep(1)  # so that another worker takes the next one


def write_model(folder: Path, shape: dict[str, Any]) -> None:
    """Random weights, and a tokenizer whose tokens are bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen3Config

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, []))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>", pad_token="<pad>")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen3Config(**shape | {"eos_token_id": tokenizer.eos_token_id})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)


def corpus(work: Path, profile: Profile, workers: int) -> dict[str, Any]:
    from app.corpus import build

    in_tasks = 0.0

    def timed(*arguments: Any, **named: Any) -> Any:
        nonlocal in_tasks
        start = time.perf_counter()
        answers = run_tasks(*arguments, **named)
        in_tasks += time.perf_counter() - start
        return answers

    tree, recipe = work / "tree", work / "recipe.yaml"
    recipe.write_text(RECIPE.format(tree=tree))
    settings = [f"corpus.recipe={recipe}", "corpus.max_files=null", f"corpus.num_workers={workers}"]
    settings += ["corpus.seq_len=2048", "corpus.files_per_shard=16", "corpus.max_mined_files=40"]
    ray.get([imports.remote() for _ in range(workers)])
    with open_run(work / f"corpus-{workers}", with_overrides(profile, settings), resume=False) as run:
        start = time.perf_counter()
        with patch.object(build, "run_tasks", timed):
            build.build_corpus(run, with_overrides(profile, settings), [], unsafe=True)
        seconds = time.perf_counter() - start
    size = sum(path.stat().st_size for path in tree.rglob("*.py"))
    return {"seconds": seconds, "amount": size / MIB, "unit": "MiB of source", "in_tasks_s": round(in_tasks, 2)}


def judging(profile: Profile, verdicts: int, workers: int) -> dict[str, Any]:
    from actors.judges import JudgePool

    programs = list_functions(PROGRAMS)
    settings = profile.sandbox.model_copy(update={"num_workers": workers})
    with closing(JudgePool(settings, unsafe=True)) as judges:
        jobs = [(one.problem, [one.source] * 10) for one in programs]
        list(judges.judge_all(jobs[: 4 * workers]))  # starts them all
        rounds = -(-verdicts // (10 * PROGRAMS))
        start = time.perf_counter()
        found = [one for verdict in judges.judge_all(jobs * rounds) for one in verdict]
        seconds = time.perf_counter() - start
    assert all(one.status == Status.PASSED for one in found), found[0]
    return {"seconds": seconds, "amount": len(found), "unit": "verdicts"}


def drafting(profile: Profile, given: argparse.Namespace, drawn: list[list[Draft]], workers: int) -> dict[str, Any]:
    """drawn: by the numbers of workers before."""
    from actors.generator import GeneratorClient
    from app.problem_sets.own import tasks_of

    settings = profile.generation.model_copy(update={"num_workers": workers})
    numbers = tuple(range(given.drafts))
    prompts = [
        Prompt(id=one.problem.id, text=one.problem.prompt, samples=numbers) for one in tasks_of()[: given.prompts]
    ]
    sampling = Sampling(max_new_tokens=given.new_tokens, temperature=0.8)
    with closing(GeneratorClient(profile.model, settings)) as generator:
        generator.generate(prompts, Sampling(max_new_tokens=8, temperature=0.8))
        start = time.perf_counter()
        drafts = generator.generate(prompts, sampling)
        seconds = time.perf_counter() - start
    drawn.append(drafts)
    same = sum(one.token_ids == other.token_ids for one, other in zip(drafts, drawn[0], strict=True))
    amount = sum(one.num_tokens for one in drafts)
    return {"seconds": seconds, "amount": amount, "unit": "tokens", "drafts": len(drafts), "same": same}


def evolution(work: Path, gpu: bool, tokens: int, workers: int) -> dict[str, Any]:
    from app.evolution.stage import run_evolve
    from app.reward.problems.find import load
    from app.reward.problems.held_out import to_measure_by
    from app.stages import generator_and_judges
    from tests.sums import SUM, row, sums_settings
    from tune_spaces.experiment import evolve_on_ray, num_cards
    from tune_spaces.gpu_slots import slots_for

    held = work / "held.jsonl"
    rows = [row(f"held-{n}", f"assert f([{n}, 2]) == {n + 2}") | {"reference": SUM} for n in range(5, 11)]
    held.write_text("".join(f"{json.dumps(one)}\n" for one in rows))
    settings = [
        *sums_settings(work), "evolve.when=always", "evolve.population=4", "evolve.survivors=2", "evolve.generations=1",
        f"evolve.generation_tokens={tokens}", "evolve.rates=[]", "evolve.trunk_tokens=0", "evolve.drafts=4",
        "evolve.most_drafts=8", f"evolve.validation=[{held}]", "evolve.imitation=false", "evolve.better_by=0",
        "evolve.fitness.speed_worth=0", f"sft.use_gpu={gpu}".lower(), f"generation.use_gpu={gpu}".lower(),
    ]  # fmt: skip
    profile = with_overrides(smoke(), settings if gpu else [*settings, f"evolve.slots={workers}"])
    problems = load(profile.grm.problems, work, profile.validation)
    slots = slots_for(profile, peak_gib=None, declared=profile.evolve.slots, cards=num_cards())
    engines = partial(
        generator_and_judges, beside_trainer=slots.beside_trainer, vram_gib=slots.engine_gib or None,
        engines=slots.engines, sharers=slots.number,
    )  # fmt: skip
    seconds = 0.0

    def timed(*arguments: Any, **named: Any) -> None:
        nonlocal seconds
        start = time.perf_counter()
        evolve_on_ray(*arguments, **named, started=slots)
        seconds = time.perf_counter() - start

    with open_run(work / f"evolution-{workers}", profile, resume=False) as run:
        measuring = to_measure_by(profile.evolve, profile.grm, problems, run.problems)
        run_evolve(
            run, profile, problems, measuring, engines, timed,
            engine_sleeps=slots.takes_turns, engine_is_shared=slots.number > 1,
        )  # fmt: skip
    amount = profile.evolve.population * profile.evolve.generations
    return {"seconds": seconds, "amount": amount, "unit": "individual-generations", "slots": slots.reason}


def profile_of(given: argparse.Namespace, work: Path) -> Profile:
    folder = given.model
    if folder is None:
        folder = work / "model"
        write_model(folder, SHAPES["qwen3-0.6b"] if given.gpu else CPU_SHAPE)
    settings = ["model.source=path", f"model.name={folder}", f"model.dtype={'bfloat16' if given.gpu else 'float32'}"]
    settings += [f"generation.use_gpu={given.gpu}".lower(), f"generation.engine={given.engine}"]
    settings += [f"generation.batch_size={given.batch_size}", f"generation.kv_cache_bytes={given.cache_gib << 30}"]
    return with_overrides(smoke(), [*settings, *given.overrides])


def told(stage: str, workers: int, first: dict[str, Any] | None, found: dict[str, Any]) -> dict[str, Any]:
    """A line of the output."""
    rate = found["amount"] / found["seconds"]
    line = {"benchmark": "scaling", "stage": stage, "workers": workers, "cores": num_cores()}
    line |= found | {"seconds": round(found["seconds"], 2), "amount": round(found["amount"], 2)}
    first = first or {"rate": rate, "workers": workers}
    speedup = rate / first["rate"]
    efficiency = speedup * first["workers"] / workers
    return line | {"rate": float(f"{rate:.4g}"), "speedup": round(speedup, 3), "efficiency": round(efficiency, 3)}


def measured(given: argparse.Namespace, work: Path) -> Iterator[dict[str, Any]]:
    """Every line."""
    profile, numbers = profile_of(given, work), given.cards if given.gpu else given.workers
    most = max(given.workers)
    first: dict[str, dict[str, Any]] = {}

    def line(stage: str, workers: int, found: dict[str, Any]) -> dict[str, Any]:
        shown = told(stage, workers, first.get(stage), found)
        first.setdefault(stage, shown)
        return shown

    if "corpus" in given.stages:
        make_tree(work / "tree", given.mebibytes * MIB)
    with on_ray(most):
        for stage, run in (
            ("corpus", partial(corpus, work, profile)), ("judging", partial(judging, profile, given.verdicts))
        ):  # fmt: skip
            for workers in given.workers if stage in given.stages else ():
                yield line(stage, workers, run(workers))
    drawn: list[list[Draft]] = []
    for number in numbers if "drafting" in given.stages else ():
        with on_ray(number, number if given.gpu else 0):
            yield line("drafting", number, drafting(profile, given, drawn, number))
    for number in numbers if "evolution" in given.stages else ():
        with on_ray(max(2, number + 1 if given.gpu else 2), number if given.gpu else 0):
            yield line("evolution", number, evolution(work, given.gpu, given.generation_tokens, number))


def numbers(text: str) -> Sequence[int]:
    return [int(number) for number in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=numbers, default=[1, 2])
    parser.add_argument("--cards", type=numbers, default=[1, 2], help="with --gpu, for drafting and evolution")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--stages", type=lambda text: text.split(","), default="corpus,judging,drafting,evolution")
    parser.add_argument("--model", help="folder of the model that drafts")
    parser.add_argument("--engine", default="transformers", choices=("transformers", "vllm"))
    parser.add_argument("--batch-size", type=int, help="of an engine; 256 on a card, else 16")
    parser.add_argument("--cache-gib", type=int, help="of an engine; 40 on a card, else 1")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--drafts", type=int, help="of a prompt; 64 on a card, else 4")
    parser.add_argument("--new-tokens", type=int, help="of a draft; 256 on a card, else 48")
    parser.add_argument("--mebibytes", type=int, default=4, help="of source")
    parser.add_argument("--verdicts", type=int, default=2000)
    parser.add_argument("--generation-tokens", type=int, default=6000)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    given = parser.parse_args()
    for name, card, without in (
        ("batch_size", 256, 16), ("cache_gib", 40, 1), ("drafts", 64, 4), ("new_tokens", 256, 48)
    ):  # fmt: skip
        if getattr(given, name) is None:
            setattr(given, name, card if given.gpu else without)
    with tempfile.TemporaryDirectory(prefix="scaling-") as folder:
        for line in measured(given, Path(folder)):
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
