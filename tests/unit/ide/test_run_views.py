"""What the page shows of a run directory: which runs there are, where the pipeline is, and what stages came to."""

import fcntl
import os
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from app.errors import UserError
from app.files.json_files import append_json_line, read_json, write_json
from app.ide import run_views
from app.ide.planned import Plans
from app.ide.run_list import RunList
from app.ide.run_progress import shown
from app.ide.run_tabs import RunTabs
from app.overrides import with_overrides
from app.planning.of_run import plan_of
from app.profiles import smoke
from app.running.deadlines import time_words
from app.running.status import Planned, State, is_at_work, progress
from app.runs import Run, open_run, update_info
from tests.library import write_library
from tests.unit.evolution.made_run import write_evolution
from tests.unit.test_report import META, figures


@pytest.fixture
def run(tmp_path: Path) -> Run:
    with open_run(tmp_path / "run", smoke(), resume=False) as run:
        return run


def stages(run: Run, **attempts: list[tuple[float, float | None]]) -> None:
    held = {name.replace("_", " "): [{"start": a, "end": b} for a, b in some] for name, some in attempts.items()}
    update_info(run, stages=held)


def states(run: Run, plan: Planned | None = None) -> dict[str, Any]:
    return {one.name: one for one in progress(run, plan).stages}


def test_runs_are_named_and_nothing_else_of_the_disk_is_opened(run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.root, tmp_path / "newer")
    os.utime(run.info, (1, 1))
    (tmp_path / "no run").mkdir()
    assert RunList(None, [tmp_path]).names() == ["newer", "run"]
    listed = RunList(run.root, [tmp_path])
    assert listed.names() == ["run", "newer"] and listed.open("newer").root == tmp_path / "newer"
    for name in ("no run", "../run", str(run.root), None):
        with pytest.raises(UserError, match="There is no run"):
            listed.open(name)


def test_a_stage_is_done_running_interrupted_waiting_or_left_out(run: Run) -> None:
    stages(
        run, corpus=[(0, 30.0)], sft=[(40.0, 50.0), (60.0, None)], validate_grm=[(0, 2.0)], validate_evolve=[(3, 4.5)]
    )
    update_info(run, left_out={"evolve": "nothing <b>varies</b>"})
    found = states(run, Planned(seconds={"corpus": 20.0, "sft": 100.0, "evolve": 5.0}))
    assert {name: one.state for name, one in found.items()} == {
        "corpus": State.DONE,
        "sft": State.INTERRUPTED,
        "grm": State.WAITING,
        "evolve": State.LEFT_OUT,
        "validate": State.DONE,
        "evaluate": State.WAITING,
        "report": State.WAITING,
    }
    assert (found["corpus"].used_s, found["sft"].used_s, found["validate"].used_s) == (30.0, 10.0, 3.5)
    assert found["evolve"].planned_s is None
    page = shown(run, progress(run, Planned(seconds={"corpus": 20.0})))
    assert "150 %" in page and "Interrupted" in page and "nothing &lt;b&gt;varies" in page and "\n" not in page


