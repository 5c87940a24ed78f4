"""What `benchmarks.published` asks, and how its drafts are read and judged: verdicts while others are drawn."""

import argparse
import gzip
import json
import os
import queue
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.evaluation.measure import spoken
from app.evaluation.suites.registry import evenly_spaced, get_suite
from app.evaluation.suites.suite import Suite
from app.evaluation.verdict_counts import Tally
from app.files.json_files import read_json
from app.problem_sets import mbpp
from app.problem_sets.problem_files import rows
from app.prompting.protocols import EVALPLUS_STOP
from app.records import FinishReason, Problem, ProblemStyle, Verdict
from app.sandbox.local import LocalJudges
from app.sandbox.tiers import confinement
from app.settings import SandboxSettings

FILES = {
    "humaneval_plus": "evalplus/HumanEvalPlus.jsonl.gz",
    "mbpp": "mbpp/mbpp.jsonl",
    "mbpp_sanitized": "mbpp/mbpp_sanitized.jsonl",
    "mbpp_sanitized, all": "mbpp/mbpp_sanitized.jsonl",
    "mbpp_plus": "evalplus/MbppPlus-v0.1.0.jsonl.gz",
    "mbpp_plus, base": "evalplus/MbppPlus-v0.1.0.jsonl.gz",
    "leetcode": "leetcode/LeetCodeDataset-v0.2.0-test.jsonl.gz",
    "mbpp_tuning": "mbpp/mbpp.jsonl",
    "leetcode_tuning": "leetcode/LeetCodeDataset-v0.2.0-train.jsonl.gz",
    "tooluse": "bfcl",
}
"""Below --data, by suite; the others come with the project and its packages. Two are for comparison alone: the 427
tasks of sanitized MBPP, of which EvalPlus chose its own, and MBPP+ with MBPP's inputs only, on which EvalPlus' score of
MBPP is."""
READINGS = ("product", "uncut", "sanitize", "sanitize uncut")
"""How a program is found in a draft: by the product or by EvalPlus' `sanitize`, with EvalPlus' stop texts or without
them where the answer was begun."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to ask for a program."""

    words: str
    begun: bool = False
    system: bool = True


WAYS = {
    "chat": Way("ours"),
    "evalplus": Way("evalplus", begun=True),
    "completion": Way("completion"),
    "chat, begun": Way("ours", begun=True),
    "evalplus, not begun": Way("evalplus"),
    "chat, no system": Way("ours", system=False),
    "evalplus, no system": Way("evalplus", begun=True, system=False),
    "chat, begun, no system": Way("ours", begun=True, system=False),
    "evalplus, not begun, no system": Way("evalplus", system=False),
}
PUBLISHED = ("humaneval", "humaneval_plus", "mbpp", "mbpp_plus, base", "mbpp_plus")
ASKED = [way for way, asked in WAYS.items() if asked.words != "completion"]
ONE_CHANGE = ("chat, begun", "evalplus, not begun", "chat, no system", "evalplus, no system")
Key = tuple[str, str, str]
"""Weights ("gguf", or "again, draw N" (`benchmarks.requantise`)), suite, way."""


class Suites:
    """Each suite with the problems that are asked, loaded once."""

    def __init__(self, data: Path, num_problems: int | None) -> None:
        self._data, self._num, self._held = data, num_problems, dict[str, tuple[Suite, dict[str, Problem]]]()

    def __getitem__(self, name: str) -> tuple[Suite, dict[str, Problem]]:
        if name not in self._held:
            suite, path = get_suite(name.partition(",")[0]), self._data / FILES[name] if name in FILES else None
            if name.endswith(", base"):
                suite.base_only = True  # type: ignore[attr-defined]
            if path and name.endswith(", all"):
                tasks = mbpp.tasks_of(rows(path), str(path), "prompt")
            else:
                tasks = suite.load(path)
            tasks = evenly_spaced(tasks, self._num)
            self._held[name] = suite, {task.problem.id: task.problem for task in tasks}
        return self._held[name]


