"""HumanEval+ problems a minute: our evaluation beside EvalPlus's own, which draws with its vLLM backend and judges with
`evalplus.evaluate`. The same weights, vLLM, prompts, stops, token limit, precision and problems; greedy.

Both are timed with the weights in memory: ours draws in batches and judges while it draws, in one process without Ray;
EvalPlus draws problem after problem (its `codegen`), then judges in as many processes as half the cores, as it does by
itself. What it computes once and keeps, the references' answers, is not in its time; ours computes them each time.
Then EvalPlus judges our programs, too: both should pass the same ones. Prints one JSON line.

Run: python -m benchmarks.evaluation_plus --problems-file HumanEvalPlus.jsonl.gz [--profile laptop] [--gpu]
     [--set KEY=VALUE ...] [--problems 164] [--new-tokens 768]     needs the package evalplus, and what it imports
"""

import argparse
import gzip
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

from app.evaluation.measure import Measurement, measure_candidate, plan_measurement
from app.evaluation.stage import read_result
from app.evaluation.suites.evalplus import HumanEvalPlus
from app.files.json_files import read_json_lines
from app.models.base import ensure_model, load_tokenizer
from app.overrides import with_overrides
from app.profiles import get_profile
from app.prompting.protocols import EVALPLUS_STOP
from app.records import Sampling
from app.runs import Run
from app.sandbox.local import LocalJudges
from app.sandbox.tiers import confinement
from app.settings import Profile

PROTOCOL, LABEL = "evalplus", "benchmark"
SOLUTIONS = {"ours": "ours.jsonl", "evalplus": "evalplus.jsonl"}


def draw_and_judge_ours(profile: Profile, folder: Path, new_tokens: int) -> dict[str, Any]:
    from app.generation.vllm_engine import VllmEngine

    suite, tokenizer = HumanEvalPlus(), load_tokenizer(ensure_model(profile.model))
    tasks = suite.load(folder / "problems.jsonl")
    generator = VllmEngine(profile.model, profile.generation)

    def measure(tasks: list[Any], run: Run, new_tokens: int) -> None:
        what = Measurement(
            label=LABEL, suite=suite, protocol=PROTOCOL, candidate="base", adapter="", tasks=tasks,
            sampling=Sampling(max_new_tokens=new_tokens, stop=EVALPLUS_STOP), num_samples=1,
        )  # fmt: skip
        measure_candidate(run, plan_measurement(run, what, {}, tokenizer), {}, tokenizer, generator, judges)

    with closing(LocalJudges(profile.sandbox, confinement())) as judges:
        measure(tasks[:1], Run(folder / "warm-up"), 8)
        run, start = Run(folder / "run"), time.perf_counter()
        measure(tasks, run, new_tokens)
        seconds = time.perf_counter() - start
    rows = read_json_lines(run.suite_samples(LABEL, "base"))
    solutions = [
        {"task_id": row["draft"]["problem_id"], "solution": row["program"], "reply": row["draft"]["text"]}
        for row in rows
    ]
    (folder / SOLUTIONS["ours"]).write_text("".join(json.dumps(row) + "\n" for row in solutions))
    passed = sorted(row["draft"]["problem_id"] for row in rows if row["verdict"]["status"] == "passed")
    assert len(passed) == read_result(run.suite_result(LABEL, "base")).num_passed
    return {"seconds": seconds, "tokens": sum(row["draft"]["num_tokens"] for row in rows), "passed": passed}


def draw_evalplus(profile: Profile, folder: Path, new_tokens: int) -> dict[str, Any]:
    import evalplus.provider.vllm as backend
    from evalplus.codegen import codegen  # type: ignore[import-not-found]
    from evalplus.provider import make_model  # type: ignore[import-not-found]

    from app.generation.vllm_arguments import card_share

    settings = profile.generation
    options: dict[str, Any] = {"enforce_eager": True, "kv_cache_memory_bytes": settings.kv_cache_bytes}
    if settings.use_gpu:
        options = {"gpu_memory_utilization": card_share(settings.vram_gib)}
    backend.LLM = partial(backend.LLM, **options)
    # Its own words for an instruction model, from `evalplus.codegen.run_codegen`.
    begin = "Please provide a self-contained Python script that solves the following problem in a markdown code block:"
    answer = "Below is a Python script with a self-contained function that solves the problem and passes corresponding "
    model = make_model(
        model=str(ensure_model(profile.model)), backend="vllm", dataset="humaneval", batch_size=1, temperature=0.0,
        instruction_prefix=begin, response_prefix=f"{answer}tests:", dtype=profile.model.dtype,
    )  # fmt: skip
    model.max_new_tokens = 8
    model.codegen("def f():", do_sample=False, num_samples=1)
    model.max_new_tokens = new_tokens
    start = time.perf_counter()
    codegen(str(folder / SOLUTIONS["evalplus"]), model, "humaneval", greedy=True, n_samples=1, resume=False)
    return {"seconds": time.perf_counter() - start}


