"""Further tests for the test problems of MBPP and LeetCode, for a claim alone: what was drawn and judged on the given
tests is judged on these too, and nothing is drawn for it.

    python -m benchmarks.hardened_suites make  --suite mbpp=FILE --suite leetcode=FILE --tests hardened.jsonl.gz
    python -m benchmarks.hardened_suites judge --tests hardened.jsonl.gz --out OUT [--step confirm]

`make` hardens each problem as training problems are hardened (`app.reward.problems.hardening`), once. `judge` reads the
samples that `benchmarks.sft_arms` has left in OUT/STEP-N, and writes OUT/hardened-N beside it in the same form: results
by the further tests, of other suites as they are. A program that failed the given tests is not run again: they are
among the hardened ones. It prints each measurement by both kinds of tests, and what they come to pooled; a gain that is
there by the given tests alone is none. Each result is one JSON line.

The tests hold no question, no reference and no suite's prompt, so that nothing can be learnt from: neither as a file of
hardened problems nor as one of a user's own.
"""

import argparse
import dataclasses
import gzip
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from app.errors import UserError
from app.evaluation.stored_results import samples
from app.evaluation.suites.registry import get_suite
from app.evaluation.verdict_counts import Tally
from app.files.json_files import read_json, write_json
from app.problem_sets.leetcode import constraints_of
from app.problem_sets.problem_files import rows
from app.progress import progress
from app.records import Problem, ProblemStyle, Status
from app.reward.problems.hardening import Hardened, hardened
from app.reward.records import TrainingProblem
from app.sandbox.local import LocalJudges
from app.sandbox.tiers import confinement
from app.settings import SandboxSettings
from benchmarks.sft_arms import pooled, told_of

HARDENED = "hardened"
"""What the folders begin with that `judge` writes."""
SUITES = ("mbpp", "leetcode")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HardTests:
    """A test problem's tests. Made by `make`; read by `judge`."""

    suite: str
    problem: Problem
    """With given and further tests, without its prompt."""
    added: int
    """How many of its tests are further ones."""