def test_a_stage_runs_where_a_process_holds_the_lock_which_is_not_taken(run: Run) -> None:
    stages(run, grm=[(0, None)])
    for number in (1, 2):
        append_json_line(run.arm("grpo").metrics, asdict(figures(number, 0.2)))
    assert not is_at_work(run)
    with open(run.root / "run.lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert is_at_work(run)
        found = progress(run, None)
        assert found.current and found.current.state is State.RUNNING and found.current.note == "step 2 of 2"
        assert found.current.used_s > 1e9 and "the plan is being made" in shown(run, found)
    assert states(run)["grm"].state is State.INTERRUPTED


def test_the_plan_is_the_pipelines_own_without_what_is_left_out(tmp_path: Path) -> None:
    small = with_overrides(smoke(), [f"corpus.recipe={write_library(tmp_path)}"])
    with open_run(tmp_path / "planned", small, resume=False) as run:
        found = plan_of(run.root)
    assert found.why == "" and {"corpus", "sft", "evaluate"} <= found.seconds.keys(), found
    assert not {"grm", "evolve"} & found.seconds.keys()


def test_plans_are_made_by_a_process_of_their_own_once(run: Run) -> None:
    run.info.unlink()
    plans = Plans()
    assert plans.of(run) is None
    end = time.monotonic() + 60
    while (found := plans.of(run)) is None:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert "holds no run.json" in found.why and plans.of(run) is found


def test_times_are_told_in_the_unit_that_suits_them() -> None:
    assert [time_words(s) for s in (0.4, 45, 600, 9000, 300_000)] == ["0 s", "45 s", "10 min", "2.5 h", "3.5 days"]


def test_what_a_run_does_not_have_is_said_in_one_sentence(run: Run) -> None:
    for name, view in run_views.VIEWS.items():
        said = run_views.shown(view, run)
        assert "yet" in said and "<table" not in said and "<img" not in said, name
    update_info(run, left_out={"evolve": "evolve.when=never says so"})
    assert "Evolution was left out: evolve.when=never says so." in run_views.shown(run_views.evolution, run)


def test_learning_is_shown_while_it_goes_on_and_when_it_is_over(run: Run) -> None:
    append_json_line(run.arm("grpo").metrics, asdict(figures(1, 0.2)))
    at_work = run_views.shown(run_views.learning, run)
    assert "step 1 of 2" in at_work and at_work.count("<img") == 1
    write_json(run.grm_meta, META)
    over = run_views.shown(run_views.learning, run)
    assert "all steps were taken" in over and "Solve rates" in over and "false passes 5.0 %" in over


def test_evolution_is_shown_while_it_goes_on_and_when_it_is_over(run: Run) -> None:
    write_evolution(run)
    over = run_views.shown(run_views.evolution, run)
    assert over.count("<img") == 2 and "better than" in over and over.count("<td>winner</td>") == 1
    run.evolve_meta.unlink()
    at_work = run_views.shown(run_views.evolution, run)
    assert "3 of 2 generations are decided" in at_work and "0.318" in at_work and "<img" not in at_work


def test_a_picture_is_drawn_anew_when_its_files_change_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    draw = run_views.plots.learning
    monkeypatch.setattr(run_views.plots, "learning", lambda some: drawn.append(len(some)) or draw(some))
    for number in (1, 2):
        append_json_line(run.arm("grpo").metrics, asdict(figures(number, 0.2)))
        os.utime(run.arm("grpo").metrics, ns=(number, number))
        for _ in range(2):
            run_views.shown(run_views.learning, run)
    assert drawn == [1, 2]


def test_a_broken_file_is_told_in_a_sentence(run: Run) -> None:
    write_evolution(run)
    write_json(run.evolve_meta, read_json(run.evolve_meta) | {"winner": 3})
    assert 'class="notice"' in run_views.shown(run_views.evolution, run)


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("Run", {"stages": [1]}),
        ("Run", {"stages": {"grm": [None]}}),
        ("Learning", {"left_out": True}),
        ("Evolution", {"left_out": ["<img src=x>"]}),
        ("Run", {"settings": 3}),
    ],
)
def test_json_that_holds_something_else_is_told_in_a_sentence_too(run: Run, name: str, broken: dict[str, Any]) -> None:
    update_info(run, **broken)
    with gr.Blocks():
        tabs = RunTabs(RunList(None, [run.root.parent]), gr.Dropdown([]))
    said = tabs.read(name, "run")
    assert 'class="notice"' in said and str(run.root) in said and "<img" not in said


def test_commands_name_a_run_as_a_shell_takes_it(run: Run, tmp_path: Path) -> None:
    run = Run(run.root.rename(tmp_path / "my run; x"))
    stages(run, sft=[(0.0, None)])
    assert f"--run &#x27;{run.root}&#x27; --resume" in shown(run, progress(run, None))
    assert f"--run '{run.root}'" in run_views.shown(run_views.evaluation, run)


def test_a_run_whose_name_is_no_utf_8_hides_no_other(run: Run) -> None:
    other = run.root.with_name("odd\udcff")
    shutil.copytree(run.root, other)
    assert RunList(None, [run.root.parent]).names() == ["run"]
