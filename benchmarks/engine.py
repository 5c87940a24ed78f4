"""The Generator's vLLM engine on a card, under a cap of GiB, beside bare vLLM and the transformers engine.

Parts, each in a process of its own that is ended after --timeout seconds, so that one that fails costs no other:
speed: tokens a second of seeded HumanEval answers: our engine, bare vllm.LLM with the same arguments and requests, bare
without seeds, transformers; all loaded, in turns, the order turns round after each. adapter: with an adapter of random
weights, and with one that changes in its folder between two calls: seconds, and whether drafts follow. sleep: seconds,
what the card holds meanwhile, and a matrix product of another process. speculation: n-grams and a draft model at batch
1 and 8, on prompts that repeat a program with a change and on ordinary ones: ratios to none, drafts with equal tokens.
score: log-probabilities beside the transformers engine's. Each prints one JSON line a result. The parts `speed`,
`speculation` and `score` hold several engines at once: the cap is for each, so they need a larger card.
Run: python -m benchmarks.engine --model FOLDER_OR_GGUF [--draft-model FOLDER_OR_GGUF] [--parts speed,adapter,sleep,...]
"""

import argparse
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from argparse import Namespace as Options
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from app.hardware import PeakMemory
from app.models.base import ensure_model
from app.records import Sampling
from benchmarks.card_memory import CardMemory
from benchmarks.engines import (
    Apart,
    bare_rate,
    drafts_of,
    engine,
    model_of,
    prompts,
    random_adapter,
    rate,
    scores_of,
    start_bare,
    start_ours,
    start_peer,
)
from benchmarks.random_adapters import SHARE

HOT = 0.8
"""Temperature of seeded drafts."""


def say(part: str, **result: Any) -> None:
    print(json.dumps({"benchmark": "engine", "part": part, **result}), flush=True)


def speed(options: Options, card: CardMemory) -> None:
    sampling = Sampling(max_new_tokens=options.new_tokens, temperature=HOT)
    wanted = prompts(options, samples=options.samples)
    running: dict[str, Callable[[], float]] = {}
    for name in options.engines.split(","):
        before, start = card.now_gib, time.perf_counter()
        card.restart()
        process = Apart({"VLLM_ENABLE_V1_MULTIPROCESSING": "1"} if name in ("ours_apart", "bare") else {})
        if name == "bare":
            process.call(start_bare, options)
            running["bare"] = partial(process.call, bare_rate, wanted, sampling, True)
            running["bare_unseeded"] = partial(process.call, bare_rate, wanted, sampling, False)
        else:
            process.call(start_peer if name == "transformers" else start_ours, options)
            running[name] = partial(process.call, rate, wanted, sampling)
        seconds = time.perf_counter() - start
        say("speed", started=name, seconds=round(seconds, 1), card_gib=round(card.peak_gib - before, 2))
    rounds: list[dict[str, float]] = []
    for number in range(options.rounds):
        order = list(running) if number % 2 == 0 else list(reversed(running))
        rounds.append({})
        for name in order:
            rounds[-1][name] = running[name]()
            say("speed", round=number, engine=name, tokens_per_s=round(rounds[-1][name], 1))
    first = next(iter(running))
    medians = {name: round(statistics.median(r[name] for r in rounds), 1) for name in running}
    ratios = {name: [round(r[first] / r[name], 3) for r in rounds] for name in running if name != first}
    say("speed", tokens_per_s=medians, **{f"{first}_to": ratios}, drafts=len(wanted) * options.samples)


def adapter(options: Options, card: CardMemory) -> None:
    sampling = Sampling(max_new_tokens=options.new_tokens, temperature=HOT)
    greedy = Sampling(max_new_tokens=32)
    wanted, few = prompts(options, samples=options.samples), prompts(options, number=8)
    with tempfile.TemporaryDirectory() as temporary:
        changing, second = Path(temporary, "changing"), Path(temporary, "second")
        random_adapter(options, changing, seed=1)
        random_adapter(options, second, seed=2)
        start_ours(options)
        held = engine()
        rates: dict[str, list[float]] = {"base": [], "adapter": []}
        for number in range(options.rounds):
            for name in ("base", "adapter") if number % 2 == 0 else ("adapter", "base"):
                path = str(changing) if name == "adapter" else ""
                held._wake(path)
                held._engine.reset_prefix_cache()
                start = time.perf_counter()
                drafts = held.generate(wanted, sampling, adapter=path)
                rates[name].append(sum(draft.num_tokens for draft in drafts) / (time.perf_counter() - start))
        say("adapter", tokens_per_s={name: [round(r, 1) for r in found] for name, found in rates.items()})
        tokens = [[d.token_ids for d in drafts_of(few, greedy, path)] for path in ("", str(changing))]
        seconds = []
        for seed in (3, 4, 5, 2):
            random_adapter(options, changing, seed=seed)
            start = time.perf_counter()
            held._wake(str(changing))
            seconds.append(round(time.perf_counter() - start, 3))
            tokens.append([d.token_ids for d in drafts_of(few, greedy, str(changing))])
        same = [d.token_ids for d in drafts_of(few, greedy, str(second))] == tokens[-1]
        others = sum(a == b for place, a in enumerate(tokens) for b in tokens[:place])
        say("adapter", exchange_s=seconds, versions_with_the_same_drafts=others, last_equals_the_same_elsewhere=same)
        say("adapter", base_unchanged=[d.token_ids for d in drafts_of(few, greedy)] == tokens[0])
        say("adapter", card_peak_gib_of_ours=round(card.peak_gib, 2))
        if not options.no_peer:
            peer = Apart({})
            peer.call(start_peer, options)
            theirs = [d.token_ids for d in peer.call(drafts_of, few, greedy, str(second))]
            pairs = list(zip(tokens[-1], theirs, strict=True))
            equal = sum(
                next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
                for a, b in pairs
            )
            say(
                "adapter", drafts_equal_to_transformers=sum(a == b for a, b in pairs), of=len(pairs),
                tokens_before_the_first_other=equal, of_tokens=sum(len(b) for _, b in pairs),
            )  # fmt: skip


