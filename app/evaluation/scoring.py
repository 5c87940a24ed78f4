"""Scores samples that somebody else drew: several a problem, in human-eval's and EvalPlus's file format.

A sample is a JSON line {"task_id", "completion"} (what follows the prompt) or {"task_id", "solution"} (a whole
program). Run: python -m app evaluate --suite humaneval --samples FILE.jsonl [--json]
"""

from collections import Counter
from pathlib import Path
from typing import Any

from app.errors import UserError
from app.evaluation.humaneval import Task
from app.evaluation.statistics import bootstrap_interval, pass_at_k
from app.progress import progress
from app.records import IN_PROCESS, Judge, Status
from app.userfiles import read_rows

KS = (1, 10, 100)


def read_samples(path: Path, tasks: list[Task]) -> dict[str, list[str]]:
    """The programs of each problem that has samples. Raises UserError naming the line that is no sample."""
    prompts = {task.problem.id: task.problem.prompt for task in tasks}
    programs: dict[str, list[str]] = {}
    for number, row in read_rows(path, "--samples"):
        task_id, source = row.get("task_id"), row.get("solution", row.get("completion"))
        if type(task_id) is not str or type(source) is not str:
            raise UserError(
                f"{path}, line {number} is no sample: a sample is a JSON object with task_id and either completion or "
                "solution, all text"
            )
        if task_id not in prompts:
            raise UserError(f"{path}, line {number}: the suite has no task_id {task_id!r}, but {next(iter(prompts))!r}")
        programs.setdefault(task_id, []).append(source if "solution" in row else prompts[task_id] + source)
    if not programs:
        raise UserError(f"{path} holds no sample: give JSON lines with task_id and completion or solution")
    return programs


def score(suite: str, tasks: list[Task], programs: dict[str, list[str]], judge: Judge) -> dict[str, Any]:
    """pass@k is the mean over problems of the unbiased estimate; problems without samples are named, not failed.

    Verdicts of status infra and of the tier in_process are left out of the counts and shown apart.
    """
    chosen = [task.problem for task in tasks if task.problem.id in programs]
    statuses: Counter[str] = Counter()
    tiers: Counter[str] = Counter()
    counts: list[tuple[int, int]] = []
    left_out = 0
    with progress(suite, len(chosen), "problems") as update:
        jobs = ((problem, programs[problem.id]) for problem in chosen)
        for done, verdicts in enumerate(judge.judge_all(jobs), 1):
            statuses.update(verdict.status for verdict in verdicts)
            tiers.update(verdict.tier for verdict in verdicts)
            counted = [v for v in verdicts if v.status != Status.INFRA and v.tier != IN_PROCESS]
            left_out += len(verdicts) - len(counted)
            if counted:
                counts.append((len(counted), sum(v.status == Status.PASSED for v in counted)))
            update(done)
    if not counts:
        raise UserError(f"no sample of {suite} could be judged in the sandbox: {dict(statuses)}")
    result: dict[str, Any] = {
        "suite": suite,
        "problems": len(counts),
        "problems_without_samples": len(tasks) - len(chosen),
        "samples": sum(n for n, _ in counts),
        "samples_left_out": left_out,
        "passed": sum(c for _, c in counts),
        "status_counts": dict(statuses),
        "tier": ", ".join(sorted(tiers)),
    }
    for k in KS:
        if all(n >= k for n, _ in counts):
            values = [pass_at_k(n, c, k) for n, c in counts]
            result[f"pass@{k}"] = sum(values) / len(values)
            result[f"pass@{k}_interval_95"] = bootstrap_interval(values)
    return result
