"""Jobs on a cluster that wants a token, by the commands of docs/cluster.md as they stand there (`documented.py`)."""

import stat
from pathlib import Path

from app.files.json_files import read_json, read_json_lines
from app.runs import Run


def typed(jobs: Path, name: str) -> str:
    return (jobs / f"{name}.txt").read_text()


def test_a_job_without_the_token_is_refused_and_says_why(jobs: Path) -> None:
    assert typed(jobs, "refused").endswith("exit code 1\n")
    assert "Authentication required: Unauthorized: Missing authentication token" in typed(jobs, "refused")


def test_the_token_is_the_users_alone(jobs: Path) -> None:
    token = jobs / "home" / ".ray" / "auth_token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600 and len(token.read_text()) >= 32
    assert token.read_text() not in (jobs / "first.txt").read_text()


def test_the_documented_job_puts_its_run_where_all_nodes_see_it(jobs: Path) -> None:
    assert "Job 'first' succeeded" in typed(jobs, "first")
    assert Run(jobs / "shared" / "runs" / "first").report_html.exists()
    assert not (jobs / "elsewhere").exists(), "the job's environment says where runs go, before the node's"


def test_a_stopped_training_saves_its_last_step_and_ends_by_itself(jobs: Path) -> None:
    assert "Job 'training' was stopped" in typed(jobs, "stopped")
    log = typed(jobs, "log")
    assert "interrupted: the training saves a checkpoint" in log
    assert "pocketcoder: interrupted: give the same command again to go on" in log, "it was not killed"
    steps = len(read_json_lines(jobs / "at_stop" / "metrics.jsonl"))
    (state,) = (jobs / "at_stop" / "work" / "train").glob("checkpoint_*/state.json")
    assert read_json(state)["step"] == steps < 40, "sft.checkpoint_every=40 would have saved none before"


def test_a_stopped_training_goes_on_where_it_was(jobs: Path) -> None:
    assert "Job 'training-goes-on' succeeded" in typed(jobs, "gone_on")
    run, before = Run(jobs / "shared" / "runs" / "staged"), read_json_lines(jobs / "at_stop" / "metrics.jsonl")
    rows = read_json_lines(run.sft_metrics)
    assert [row["step"] for row in rows] == list(range(1, len(before) + 2))
    assert rows[: len(before)] == before, "none is done again"
    assert read_json(run.sft_meta)["steps"] == len(rows) and not run.sft_work.exists()
