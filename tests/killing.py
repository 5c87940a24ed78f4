"""A command that is killed at a chosen moment, by which tests say what survives it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from app.files.json_files import read_json_lines
from app.models.adapters import WEIGHTS
from app.runs import Run
from tests.processes import started_and_killed


def start_and_kill(folder: Path, ready: Callable[[Run], bool], *command: str) -> None:
    """Start a command on this run, and end the driver with SIGKILL as soon as `ready`."""
    arguments = [*command, "--profile", "smoke", "--run", str(folder)]
    started_and_killed(arguments, folder.with_suffix(".log"), lambda: ready(Run(folder)))


def assert_learnt_as(run: Run, whole: Run) -> None:
    """Every step once with the loss of the uninterrupted run, and its adapter."""
    ours, theirs = read_json_lines(run.sft_metrics), read_json_lines(whole.sft_metrics)
    assert [row["step"] for row in ours] == list(range(1, 13)), "no step is lost, none is there twice"
    assert [row["loss"] for row in ours] == pytest.approx([row["loss"] for row in theirs], rel=1e-4)
    adapters = [load_file(r.sft_adapter / WEIGHTS) for r in (run, whole)]
    for name, tensor in adapters[1].items():
        assert (adapters[0][name] - tensor).norm() <= 2e-3 * tensor.norm(), name


def assert_answers_as(run: Run, whole: Run) -> None:
    """Both models' answers are those of the uninterrupted run, word for word."""
    for candidate in ("base", "sft"):
        samples = [read_json_lines(r.suite_samples("humaneval-chat-6", candidate)) for r in (run, whole)]
        texts = [{s["draft"]["problem_id"]: s["draft"]["text"] for s in drawn} for drawn in samples]
        assert texts[0] == texts[1] and len(samples[0]) == 6
