"""Further tests for problems to learn from: how many, how long it takes, and which drafts they tell from right ones.

    python -m benchmarks.hardening --source mbpp=FILE --source leetcode=FILE --out hardened.parquet [--parts FOLDER]
    python -m benchmarks.hardening --hardened hardened.parquet --drafts drafts.jsonl.gz --verdicts verdicts.jsonl.gz

The first form makes the tests and writes them, with --parts by and by, so that it goes on where it was ended; the
second reads them. Drafts and their verdicts on the given tests have
the form of `benchmarks.drafts`; each different program that passes the given tests is judged on all. One JSON line.
"""

import argparse
import dataclasses
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from app.progress import progress
from app.records import IN_PROCESS, Problem
from app.reward.drafts.drafting import program_in, shape_of
from app.reward.problems.find import load
from app.reward.problems.hardening import Hardened, hardened
from app.reward.problems.store import counts_of, made_once, read, write
from app.sandbox.local import LocalJudges
from app.sandbox.tiers import confinement
from app.settings import SandboxSettings
from benchmarks.drafts import json_rows


def made(sources: Sequence[str], parts: Path | None, settings: SandboxSettings) -> Iterator[Hardened]:
    problems, confined = load(sources), confinement()
    held = made_once(parts, problems, settings, confined) if parts else hardened(problems, settings, confined)
    with progress("further tests", len(problems), "problems") as update:
        for number, one in enumerate(held, 1):
            update(number)
            yield one


def judged(held: Sequence[Hardened], arguments: argparse.Namespace, settings: SandboxSettings) -> dict[str, Any]:
    """By suite: drafts, those that pass the given tests, and those of them that fail the others; copies apart."""
    known = {one.problem.given.id: one.problem for one in held}
    passed = {
        (row["id"], row["sample"], row["temperature"])
        for row in json_rows(arguments.verdicts)
        if row["status"] == "passed" and row["tier"] != IN_PROCESS
    }
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    copies: dict[str, dict[str, tuple[str, int]]] = defaultdict(dict)
    for row in json_rows(arguments.drafts):
        if problem := known.get(row["id"]):
            counts[problem.suite]["drafts"] += 1
            if (row["id"], row["sample"], row["temperature"]) in passed:
                program = program_in(problem, row["text"])
                shape = shape_of(program)
                copies[row["id"]][shape] = (program, copies[row["id"]].get(shape, ("", 0))[1] + 1)
    jobs: list[tuple[Problem, list[str]]] = [
        (known[name].problem, [program for program, _ in programs.values()]) for name, programs in copies.items()
    ]
    with closing(LocalJudges(settings, confinement())) as judges:
        for (name, programs), verdicts in zip(copies.items(), judges.judge_all(jobs), strict=True):
            count = counts[known[name].suite]
            fails = [number for (_, number), v in zip(programs.values(), verdicts, strict=True) if v.reward != 1]
            count["pass_given"] += sum(number for _, number in programs.values())
            count["of_these_fail"] += sum(fails)
            count["different_pass_given"] += len(programs)
            count["different_of_these_fail"] += len(fails)
            count["problems_solved_given"] += 1
            count["problems_solved"] += len(fails) < len(programs)
    return {suite: dict(count) for suite, count in counts.items()}


def by_suite(held: Iterable[Hardened]) -> dict[str, Any]:
    groups: dict[str, list[Hardened]] = defaultdict(list)
    for one in held:
        groups[one.problem.suite].append(one)
    return {suite: dataclasses.asdict(counts_of(group)) for suite, group in groups.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", action="append", default=[], metavar="NAME[=PATH]")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--parts", type=Path, metavar="FOLDER")
    parser.add_argument("--hardened", type=Path)
    parser.add_argument("--drafts", nargs="+", default=[])
    parser.add_argument("--verdicts", nargs="+", default=[])
    parser.add_argument("--timeout", type=float, default=5.0)
    parser.add_argument("--workers", type=int)
    arguments = parser.parse_args()
    settings = SandboxSettings(timeout_s=arguments.timeout, num_workers=arguments.workers)
    begun = time.perf_counter()
    held = read(arguments.hardened) if arguments.hardened else list(made(arguments.source, arguments.parts, settings))
    result: dict[str, Any] = {"benchmark": "hardening", "suites": by_suite(held)}
    if not arguments.hardened:
        result["seconds"] = round(time.perf_counter() - begun, 1)
    if arguments.out:
        write(arguments.out, held)
        result["bytes"] = arguments.out.stat().st_size
    if arguments.drafts:
        result["drafts"] = judged(held, arguments, settings)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
