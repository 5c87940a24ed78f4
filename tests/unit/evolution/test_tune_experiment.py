"""Tune experiments, whoever made them, read and reported from their folder alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.errors import UserError
from app.evolution.tune_experiment import read_experiment
from app.report import write_tune_report


def told(time: int, fitness: float, **more: Any) -> dict[str, Any]:
    return {"fitness": fitness, "training_iteration": time, "time_this_iter_s": 2.0, "pid": 7, "done": False} | more


def trial(folder: Path, name: str, *rows: dict[str, Any]) -> Path:
    place = folder / f"train_{name}_some=tags"
    place.mkdir()
    (place / "result.json").write_text("".join(json.dumps({"trial_id": name} | row) + "\n" for row in rows))
    return place


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two trials of somebody's script, one of which failed, begun anew after its first report."""
    trial(tmp_path, "a_1", told(1, 0.2, config={"lr": 0.1, "deep": {"width": 8}}, accuracy=0.5))
    place = trial(
        tmp_path,
        "a_2",
        told(1, 0.1, config={"lr": 0.2, "deep": {"width": 8}}),
        told(1, 0.3, config={"lr": 0.2, "deep": {"width": 8}}),
        told(2, float("nan"), config={"lr": 0.4, "deep": {"width": 8}}),
    )
    (place / "error.txt").write_text("Traceback ...\nValueError: a | b <script>\n")
    (tmp_path / "pbt_global.txt").write_text('["1_lr=0.1", "0_lr=0.2@perturbed", 1, 1, {}, {}]\n["1_lr')
    return tmp_path


def test_the_fittest_report_comes_first_and_the_later_of_two_counts(folder: Path) -> None:
    found = read_experiment(folder)
    assert [(one.trial, one.time, one.fitness) for one in found.reports] == [
        ("a_2", 1, 0.3),
        ("a_1", 1, 0.2),
        ("a_2", 2, None),
    ]
    assert found.trials == 2 and found.figures == ["accuracy"] and found.varying == ["lr"]
    assert found.errors == {"a_2": "ValueError: a | b <script>"} and found.places == [(1, "1", "0")]


def test_the_report_of_an_experiment_is_whole_and_inert(folder: Path) -> None:
    page = write_tune_report(folder)
    text, html = page.with_suffix(".md").read_text(), page.read_text()
    assert "The fittest is **a_2** in report 1: fitness 0.3000." in text and "1 trial(s) failed" in text
    assert "| a_2 | 2 | none | 0.4 |" in text and "| 1 | 1 | 0 |" in text
    assert "<script>" not in html and html.count("data:image/png") == 1


def test_an_individual_is_named_as_in_the_report_of_its_run(tmp_path: Path) -> None:
    trial(tmp_path, "5f0c1_00003", told(1, 0.2, individual="5f0c1_00003.1"), told(2, 0.4, individual="5f0c1_00003.2"))
    assert [one.who for one in read_experiment(tmp_path).reports] == ["3.2", "3.1"]


def test_what_is_no_experiment_or_tells_no_fitness_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no folder"):
        read_experiment(tmp_path / "none")
    with pytest.raises(UserError, match="holds no report of a trial"):
        read_experiment(tmp_path)
    trial(tmp_path, "a_1", {"loss": 1.5, "training_iteration": 1})
    with pytest.raises(UserError, match="reports 'fitness', but loss"):
        read_experiment(tmp_path)