def make(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    start = time.perf_counter()
    problems = [problem for text in arguments.suite for problem in problems_of(*text.split("=", 1))]
    arguments.tests.parent.mkdir(parents=True, exist_ok=True)
    held: dict[str, list[Hardened]] = defaultdict(list)
    settings = SandboxSettings(timeout_s=arguments.timeout, num_workers=arguments.workers)
    beside = arguments.tests.with_name(f".{arguments.tests.name}.new")
    with gzip.open(beside, "wt") as out, progress("further tests", len(problems), "problems") as update:
        for number, one in enumerate(hardened(problems, settings, confinement()), 1):
            out.write(json.dumps(row_of(one)) + "\n")
            held[one.problem.suite].append(one)
            update(number)
    beside.rename(arguments.tests)
    for suite, found in held.items():
        dropped = sum((Counter(dict(one.dropped)) for one in found), Counter[str]())
        yield {
            "suite": suite,
            "problems": len(found),
            "hardened": sum(bool(one.added) for one in found),
            "added": sum(len(one.added) for one in found),
            "dropped": dict(dropped.most_common()),
            "not_hardened": dict(Counter(one.why_not.partition(":")[0] for one in found if one.why_not).most_common()),
        }
    yield {"seconds": round(time.perf_counter() - start, 1), "bytes": arguments.tests.stat().st_size}


def problems_of(name: str, path: str = "") -> Iterator[TrainingProblem]:
    """A suite's test problems in the form in which hardening takes them, without a question that could be asked."""
    if name not in SUITES:
        raise UserError(f"{name} has no hardened tests: name {' or '.join(SUITES)}, each with its file")
    suite, file = get_suite(name), Path(path) if path else None
    told = {row["task_id"]: row for row in rows(file)} if file and name == "leetcode" else {}
    for task in suite.load(file):
        problem, row = task.problem, told.get(task.problem.id, {})
        yield TrainingProblem(
            suite=name,
            given=problem,
            problem=problem,
            reference=suite.whole_program(problem, task.canonical_solution),
            question=(),
            constraints=constraints_of(row) if row else "",
            second=suite.program(problem, "chat", row["response"]) if row.get("response") else "",
        )


def row_of(one: Hardened) -> dict[str, Any]:
    problem = dataclasses.replace(one.problem.problem, prompt="")
    return {"suite": one.problem.suite, "added": len(one.added), "problem": dataclasses.asdict(problem)}


def hard_tests(path: Path) -> dict[str, HardTests]:
    """Those of a file that `make` wrote, by the problem's id."""
    found = {}
    with gzip.open(path, "rt") as file:
        for row in map(json.loads, file):
            fields = row["problem"] | {"style": ProblemStyle(row["problem"]["style"])}
            one = HardTests(suite=row["suite"], problem=Problem(**fields), added=row["added"])
            found[one.problem.id] = one
    return found


def judge(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    tests = hard_tests(arguments.tests)
    settings = SandboxSettings(timeout_s=arguments.timeout, num_workers=arguments.workers)
    found = sorted(arguments.out.glob(f"{arguments.step}-*/evaluation/*/*/result.json"))
    if not found:
        raise UserError(f"{arguments.out} holds no measurement of the step {arguments.step}: measure first")
    with closing(LocalJudges(settings, confinement())) as judges:
        for path in found:
            run, (label, candidate) = path.parents[3], path.parts[-3:-1]
            place = run.with_name(f"{HARDENED}{run.name.removeprefix(arguments.step)}").joinpath(*path.parts[-4:])
            given = read_json(path)
            if label.partition("-")[0] not in SUITES:
                write_json(place, given)
                continue
            result = judged(path.with_name("samples.jsonl"), tests, judges, given, candidate)
            write_json(place, result)
            passed = {name: sum(one["pass_rates"].values()) for name, one in (("given", given), (HARDENED, result))}
            yield {"suite": label, "arm": candidate, "problems": len(given["pass_rates"]), **passed}
    for kind, step in (("given", arguments.step), (HARDENED, HARDENED)):
        for name, comparison in sorted(pooled(arguments.out, step).items()):
            yield {"pooled_by": kind, "arm": name, **told_of(comparison)}


def judged(
    path: Path, tests: Mapping[str, HardTests], judges: LocalJudges, given: Mapping[str, Any], candidate: str
) -> dict[str, Any]:
    """What result.json holds, by the hardened tests."""
    drawn = [row for _, row in samples(path)]
    if lacking := {row["draft"]["problem_id"] for row in drawn} - tests.keys():
        raise UserError(f"{path} has a sample of {min(lacking)!r}, of which the tests know nothing: make them anew")
    again = [row for row in drawn if row["verdict"]["status"] == Status.PASSED and _is_harder(row, tests)]
    programs: dict[str, list[str]] = defaultdict(list)
    for row in again:
        if row["program"] not in programs[row["draft"]["problem_id"]]:
            programs[row["draft"]["problem_id"]].append(row["program"])
    jobs: list[tuple[Problem, Sequence[str]]] = [(tests[name].problem, texts) for name, texts in programs.items()]
    verdicts = {
        (name, text): verdict
        for (name, texts), row in zip(programs.items(), judges.judge_all(jobs), strict=True)
        for text, verdict in zip(texts, row, strict=True)
    }
    known = {row["draft"]["problem_id"] for row in drawn}
    tally = Tally(one.problem for name, one in tests.items() if name in known)
    for row in drawn:
        name, verdict = row["draft"]["problem_id"], row["verdict"]
        if new := verdicts.get((name, row["program"])) if verdict["status"] == Status.PASSED else None:
            tally.add(name, new.status, new.tier, row["draft"], row["program"])
        else:
            tally.add(name, verdict["status"], verdict["tier"], row["draft"], row["program"])
    result = tally.result(given["result"]["suite"], given["result"]["protocol"], candidate)
    return dict(given) | {"result": dataclasses.asdict(result), "pass_rates": tally.pass_rates()}


def _is_harder(row: Mapping[str, Any], tests: Mapping[str, HardTests]) -> bool:
    return bool(tests[row["draft"]["problem_id"]].added)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    steps = parser.add_subparsers(required=True)
    for step in (make, judge):
        one = steps.add_parser(step.__name__)
        one.add_argument("--tests", type=Path, required=True, metavar="FILE.jsonl.gz")
        one.add_argument("--timeout", type=float, default=5.0, help="seconds for a program")
        one.add_argument("--workers", type=int, help="judges; a core each, if left out")
        one.set_defaults(work=step)
    steps.choices["make"].add_argument("--suite", action="append", required=True, metavar="NAME=FILE")
    one = steps.choices["judge"]
    one.add_argument("--out", type=Path, required=True, help="that of benchmarks.sft_arms")
    one.add_argument("--step", default="confirm", choices=("measure", "confirm"))
    arguments = parser.parse_args()
    for result in arguments.work(arguments):
        print(json.dumps({"benchmark": "hardened_suites", "step": arguments.work.__name__, **result}), flush=True)


if __name__ == "__main__":
    main()