def judge_evalplus(profile: Profile, folder: Path, new_tokens: int) -> dict[str, Any]:
    """Both sets of solutions. In a process without vLLM: EvalPlus limits the address space of its programs."""
    from evalplus.data import get_human_eval_plus, get_human_eval_plus_hash  # type: ignore[import-not-found]
    from evalplus.evaluate import evaluate, get_groundtruth  # type: ignore[import-not-found]

    start = time.perf_counter()
    get_groundtruth(get_human_eval_plus(), get_human_eval_plus_hash(), [])
    result: dict[str, Any] = {"truth_s": time.perf_counter() - start, "seconds": {}, "passed": {}}
    for name, file in SOLUTIONS.items():
        start = time.perf_counter()
        evaluate("humaneval", samples=str(folder / file))
        result["seconds"][name] = time.perf_counter() - start
        verdicts = json.loads((folder / file.replace(".jsonl", "_eval_results.json")).read_text())["eval"]
        both = {task: rows[0]["base_status"] == rows[0]["plus_status"] == "pass" for task, rows in verdicts.items()}
        result["passed"][name] = sorted(task for task, passed in both.items() if passed)
    return result


STEPS: dict[str, Callable[[Profile, Path, int], dict[str, Any]]] = {
    "ours": draw_and_judge_ours, "draw": draw_evalplus, "judge": judge_evalplus,
}  # fmt: skip


def write_problems(file: Path, folder: Path, number: int) -> int:
    """As many of the release file's problems, evenly spaced, in the form that both read."""
    with (gzip.open if file.suffix == ".gz" else open)(file, "rt") as lines:
        held = [line.rstrip("\n") for line in lines if line.strip()]
    chosen = held[:: max(1, len(held) // number)][:number]
    (folder / "problems.jsonl").write_text("".join(line + "\n" for line in chosen))
    return len(chosen)


def step(name: str, folder: Path) -> dict[str, Any]:
    """One step in a process of its own. Raises RuntimeError with the end of what it said."""
    command = [sys.executable, "-m", "benchmarks.evaluation_plus", *sys.argv[1:], "--step", name, "--out", str(folder)]
    env = os.environ | {"HUMANEVAL_OVERRIDE_PATH": str(folder / "problems.jsonl"), "TOKENIZERS_PARALLELISM": "false"}
    if name == "judge":
        env["XDG_CACHE_HOME"] = str(folder)  # where EvalPlus keeps the references' answers
    log = folder / f"{name}.log"
    with open(log, "w") as file:
        process = subprocess.Popen(command, env=env, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        process.wait()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # vLLM's engine is a process of its own
    result = folder / f"{name}.json"
    if not result.exists():
        raise RuntimeError(f"{name} failed: {log.read_text()[-3000:]}")
    return dict(json.loads(result.read_text()))


def compare(folder: Path, number: int) -> dict[str, Any]:
    def held(file: str) -> list[dict[str, Any]]:
        return read_json_lines(folder / file)

    ours = step("ours", folder)
    print(json.dumps({"ours": ours}), flush=True)  # should EvalPlus fail, this is not lost
    drawn = step("draw", folder)
    judged = step("judge", folder)
    peer = drawn["seconds"] + judged["seconds"]["evalplus"]
    replies = {row["task_id"]: row["reply"].replace("\t", "    ").strip() for row in held("ours.jsonl")}
    same = [replies[row["task_id"]] == row["solution"].strip() for row in held("evalplus.raw.jsonl")]
    return {
        "problems": number,
        "ours_per_minute": round(60 * number / ours["seconds"], 1),
        "evalplus_per_minute": round(60 * number / peer, 1),
        "ratio": round(peer / ours["seconds"], 2),
        "seconds": {"ours": ours["seconds"], "evalplus draws": drawn["seconds"], "evalplus judges": judged["seconds"]},
        "references_s": judged["truth_s"],
        "tokens_of_ours": ours["tokens"],
        "passed": {"ours": len(ours["passed"]), "evalplus": len(judged["passed"]["evalplus"])},
        "our_programs_judged_by_evalplus": len(judged["passed"]["ours"]),
        "verdicts_that_differ": sorted(set(ours["passed"]) ^ set(judged["passed"]["ours"])),
        "passed_by_one_alone": sorted(set(ours["passed"]) ^ set(judged["passed"]["evalplus"])),
        "same_replies": sum(same),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems-file", type=Path, required=True)
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--gpu", action="store_true", help="on the card, whatever the profile says")
    parser.add_argument("--problems", type=int, default=164)
    parser.add_argument("--new-tokens", type=int, default=768)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--step", choices=STEPS, help="one step alone, in this process")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    gpu = ["generation.use_gpu=true"] if arguments.gpu else []
    profile = with_overrides(get_profile(arguments.profile), ["generation.engine=vllm", *gpu, *arguments.overrides])
    if arguments.step:
        result = STEPS[arguments.step](profile, arguments.out, arguments.new_tokens)
        (arguments.out / f"{arguments.step}.json").write_text(json.dumps(result))
        sys.stdout.flush()
        os._exit(0)  # EvalPlus leaves a thread that sleeps for 20 s
    folder = Path(tempfile.mkdtemp(prefix="evalplus-"))
    number = write_problems(arguments.problems_file, folder, arguments.problems)
    head = {"benchmark": "evaluation_plus", "model": profile.model.name, "new_tokens": arguments.new_tokens}
    print(json.dumps(head | {"batch_size": profile.generation.batch_size} | compare(folder, number)))


if __name__ == "__main__":
    main()
