"""Drafts of many problems by vLLM on a card, within 8 GiB, and what became of them: solve rates, pass@16, bands.

Three steps, so that the one with the card needs vLLM alone (0.26 and newer), neither Ray nor this project's packages:

    python -m benchmarks.drafts prompts --model FOLDER --suite mbpp=FILE --suite leetcode=FILE --out prompts.jsonl
        [--train]
    python -m benchmarks.drafts draw --model FOLDER --prompts prompts.jsonl --job train:16:1 --out drafts.jsonl.gz
    python -m benchmarks.drafts judge --suite mbpp=FILE --suite leetcode=FILE --drafts drafts.jsonl.gz

`prompts` renders each problem in the model's chat template; a suite without a file finds its own (humaneval=); with
--train those to learn from only, without what a test suite holds as well (`app.evaluation.suites.splits`). `draw`
appends to its file and goes on where it was ended; problems are in the order of a hash, so what is there at any time is
a random part. It stops at the tokens that end a turn. `judge` prints one JSON line. `draw --gib 8` bounds what vLLM
takes of the card; the peak over all processes is read through nvidia-smi and printed beside the rate.
"""

import argparse
import gzip
import json
import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from app.corpus.draws import bits
from benchmarks.card_memory import CardMemory

CHUNK = 4096
"""Drafts that are drawn together and then written."""


def prompts(arguments: argparse.Namespace) -> None:
    from app.evaluation.measure import render
    from app.models.base import load_tokenizer

    tokenizer = load_tokenizer(Path(arguments.model))
    with open_text(arguments.out, "wt") as out:
        for suite, tasks in suites_of(arguments.suite):
            for task in to_learn_from(suite, tasks) if arguments.train else tasks:
                text = render(tokenizer, suite, task.problem, "chat", ())
                row = {"id": task.problem.id, "suite": suite.name, "split": task.problem.split, "prompt": text}
                out.write(json.dumps(row) + "\n")


def to_learn_from(suite: Any, tasks: Sequence[Any]) -> list[Any]:
    """The training problems that no test suite holds as well."""
    from app.evaluation.suites.splits import repeats_a_test_problem

    train = [task for task in tasks if task.problem.split == "train"]
    kept = [task for task in train if not repeats_a_test_problem(task)]
    print(json.dumps({"suite": suite.name, "train": len(train), "kept": len(kept)}))
    return kept