class Judging:
    """Judges drafts in a thread of its own; leaving it waits until all are judged, or until --seconds are over."""

    def __init__(self, arguments: argparse.Namespace, suites: Suites) -> None:
        self._out, self._suites = arguments.out, suites
        self._until = time.perf_counter() + arguments.seconds
        held = arguments.out / "model.json"
        self._model = read_json(held)["model"] if held.exists() else arguments.out.name
        settings = SandboxSettings(num_workers=arguments.workers)
        self._judges = LocalJudges(settings, confinement())
        self._verdicts: dict[tuple[str, str], Verdict] = {}
        self._waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> "Judging":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.put(None)
        self._thread.join(max(0.0, self._until - time.perf_counter()))
        if self._thread.is_alive():
            report(self._out, unfinished="judging: the step `judge` does the rest")
            os._exit(0)  # threads that wait for their judges would hold the process
        self._judges.close()

    def put(self, key: Key, drafts: dict[str, dict[str, Any]], reading: str = "product") -> None:
        self._waiting.put((key, drafts, reading))

    def _work(self) -> None:
        while (job := self._waiting.get()) is not None:
            key, drafts, reading = job
            try:
                self._judge(key, drafts, reading)
            except Exception as error:  # one suite's failure is not the others'
                report(self._out, failed=key, reading=reading, error=f"{type(error).__name__}: {error}")

    def _judge(self, key: Key, drafts: dict[str, dict[str, Any]], reading: str) -> None:
        weights, name, way = key
        tally, passed = Tally(self._suites[name][1].values()), []
        for problem, draft, program, verdict in self._judged(name, drafts, WAYS[way], reading):
            tally.add(problem.id, verdict.status, verdict.tier, draft, program)
            if verdict.status == "passed":
                passed.append(problem.id)
        found = tally.result(name, way, weights)
        score = found.pass_at["1"]
        report(
            self._out,
            {"passed_ids": passed, "ids": list(tally.pass_rates())},
            model=self._model,
            weights=weights,
            suite=name,
            way=way,
            reading=reading,
            passed=found.num_passed,
            n=found.num_samples,
            percent=round(100 * score.value, 1),
            interval_95=[round(100 * end, 1) for end in score.interval_95],
            replies={share: round(value, 3) for share, value in found.replies.items()},
            statuses=found.status_counts,
            tokens=found.num_tokens,
        )

    def _judged(
        self, name: str, drafts: dict[str, dict[str, Any]], way: Way, reading: str
    ) -> Iterator[tuple[Problem, dict[str, Any], str, Verdict]]:
        suite, problems = self._suites[name]
        read = [(problems[p], *program_of(suite, problems[p], d, way, reading)) for p, d in drafts.items()]
        if read[0][0].style == ProblemStyle.CALLS:
            for problem, draft, _ in read:
                verdict = suite.verdict(problem, protocol_of(way), (spoken(protocol_of(way), draft["text"], ""),))
                assert verdict is not None
                yield problem, draft, "", verdict
            return
        new = {(f"{name}: {problem.id}", program): problem for problem, _, program in read}
        new = {seen: problem for seen, problem in new.items() if seen not in self._verdicts}
        judged = self._judges.judge_all((problem, [program]) for (_, program), problem in new.items())
        for seen, (verdict,) in zip(new, judged, strict=True):
            self._verdicts[seen] = verdict
        for problem, draft, program in read:
            yield problem, draft, program, self._verdicts[f"{name}: {problem.id}", program]


def protocol_of(way: Way) -> str:
    """The product's protocol by which a reply is read."""
    return "completion" if way.words == "completion" else "evalplus" if way.begun else "chat"


def program_of(
    suite: Suite, problem: Problem, draft: dict[str, Any], way: Way, reading: str
) -> tuple[dict[str, Any], str]:
    """The draft as this reading leaves it, and the program in it."""
    cuts = EVALPLUS_STOP if way.begun and "uncut" not in reading else ()
    end = min((place for stop in cuts if (place := draft["text"].find(stop)) >= 0), default=None)
    if end is not None:
        draft = draft | {"text": draft["text"][:end], "finish_reason": str(FinishReason.STOP)}
    if problem.style == ProblemStyle.CALLS:
        return draft, ""
    if reading.startswith("sanitize"):
        from evalplus.sanitize import sanitize  # type: ignore[import-not-found]

        return draft, suite.whole_program(problem, sanitize(draft["text"], entrypoint=problem.entry_point))
    return draft, suite.program(problem, protocol_of(way), spoken(protocol_of(way), draft["text"], ""))


def held_drafts(out: Path) -> Iterator[tuple[Key, dict[str, dict[str, Any]]]]:
    """What is in the file, up to where a kill cut it off."""
    path = out / "drafts.jsonl.gz"
    if not path.exists():
        return
    with gzip.open(path, "rt") as file:
        try:
            for line in file:
                row = json.loads(line)
                yield tuple(row["key"]), row["drafts"]
        except (EOFError, ValueError, zlib.error, gzip.BadGzipFile) as error:
            print(f"{path} was cut off: {error}", file=sys.stderr)


def held_results(out: Path) -> list[dict[str, Any]]:
    path = out / "results.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [row for row in rows if "passed" in row]


def report(out: Path, more: dict[str, Any] | None = None, **row: Any) -> None:
    """Print a JSON line, and append it with what is too long to print."""
    print(json.dumps({"benchmark": "published"} | row), flush=True)
    with open(out / "results.jsonl", "a") as file:
        file.write(json.dumps(row | (more or {})) + "\n")
