"""Imitation in rounds: a driver that is killed goes on where it was, and learns from the drafts that it had. Learning
by reward is killed in the campaign."""

from pathlib import Path

import pytest

from app.files.json_files import read_json, read_json_lines
from app.models.adapters import WEIGHTS
from app.runs import Run
from tests.conftest import Cli
from tests.processes import started_and_killed
from tests.sums import sums_settings


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