def product(gib: float, cpu: bool) -> float:
    """Teraflops of a matrix product whose three matrices have `gib` together."""
    import torch

    size = int((gib * 2**30 / 3 / 2) ** 0.5) // 128 * 128
    device = "cpu" if cpu else "cuda"
    a, b = (torch.randn(size, size, dtype=torch.bfloat16, device=device) for _ in range(2))
    start = time.perf_counter()
    float((a @ b)[0, 0])  # waits for it
    return 2 * size**3 / (time.perf_counter() - start) / 1e12


def sleep(options: Options, card: CardMemory) -> None:
    greedy, few = Sampling(max_new_tokens=64), prompts(options, number=8)
    start = time.perf_counter()
    start_ours(options)
    held = engine()
    loaded = time.perf_counter() - start
    before = drafts_of(few, greedy)
    say("sleep", load_s=round(loaded, 1), awake_gib=round(card.now_gib, 2), peak_gib=round(card.peak_gib, 2))
    training = Apart({})
    for _ in range(options.rounds):
        start = time.perf_counter()
        held.sleep()
        to_sleep = time.perf_counter() - start
        asleep = card.now_gib
        card.restart()
        free = options.gib - asleep - 1.0  # the other process has a context too
        teraflops = training.call(product, 0.01 if options.cpu else free, options.cpu)
        meanwhile = card.peak_gib
        training.call(release)
        start = time.perf_counter()
        held._wake("")
        wake = time.perf_counter() - start
        after = drafts_of(few, greedy)
        same = sum(a.token_ids == b.token_ids for a, b in zip(before, after, strict=True))
        say(
            "sleep", sleep_s=round(to_sleep, 2), wake_s=round(wake, 2), asleep_gib=round(asleep, 2),
            product_gib=round(free, 2), product_tflops=round(teraflops, 1), meanwhile_gib=round(meanwhile, 2),
            drafts_the_same=same, of=len(before),
        )  # fmt: skip


def release() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def speculation(options: Options, card: CardMemory) -> None:
    ways: dict[str, dict[str, Any]] = {"none": {}, "ngram": {"num_speculative_tokens": 6}}
    if options.draft_model:
        folder = ensure_model(model_of(options.draft_model, options))
        ways["draft_model"] = {"num_speculative_tokens": 4, "draft_model": str(folder)}
    running = {}
    for name, changes in ways.items():
        before, start = card.now_gib, time.perf_counter()
        card.restart()
        process = Apart({})
        try:
            process.call(start_ours, options, changes | {"batch_size": 8})
        except Exception as error:  # one way that fails costs no other
            say("speculation", way=name, failed=f"{type(error).__name__}: {error}"[:1000])
            continue
        running[name] = process
        seconds = time.perf_counter() - start
        say("speculation", started=name, seconds=round(seconds, 1), card_gib=round(card.peak_gib - before, 2))
    greedy = Sampling(max_new_tokens=options.new_tokens)
    for kind in ("ordinary", "edit"):
        wanted = prompts(options, number=16, edits=kind == "edit")
        first: dict[tuple[int, str], list[tuple[int, ...]]] = {}
        for batch in (1, 8):
            rates: dict[str, list[float]] = {name: [] for name in running}
            chosen = wanted[:4] if batch == 1 else wanted
            for number in range(options.rounds):
                for name in running if number % 2 == 0 else reversed(running):
                    start, drafts = time.perf_counter(), []
                    for place in range(0, len(chosen), batch):
                        drafts += running[name].call(drafts_of, chosen[place : place + batch], greedy)
                    rates[name].append(sum(d.num_tokens for d in drafts) / (time.perf_counter() - start))
                    first.setdefault((batch, name), [d.token_ids for d in drafts])
            ratios = {
                n: [round(a / b, 2) for a, b in zip(found, rates["none"], strict=True)] for n, found in rates.items()
            }
            equal = {n: sum(a == b for a, b in zip(first[batch, n], first[batch, "none"], strict=True)) for n in rates}
            say(
                "speculation", prompts=kind, batch=batch, ratio_to_none=ratios, drafts_equal=equal, of=len(chosen),
                tokens_per_s={name: round(statistics.median(found), 1) for name, found in rates.items()},
            )  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        random_adapter(options, Path(temporary), seed=1)
        few = prompts(options, number=8)
        tokens = {name: [d.token_ids for d in p.call(drafts_of, few, greedy, temporary)] for name, p in running.items()}
        equal = {n: sum(a == b for a, b in zip(found, tokens["none"], strict=True)) for n, found in tokens.items()}
        say("speculation", with_an_adapter=True, drafts_equal=equal, of=len(few))


