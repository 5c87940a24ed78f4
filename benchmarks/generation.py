"""Tokens a second of the Generator's engines beside transformers' own `generate`: one model, the same prompts, one run.

All draw greedy HumanEval chat answers. `generate` gets the prompts in batches of the same size, as it is usually
called. The contestants take turns, the order turns round after each, and a ratio is the median over rounds. vLLM has a
process of its own, because it changes torch for the process that it is in. Prints one JSON line.
Run: python -m benchmarks.generation [--profile laptop] [--problems 16] [--new-tokens 64] [--rounds 3]
     [--engines transformers,vllm,peer] [--speculative-tokens 6]
"""

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from app.evaluation.suites import humaneval
from app.generation.transformers_engine import TransformersEngine
from app.models.base import ensure_model, load_model, load_tokenizer
from app.profiles import get_profile
from app.prompting.protocols import ask, chat_prompt
from app.records import Prompt, Sampling
from app.settings import GenerationSettings, Profile

Contestant = Callable[[list[Prompt], int], float]
_vllm: Any = None


def rate(engine: Any, prompts: list[Prompt], new_tokens: int) -> float:
    start = time.perf_counter()
    drafts = engine.generate(prompts, Sampling(max_new_tokens=new_tokens))
    return sum(draft.num_tokens for draft in drafts) / (time.perf_counter() - start)


def vllm_rate(profile: Profile, settings: GenerationSettings, prompts: list[Prompt], new_tokens: int) -> float:
    """In vLLM's process. What it has kept of earlier rounds' prompts is thrown away, so that each prefills them."""
    from app.generation.vllm_engine import VllmEngine

    global _vllm
    if _vllm is None:
        _vllm = VllmEngine(profile.model, settings)
        rate(_vllm, prompts[:1], 2)
    _vllm._engine.reset_prefix_cache()
    return rate(_vllm, prompts, new_tokens)


def peer_rate(profile: Profile, model: Any, tokenizer: Any, prompts: list[Prompt], new_tokens: int) -> float:
    tokens, size = 0, profile.generation.batch_size
    start = time.perf_counter()
    for first in range(0, len(prompts), size):
        texts = [prompt.text for prompt in prompts[first : first + size]]
        batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False).to(model.device)
        with torch.inference_mode():
            output = model.generate(**batch, max_new_tokens=new_tokens, do_sample=False)
        drawn = output[:, batch.input_ids.shape[1] :]
        ended = (drawn == tokenizer.eos_token_id).int()
        tokens += int(((ended.cumsum(1) - ended) == 0).sum())  # up to the first end-of-text, itself included
    return tokens / (time.perf_counter() - start)


def contestants(profile: Profile, names: list[str], speculative_tokens: int, pool: Any) -> dict[str, Contestant]:
    found: dict[str, Contestant] = {}
    if "transformers" in names:
        engine = TransformersEngine(profile.model, profile.generation)
        found["transformers"] = lambda prompts, new_tokens: rate(engine, prompts, new_tokens)
    if "vllm" in names:
        changes = {"engine": "vllm", "num_speculative_tokens": speculative_tokens}
        settings = profile.generation.model_copy(update=changes)
        found["vllm"] = lambda prompts, new_tokens: pool.apply(vllm_rate, (profile, settings, prompts, new_tokens))
    if "peer" in names:
        folder = ensure_model(profile.model)
        device = torch.device("cuda", 0) if profile.generation.use_gpu else torch.device("cpu")
        model, tokenizer = load_model(folder, profile.model, device).eval(), load_tokenizer(folder)
        tokenizer.padding_side = "left"
        found["peer"] = lambda prompts, new_tokens: peer_rate(profile, model, tokenizer, prompts, new_tokens)
    for contestant in found.values():  # loads the model
        contestant([Prompt(id="warm-up", text="x")], 2)
    return found


def measure(profile: Profile, arguments: argparse.Namespace, names: list[str], pool: Any) -> dict[str, Any]:
    tokenizer = load_tokenizer(ensure_model(profile.model))
    problems = [task.problem for task in humaneval.load()]
    problems = problems[:: max(1, len(problems) // arguments.problems)][: arguments.problems]
    turns = [[{"role": "user", "content": ask(problem.prompt)}] for problem in problems]
    prompts = [
        Prompt(id=problem.id, text=chat_prompt(tokenizer, turn)) for problem, turn in zip(problems, turns, strict=True)
    ]
    running = contestants(profile, names, arguments.speculative_tokens, pool)
    rounds = []
    for number in range(arguments.rounds):
        order = list(running) if number % 2 == 0 else list(reversed(running))
        rates = {name: running[name](prompts, arguments.new_tokens) for name in order}
        rounds.append({name: rates[name] for name in running})
    first = names[-1]
    return {
        "benchmark": "generation",
        "profile": profile.name,
        "batch_size": profile.generation.batch_size,
        "problems": len(prompts),
        "new_tokens": arguments.new_tokens,
        "speculative_tokens": arguments.speculative_tokens,
        "tokens_per_second": {name: round(statistics.median(r[name] for r in rounds), 1) for name in running},
        f"ratios_to_{first}": {name: [round(r[name] / r[first], 2) for r in rounds] for name in running},
        f"ratio_to_{first}": {
            name: round(statistics.median(r[name] / r[first] for r in rounds), 2) for name in running
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--problems", type=int, default=16)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", default="transformers,vllm,peer", help="the last one is what the ratios are to")
    parser.add_argument("--speculative-tokens", type=int, default=0, help="vLLM's n-gram speculation")
    arguments = parser.parse_args()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(json.dumps(measure(get_profile(arguments.profile), arguments, arguments.engines.split(","), pool)))


if __name__ == "__main__":
    main()
