"""The command of self-reward: a driver that is killed goes on where it was, and learns from the drafts that it had."""

from collections.abc import Callable
from pathlib import Path

import pytest

from app.files.json_files import read_json, read_json_lines
from app.models.adapters import WEIGHTS
from app.runs import Run
from tests.conftest import Cli
from tests.processes import started_and_killed
from tests.sums import sums_settings


@pytest.mark.timeout(600)
def test_a_stage_whose_driver_is_killed_goes_on_and_is_then_complete(cli: Cli, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    settings = [word for one in sums_settings(tmp_path) for word in ("--set", one)]
    arguments = ["grm", "--profile", "smoke", "--run", str(run.root), *settings]
    started_and_killed(arguments, tmp_path / "log", lambda: len(read_json_lines(run.arm("grpo").metrics)) >= 5)
    before, drawn = read_json_lines(run.arm("grpo").metrics), times(run)
    assert len(before) < 8 and not run.grm_meta.exists()
    done = cli(*arguments)
    assert done.returncode == 0 and done.stdout == f"grm: {run.grm}\n", done.stderr
    after = read_json_lines(run.arm("grpo").metrics)
    assert [row["step"] for row in after] == list(range(1, 9))
    rewards = [[row["reward_mean"] for row in rows[:5]] for rows in (before, after)]
    assert rewards[0] == rewards[1]
    assert {path: time for path, time in times(run).items() if path in drawn} == drawn, "nothing is drawn again"
    assert read_json(run.grm_meta)["steps"] == 8 and (run.grm_adapter / "adapter_config.json").exists()
    assert "grm: complete" in cli("grm", "--run", run.root).stderr


@pytest.mark.timeout(600)
def test_imitation_whose_driver_is_killed_in_its_second_round_goes_on(cli: Cli, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    arm, ours = run.arm("rft"), ["grm.arm=rft", "grm.imitate.batch=4", "grm.imitate.epochs=3"]
    settings = [word for one in [*sums_settings(tmp_path), *ours] for word in ("--set", one)]
    arguments = ["grm", "--profile", "smoke", "--run", str(run.root), *settings]
    started_and_killed(arguments, tmp_path / "log", lambda: len(read_json_lines(arm.metrics)) >= 3)
    first, lessons = (arm.round(1).adapter / WEIGHTS).read_bytes(), arm.lessons.read_bytes()
    drawn = {path: path.stat().st_mtime_ns for path in (run.grm_rates, *arm.drafts.glob("*.parquet"))}
    assert len(drawn) == 3 and not run.grm_meta.exists()
    done = cli(*arguments)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in drawn} == drawn, "nothing is drawn again"
    assert (arm.round(1).adapter / WEIGHTS).read_bytes() == first and arm.lessons.read_bytes() == lessons
    steps = [row["step"] for row in read_json_lines(arm.metrics)]
    assert steps == list(range(1, len(steps) + 1))
    rounds = read_json(run.grm_meta)["rounds"]
    assert [one["round"] for one in rounds] == [1, 2] and rounds[1]["steps"] == len(steps)


@pytest.mark.timeout(1500)
def test_a_pipeline_killed_in_each_part_of_self_reward_ends_with_all_of_them(cli: Cli, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    ours = ["grm.when=always", "sft.when=auto", "corpus.max_files=12", "corpus.max_mined_files=0"]
    settings = [word for one in [*sums_settings(tmp_path), *ours] for word in ("--set", one)]
    arguments = ["pipeline", "--profile", "smoke", "--run", str(run.root), *settings]
    moments: list[Callable[[], object]] = [
        lambda: list(run.grm_problems.glob("part-*")),
        lambda: len(read_json_lines(run.arm("grpo").metrics)) >= 5,
        lambda: len(read_json_lines(run.grm_audit)) >= 10,
        lambda: read_json_lines(run.suite_samples("ours-chat-6", "grm")),
        run.decision("grm").exists,
    ]
    for number, moment in enumerate(moments):
        started_and_killed([*arguments, *["--resume"] * (number > 0)], tmp_path / "log", lambda: bool(moment()))  # noqa: B023
        assert not run.report_html.exists()
    done = cli(*arguments, "--resume")
    assert done.returncode == 0 and "grm: complete" in done.stderr, done.stderr
    rows = read_json_lines(run.arm("grpo").metrics)
    assert [row["step"] for row in rows] == list(range(1, 9)), "no step is lost, none is there twice"
    keys = [(row["problem_id"], row["file"], row["sample"]) for row in read_json_lines(run.grm_audit)[1:]]
    assert len(keys) == len(set(keys)), "no draft was audited twice"
    assert run.suite_result("humaneval-chat-6", "grm").exists() and "## Self-reward" in run.report_md.read_text()


def times(run: Run) -> dict[Path, int]:
    """When each file of drafts was written."""
    files = [run.grm_rates, *run.arm("grpo").drafts.glob("*.parquet")]
    return {path: path.stat().st_mtime_ns for path in files}
