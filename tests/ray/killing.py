"""A training worker that is lost in the middle."""

import time
from pathlib import Path
from typing import Any

from app.files.json_files import BrokenFileError, read_json, read_json_lines
from tests.processes import below

Killed = tuple[int, list[dict[str, Any]]]
"""The step of the checkpoint that a training goes on from, and its metrics at the time."""


def kill_a_worker(work: Path, metrics: Path, killed: list[Killed]) -> None:
    """End one training worker of this process's Ray with SIGKILL, once Ray has taken a checkpoint and steps came after
    it. work, metrics: of the stage."""
    deadline = time.monotonic() + 600
    while not 0 < (step := _step_of_checkpoint(work)) < len(rows := read_json_lines(metrics)):
        assert time.monotonic() < deadline
        time.sleep(0.03)
    max(below("ray::RayTrainWorker"), key=lambda worker: worker.pid).kill()
    killed.append((step, rows))


def _step_of_checkpoint(work: Path) -> int:
    """Of the newest checkpoint that Ray's controller knows of, which is seconds after the worker reported it; 0 while
    there is none, and while the list is being written."""
    try:
        snapshot = read_json(work / "train" / "checkpoint_manager_snapshot.json")
    except (OSError, BrokenFileError):
        return 0
    newest = snapshot["latest_checkpoint_result"]
    return newest["metrics"]["step"] if newest else 0