def score(options: Options, card: CardMemory) -> None:
    processes = {"ours": Apart({}), "transformers": Apart({})}
    processes["ours"].call(start_ours, options)
    wanted = prompts(options)
    drafts = processes["ours"].call(drafts_of, wanted, Sampling(max_new_tokens=options.new_tokens, temperature=HOT))
    pairs = [(p.text, d.text) for p, d in zip(wanted, drafts, strict=True) if d.text]
    processes["ours"].call(scores_of, pairs)
    say("score", card_peak_gib_of_ours=round(card.peak_gib, 2))
    processes["transformers"].call(start_peer, options)
    found: dict[str, list[list[float]]] = {}
    seconds: dict[str, list[float]] = {name: [] for name in processes}
    for number in range(options.rounds):
        for name in list(processes) if number % 2 == 0 else reversed(processes):
            found[name], took = processes[name].call(scores_of, pairs)
            seconds[name].append(took)
    differences = [abs(a - b) for rows in zip(*found.values(), strict=True) for a, b in zip(*rows, strict=True)]
    sums = [abs(sum(a) - sum(b)) / len(a) for a, b in zip(*found.values(), strict=True)]
    tokens = sum(draft.num_prompt_tokens + draft.num_tokens for draft in drafts)
    say(
        "score", pairs=len(pairs), scored_tokens=len(differences), largest=round(max(differences), 4),
        mean=round(statistics.fmean(differences), 5), largest_of_means=round(max(sums), 5),
        tokens_per_s={name: round(tokens / statistics.median(took)) for name, took in seconds.items()},
    )  # fmt: skip
    drawn = {d.problem_id: d for d in drafts}
    own = [
        abs(a - b)
        for prompt, row in zip([p for p in wanted if drawn[p.id].text], found["ours"], strict=True)
        for a, b in zip(drawn[prompt.id].token_logprobs, row, strict=False)
        if len(row) in (drawn[prompt.id].num_tokens, drawn[prompt.id].num_tokens - 1)  # tokenised as it was drawn
    ]
    if own:
        say("score", drawn_beside_scored_mean=round(statistics.fmean(own), 5), largest=round(max(own), 4), of=len(own))


PARTS: dict[str, Callable[[Options, CardMemory], None]] = {
    "speed": speed, "adapter": adapter, "sleep": sleep, "speculation": speculation, "score": score,
}  # fmt: skip


def run_part(name: str, options: Options) -> int:
    """In the part's own process. Returns its exit code."""
    start, card, failed = time.perf_counter(), CardMemory(), 0
    with PeakMemory(every_seconds=1.0) as host:
        try:
            PARTS[name](options, card)
        except Exception as error:
            failed = 1
            traceback.print_exc()
            say(name, failed=f"{type(error).__name__}: {error}"[:2000])
        finally:
            largest = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
            say(
                name, seconds=round(time.perf_counter() - start, 1), card_peak_gib=round(card.peak_gib, 2),
                host_pss_gib=round(host.peak_bytes / 2**30, 2), largest_process_rss_gib=round(largest / 2**20, 2),
            )  # fmt: skip
    sys.stderr.flush()
    return failed


def run_apart(name: str, timeout: float) -> None:
    """The part in a process group of its own, which ends with it: vLLM's own processes hold the card."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.engine", *sys.argv[1:], "--here", name], start_new_session=True
    )
    try:
        if process.wait(timeout):
            say(name, exit_code=process.returncode)
    except subprocess.TimeoutExpired:
        say(name, failed=f"not done after {timeout:.0f} s")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="folder, or FILE.gguf")
    parser.add_argument("--draft-model", default="")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--here", choices=PARTS, help="run this part in this process")
    parser.add_argument("--engines", default="ours,ours_apart,bare,transformers", help="of the part speed")
    parser.add_argument("--gib", type=float, default=8.0, help="of the card, for one engine")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--max-model-len", type=int, default=2048)
    parser.add_argument("--problems", type=int, default=164)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--new-tokens", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=400, help="seconds for a part")
    parser.add_argument("--adapter-share", type=float, default=SHARE, help="of random adapters in a layer")
    parser.add_argument("--no-peer", action="store_true", help="adapter: without the transformers engine (needs peft)")
    parser.add_argument("--cpu", action="store_true", help="run without a card, to try the script")
    options = parser.parse_args()
    if options.here:
        os._exit(run_part(options.here, options))  # pools and engines that are still there end with the group
    for name in options.parts.split(","):
        run_apart(name, options.timeout)


if __name__ == "__main__":
    main()
