"""Tokens a second of the Generator's continuous batching beside transformers' own `generate`: one model, one run.

Both draw greedy HumanEval chat answers. `generate` gets the same prompts in batches of the same size, as it is
usually called. Order alternates, the ratio is the median over pairs. Prints one JSON line.
Run: python -m benchmarks.generation [--profile laptop] [--problems 16] [--new-tokens 64] [--pairs 3]
"""

import argparse
import json
import statistics
import time

import torch

from app.evaluation import humaneval
from app.generation import TransformersEngine
from app.models import ensure_model, load_model, load_tokenizer
from app.profiles import get_profile
from app.prompts import render
from app.records import Problem, Sampling
from app.settings import Profile


def ours(engine: TransformersEngine, problems: list[Problem], new_tokens: int) -> float:
    start = time.perf_counter()
    drafts = engine.generate(problems, Sampling(max_new_tokens=new_tokens))
    return sum(draft.num_tokens for draft in drafts) / (time.perf_counter() - start)


def peer(profile: Profile, problems: list[Problem], new_tokens: int) -> float:
    folder = ensure_model(profile.model)
    device = torch.device("cuda", 0) if profile.generation.use_gpu else torch.device("cpu")
    model, tokenizer = load_model(folder, profile.model, device).eval(), load_tokenizer(folder)
    tokenizer.padding_side = "left"
    tokens, size = 0, profile.generation.batch_size
    start = time.perf_counter()
    for first in range(0, len(problems), size):
        texts = [render(problem, "chat", tokenizer).text for problem in problems[first : first + size]]
        batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False).to(device)
        with torch.inference_mode():
            output = model.generate(**batch, max_new_tokens=new_tokens, do_sample=False)
        drawn = output[:, batch.input_ids.shape[1] :]
        ended = (drawn == tokenizer.eos_token_id).int()
        tokens += int(((ended.cumsum(1) - ended) == 0).sum())  # up to the first end-of-text, itself included
    return tokens / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--problems", type=int, default=16)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=3)
    arguments = parser.parse_args()
    profile = get_profile(arguments.profile)
    problems = humaneval.evenly_spaced([task.problem for task in humaneval.load()], arguments.problems)
    engine = TransformersEngine(
        profile.model, batch_size=profile.generation.batch_size, use_gpu=profile.generation.use_gpu
    )
    ours(engine, problems[:1], 2)  # loads the model
    pairs = []
    for number in range(arguments.pairs):
        first = ours(engine, problems, arguments.new_tokens) if number % 2 == 0 else 0.0
        other = peer(profile, problems, arguments.new_tokens)
        pairs.append((first or ours(engine, problems, arguments.new_tokens), other))
    print(
        json.dumps(
            {
                "benchmark": "generation",
                "profile": profile.name,
                "batch_size": profile.generation.batch_size,
                "problems": len(problems),
                "new_tokens": arguments.new_tokens,
                "tokens_per_second": round(statistics.median(a for a, _ in pairs), 1),
                "peer_tokens_per_second": round(statistics.median(b for _, b in pairs), 1),
                "ratio": round(statistics.median(a / b for a, b in pairs), 2),
                "ratios": [round(a / b, 2) for a, b in pairs],
            }
        )
    )


if __name__ == "__main__":
    main()
