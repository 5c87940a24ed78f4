"""Deadlines: how a run's days are shared, that a training ends at its own with something to keep, and what status tells
of it."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from app import progress
from app.errors import UserError
from app.files.json_files import write_json
from app.planning.of_run import plan_of, stage_deadline
from app.profiles import smoke
from app.running import deadlines, heartbeat
from app.running.attempts import attempt_seconds, note_killed
from app.running.deadlines import NEVER, Deadline, cut_short, deadline_of, now
from app.running.heartbeat import Now, read_now
from app.running.status import Planned, as_json, as_text, require_run, seconds_by_stage
from app.running.status import progress as progress_of
from app.runs import Run, open_run, update_info
from app.settings import ScheduleSettings
from app.training.loop import until
from app.training.state import Progress

PLANNED = {"corpus": 10.0, "sft": 100.0, "grm": 200.0, "evolve": 100.0, "evaluate": 100.0}
OPEN = ("sft", "grm", "evolve", "evaluate")
OVER = Deadline(at=0.0, share_s=12.0)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    with open_run(tmp_path / "run", smoke(), resume=False) as run:
        return run


def left(deadline: Deadline) -> float:
    return deadline.at - now()


def test_a_stage_has_its_share_of_what_others_have_left() -> None:
    first = deadline_of("sft", OPEN, PLANNED, {"corpus": 50.0}, 1050.0)
    assert first.share_s == pytest.approx(200.0) and left(first) == pytest.approx(200.0, abs=1)
    late = deadline_of("grm", OPEN[1:], PLANNED, {"corpus": 50.0, "sft": 600.0}, 1050.0)
    assert late.share_s == pytest.approx(200.0), "of the 400 that are left, half of the plan's"
    assert deadline_of("evaluate", ["evaluate"], PLANNED, {"grm": 2000.0}, 1050.0).is_over()


def test_a_stage_that_goes_on_has_had_what_it_has_taken() -> None:
    again = deadline_of("grm", OPEN[1:], PLANNED, {"sft": 650.0, "grm": 150.0}, 1050.0)
    assert again.share_s == pytest.approx(200.0) and left(again) == pytest.approx(50.0, abs=1)


def test_what_was_not_planned_has_all_that_is_left() -> None:
    assert deadline_of("grm", OPEN, {}, {"corpus": 50.0}, 1050.0).share_s == 1000.0
    assert not NEVER.is_over() and OVER.is_over()
    assert cut_short(3, 40, OVER) == "after 3 of 40 steps, because the 12 s of its share were over"


def test_a_clock_that_jumps_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    deadline = Deadline(at=now() + 60)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert not deadline.is_over() and deadlines.now() < 4e9


@pytest.mark.parametrize(("begun", "deadline", "taken"), [(0, OVER, 1), (3, OVER, 0), (0, NEVER, 5)])
def test_a_training_past_its_deadline_takes_one_step_and_one_that_goes_on_none(
    begun: int, deadline: Deadline, taken: int
) -> None:
    def source(progress: Progress) -> Iterator[list[Any]]:
        for _ in range(5):
            yield []

    progress, steps = Progress(step=begun), 0
    for _ in until(source, deadline, torch.device("cpu"))(progress):
        progress.step += 1
        steps += 1
    assert steps == taken


def test_the_deadline_of_a_stage_is_noted_and_can_be_switched_off(run: Run) -> None:
    profile = smoke()
    found = stage_deadline(run, profile, "sft")
    assert run.deadlines()["sft"]["share_s"] == found.share_s and 3600 < found.share_s < 7 * 86400
    assert stage_deadline(run, profile, "grm").share_s > 3600, "by its own command, when=never or not"
    off = profile.model_copy(update={"schedule": ScheduleSettings(deadlines=False)})
    assert stage_deadline(run, off, "sft") == NEVER
    half = profile.model_copy(update={"schedule": ScheduleSettings(days=3.5)})
    assert stage_deadline(run, half, "sft").share_s == pytest.approx(found.share_s / 2)


def test_an_attempt_that_was_killed_took_the_time_until_its_last_sign_of_life(run: Run) -> None:
    update_info(run, stages={"sft": [{"start": 100.0, "end": None}], "validate sft": [{"start": 1.0, "end": 3.0}]})
    assert seconds_by_stage(run)["sft"] == 0
    note_killed(run.info, Now(at=160.0, host="h", pid=1))
    assert seconds_by_stage(run)["sft"] == 60 and seconds_by_stage(run)["validate"] == 2
    note_killed(run.info, Now(at=990.0, host="h", pid=2))
    assert seconds_by_stage(run)["sft"] == 60, "a later process's signs are not its own"
    assert attempt_seconds({"start": 100.0, "end": 40.0}) == 0, "where a clock was put back"


def test_a_process_at_work_tells_what_it_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "EVERY_S", 0.05)
    with open_run(tmp_path / "run", smoke(), resume=False) as run, progress.progress("sft", 12, "steps") as update:
        update(3, "loss 2.100")
        with run.attempt("sft"):
            _wait_for(lambda: (told := read_now(run.now)) is not None and told.done == 3)
            found = progress_of(run, Planned(seconds={"sft": 60.0, "grm": 30.0}))
    assert found.current and found.current.name == "sft" and 60 < found.left_s <= 90
    text, held = as_text(run, found), as_json(run, found)
    assert "now: sft: 3/12 steps loss 2.100" in text and "s are left" in text
    assert held["outcome"] == "running" and held["stages"][1]["left_s"] > 30
    assert json.loads(json.dumps(held)) == held


def _wait_for(condition: Any) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_status_tells_of_runs_that_are_cut_interrupted_complete_or_none(run: Run, tmp_path: Path) -> None:
    update_info(run, stages={"sft": [{"start": 0.0, "end": 9.0}], "grm": [{"start": 9.0, "end": None}]})
    write_json(run.sft_meta, {"cut": cut_short(3, 40, OVER)})
    said = as_text(run, progress_of(run, Planned(why="it can't be planned")))
    assert "interrupted" in said and f"--run {run.root} --resume" in said and "after 3 of 40 steps" in said
    assert "no planned times: it can't be planned" in said
    update_info(
        run, stages={name: [{"start": 0.0, "end": 2.0}] for name in ("corpus", "evaluate", "report", "validate")}
    )
    update_info(run, left_out=dict.fromkeys(("sft", "grm", "evolve"), "none of it"))
    run.sft_meta.unlink()
    assert as_text(run, progress_of(run, Planned())).startswith(f"run {run.root}: complete")
    for place, word in ((tmp_path / "none", "is not there"), (tmp_path, "holds no run.json")):
        with pytest.raises(UserError, match=word):
            require_run(place)
    assert "holds no run.json" in plan_of(tmp_path).why
