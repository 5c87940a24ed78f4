"""What the tests of the suites share: files of rows, verdicts on programs, and the real files where they are given."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from app.evaluation.suites.suite import ProgramSuite
from app.problem_sets.task import Task
from app.records import UNTRUSTED_TIERS, Problem, Status
from app.sandbox.supervisor import Supervisor
from tests.official import judged


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def statuses(supervisor: Supervisor, problem: Problem, programs: list[str]) -> list[str]:
    return [supervisor.judge(problem, program).status for program in programs]


def real(name: str) -> Path:
    """A file of the benchmarks' own, below the folder that POCKETCODER_DATA names; without it the test is skipped."""
    path = Path(os.environ.get("POCKETCODER_DATA", "")) / name
    if not os.environ.get("POCKETCODER_DATA") or not path.is_file():
        pytest.skip(f"set POCKETCODER_DATA to a folder that holds {name}")
    return path


def failing_references(suite: ProgramSuite, tasks: list[Task], timeout_s: float) -> list[str]:
    """Ids of the problems whose reference solution does not pass, or where a program could have forged it."""
    cases = [(task.problem, suite.given_program(task.problem, task.canonical_solution)) for task in tasks]
    verdicts = judged(cases, timeout_s)
    return [v.problem_id for v in verdicts if v.status != Status.PASSED or v.tier in UNTRUSTED_TIERS]