def draw(arguments: argparse.Namespace) -> None:
    from vllm import LLM, SamplingParams

    wanted = [json.loads(line) for line in open_text(arguments.prompts).read().splitlines()]
    wanted = [row for row in wanted if bits(row["id"]) % arguments.parts == arguments.part]
    there = {(r["id"], r["temperature"]) for r in json_rows([arguments.out])} if Path(arguments.out).exists() else set()
    card, start = CardMemory(), time.perf_counter()
    llm = LLM(
        model=arguments.model,
        dtype="bfloat16",
        max_model_len=arguments.max_model_len,
        max_num_seqs=512,
        gpu_memory_utilization=arguments.gib / card.total_gib,
        seed=arguments.seed,
        disable_log_stats=True,
    )
    loaded = time.perf_counter()
    for job in arguments.job:
        splits, drafts, temperature = job.split(":")
        params = SamplingParams(
            n=int(drafts),
            temperature=float(temperature),
            max_tokens=arguments.new_tokens,
            logprobs=0,
            stop_token_ids=[int(token) for token in arguments.stop_token_ids.split(",") if token],
        )
        rows = [r for r in wanted if splits == "all" or {r["split"], r["suite"]} & {*splits.split(",")}]
        todo = sorted((r for r in rows if (r["id"], params.temperature) not in there), key=lambda r: bits(r["id"]))
        begun, tokens, done, size = time.perf_counter(), 0, 0, max(1, CHUNK // params.n)
        for chunk in (todo[place : place + size] for place in range(0, len(todo), size)):
            if time.perf_counter() - start > arguments.seconds:
                break
            outputs = llm.generate([row["prompt"] for row in chunk], params, use_tqdm=False)
            made = [
                _draft(row, output, one, params.temperature)
                for row, output in zip(chunk, outputs, strict=True)
                for one in output.outputs
            ]
            with gzip.open(arguments.out, "at") as out:
                out.writelines(json.dumps(one) + "\n" for one in made)
            tokens += sum(one["num_tokens"] for one in made)
            done += len(chunk)
        result = {
            "benchmark": "drafts",
            "job": job,
            "problems": done,
            "of": len(todo),
            "tokens_per_s": round(tokens / (time.perf_counter() - begun)),
            "load_s": round(loaded - start, 1),
            "peak_gib": round(card.peak_gib, 2),
        }
        print(json.dumps(result), flush=True)
    card.stop()


def _draft(row: dict[str, Any], output: Any, made: Any, temperature: float) -> dict[str, Any]:
    return {
        "id": row["id"],
        "suite": row["suite"],
        "split": row["split"],
        "sample": made.index,
        "temperature": temperature,
        "text": made.text,
        "num_prompt_tokens": len(output.prompt_token_ids),
        "num_tokens": len(made.token_ids),
        "mean_logprob": made.cumulative_logprob / max(1, len(made.token_ids)),
        "finish_reason": made.finish_reason,
    }


@dataclass(slots=True)
class _Solved:
    drafts: int = 0
    passed: int = 0
    statuses: Counter[str] = field(default_factory=Counter)


def judge(arguments: argparse.Namespace) -> None:
    from app.sandbox.local import LocalJudges
    from app.sandbox.tiers import confinement
    from app.settings import SandboxSettings

    suites = {task.problem.id: (suite, task.problem) for suite, tasks in suites_of(arguments.suite) for task in tasks}
    solved: dict[tuple[str, str, float], dict[str, _Solved]] = defaultdict(lambda: defaultdict(_Solved))
    by_problem: dict[tuple[str, float], list[dict[str, Any]]] = defaultdict(list)
    for row in json_rows(arguments.drafts):
        if row["id"] in suites:
            by_problem[row["id"], row["temperature"]].append(row)
    settings = SandboxSettings(timeout_s=arguments.timeout, num_workers=arguments.workers)
    out = gzip.open(arguments.out, "wt") if arguments.out else None  # noqa: SIM115
    with closing(LocalJudges(settings, confinement())) as judges:
        jobs = []
        for (name, _), rows in by_problem.items():
            suite, problem = suites[name]
            jobs.append((problem, [suite.program(problem, "chat", row["text"]) for row in rows]))
        for ((name, temperature), rows), verdicts in zip(by_problem.items(), judges.judge_all(iter(jobs)), strict=True):
            for row, verdict in zip(rows, verdicts, strict=True):
                problem = solved[row["suite"], row["split"], temperature][name]
                problem.drafts += 1
                problem.passed += verdict.status == "passed" and verdict.tier != "in_process"
                problem.statuses[str(verdict.status)] += 1
                if out:
                    kept = {"id": name, "sample": row["sample"], "temperature": temperature}
                    kept |= {"status": str(verdict.status), "tier": verdict.tier, "detail": verdict.detail[:120]}
                    out.write(json.dumps(kept) + "\n")
    if out:
        out.close()
    groups = {
        f"{suite} {split}, T {temperature:g}": _summary(list(found.values()))
        for (suite, split, temperature), found in sorted(solved.items())
    }
    print(json.dumps({"benchmark": "drafts, judged", "groups": groups}))


def _summary(problems: Sequence[_Solved]) -> dict[str, Any]:
    from app.reward.drafts.solve_rates import bands

    rates = [problem.passed / problem.drafts for problem in problems]
    drafts = min(problem.drafts for problem in problems)
    statuses = sum((problem.statuses for problem in problems), Counter[str]())
    return {
        "problems": len(problems),
        "drafts_a_problem": drafts,
        "pass@1": round(sum(rates) / len(rates), 4),
        f"pass@{drafts}": round(sum(rate > 0 for rate in rates) / len(rates), 4),
        "solve_rates": bands(rates),
        "statuses": dict(statuses.most_common()),
    }


def suites_of(given: Sequence[str]) -> Iterator[tuple[Any, list[Any]]]:
    """Each suite with its problems, those of a file's other splits too. A file of LeetCode's training problems is told
    by its name."""
    from app.evaluation.suites.registry import get_suite
    from app.evaluation.suites.splits import with_leetcode_splits
    from app.problem_sets import mbpp, own
    from app.problem_sets.problem_files import rows

    for name, _, path in (one.partition("=") for one in given):
        suite, file = get_suite(name), Path(path) if path else None
        if name == "mbpp" and file:
            tasks = mbpp.tasks_of(rows(file), path)
        else:
            tasks = own.tasks_of(file or own.FOLDER) if name == "ours" else suite.load(file)
        if name == "leetcode" and "train" in path:
            tasks = with_leetcode_splits(tasks)
        yield suite, [task for task in tasks if task.problem.split != "few_shot"]


def json_rows(paths: Sequence[str]) -> Iterator[dict[str, Any]]:
    for path in paths:
        with open_text(path) as file:
            yield from map(json.loads, file)


def open_text(path: str, mode: str = "rt") -> TextIO:
    return gzip.open(path, mode) if path.endswith(".gz") else open(path, mode)  # type: ignore[return-value]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    steps = parser.add_subparsers(required=True)
    one = steps.add_parser("prompts")
    one.add_argument("--model", required=True)
    one.add_argument("--suite", action="append", required=True, metavar="NAME[=FILE]")
    one.add_argument("--train", action="store_true", help="problems to learn from only")
    one.add_argument("--out", required=True)
    one.set_defaults(step=prompts)
    one = steps.add_parser("draw")
    one.add_argument("--model", required=True)
    one.add_argument("--prompts", required=True)
    one.add_argument("--out", required=True)
    one.add_argument("--job", action="append", required=True, metavar="SPLIT_OR_SUITE,...|all:DRAFTS:TEMPERATURE")
    one.add_argument("--new-tokens", type=int, default=640)
    one.add_argument("--max-model-len", type=int, default=4096)
    one.add_argument("--stop-token-ids", default="")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--gib", type=float, default=7.0, help="what vLLM may plan with; contexts come on top")
    one.add_argument("--part", type=int, default=0, help="of --parts, for several cards")
    one.add_argument("--parts", type=int, default=1)
    one.add_argument("--seconds", type=float, default=math.inf, help="begin no more drafts after this")
    one.set_defaults(step=draw)
    one = steps.add_parser("judge")
    one.add_argument("--suite", action="append", required=True, metavar="NAME[=FILE]")
    one.add_argument("--drafts", nargs="+", required=True)
    one.add_argument("--out", help="verdicts, a packed JSON line each")
    one.add_argument("--timeout", type=float, default=3.0)
    one.add_argument("--workers", type=int, default=1)
    one.set_defaults(step=judge)
    arguments = parser.parse_args()
    arguments.step(arguments)


if __name__ == "__main__":
    main()
