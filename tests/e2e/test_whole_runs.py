"""Whole runs on a Ray of their own: one that is struck and resumed, and one whose training does harm."""

from pathlib import Path

import pytest
import yaml

from app.evaluation.gate import read_decision
from app.runs import Run
from tests.campaign import Undisturbed, fight_by, undisturbed  # noqa: F401
from tests.conftest import ROOT, Cli
from tests.library import write_library

SEED = 20
"""Of the campaign: a driver in its training or soon after it, and in evolution one of Ray's own processes."""
EASY = [f"ours/basics/{name}" for name in ("is-long-word", "without-spaces", "half-of")]
"""SmolLM2 solves them."""


@pytest.mark.timeout(900)
def test_a_run_that_is_struck_ends_as_an_undisturbed_one(
    undisturbed: Undisturbed,  # noqa: F811
    tmp_path: Path,
) -> None:
    """By the moments and victims of one seed; of thirty: tests/faults."""
    assert fight_by(SEED, undisturbed, tmp_path).killed


@pytest.mark.timeout(900)
def test_a_stage_that_does_harm_is_not_kept_unless_the_user_says_so(cli: Cli, tmp_path: Path) -> None:
    """SmolLM2, trained at a hundred times the usual rate: it solves easy problems before, and none after."""
    run, changes = Run(tmp_path / "run"), []
    basics = yaml.safe_load((ROOT / "datasets/problems/basics.yaml").read_text())
    basics["problems"] = [one for one in basics["problems"] if one["id"] in EASY]
    (tmp_path / "easy.yaml").write_text(yaml.safe_dump(basics, sort_keys=False))
    for change in (
        "model.source=package",
        "model.name=SmolLM2-135M-Instruct",
        f"corpus.recipe={write_library(tmp_path)}",
        "corpus.max_mined_files=0",
        "corpus.seq_len=64",
        "sft.learning_rate=2e-2",
        "sft.micro_batch=1",
        "sft.grad_accumulation=1",
        "sft.max_steps=3",
        "generation.batch_size=16",
        f"validation.problems=[ours={tmp_path / 'easy.yaml'}]",
        "validation.num_problems=3",
        "validation.max_new_tokens=40",
        "evaluation.num_problems=1",
        "evaluation.max_new_tokens=1",
    ):
        changes += ["--set", change]
    done = cli("pipeline", "--profile", "smoke", "--run", run.root, *changes, timeout=600)
    assert done.returncode == 0, done.stderr
    decision = read_decision(run, "sft")
    assert decision and decision.comparison and decision.comparison.num_better < decision.comparison.num_worse
    assert not decision.kept and decision.reason.startswith("it solves fewer, -") and run.adapters() == {}
    assert f"sft is not kept: {decision.reason}" in done.stderr
    assert "Kept is the base model, without an adapter." in run.report_md.read_text()
    done = cli("pipeline", "--run", run.root, "--resume", "--keep-anyway")
    assert done.returncode == 0, done.stderr
    assert list(run.adapters()) == ["sft"] and "you said --keep-anyway" in run.report_md.read_text()
    assert cli("pipeline", "--run", run.root, "--resume").returncode == 0
    assert list(run.adapters()) == ["sft"], "the user's word holds for the adapter it was said of"
