"""The evolution stage on a real Ray, with its real generator, judges and trials: the population learns, is selected and
renewed, and a trial that is killed costs the steps since its checkpoint."""

import contextlib
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from app import stages
from app.evolution.history import all_lived, read_boundaries
from app.evolution.lineage import Outcome, read_lineage
from app.evolution.standings import short
from app.evolution.trial import STATE
from app.files.json_files import read_json, read_json_lines
from app.models.adapters import WEIGHTS
from app.overrides import with_overrides
from app.profiles import smoke
from app.reward.drafts.files import read_drafts
from app.runs import Run, open_run
from app.settings import Profile
from tests.conftest import ROOT, Cli
from tests.processes import below
from tests.sums import SUM, row, sums_settings


def evolving(folder: Path) -> Profile:
    """Four individuals, two generations of about two steps, measured by six problems of their own. The model is named
    by a relative path, which trials have to find as well."""
    return with_overrides(smoke(), [*evolving_settings(folder), f"model.name={os.path.relpath(folder / 'model')}"])


def evolving_settings(folder: Path) -> list[str]:
    """The same as changes of the smoke profile."""
    rows = [row(f"held-{n}", f"assert f([{n}, 2]) == {n + 2}") | {"reference": SUM} for n in range(5, 11)]
    held = folder / "held.jsonl"
    held.write_text("".join(f"{json.dumps(one)}\n" for one in rows))
    return [
        *sums_settings(folder), "evolve.when=always", "evolve.population=4", "evolve.survivors=2",
        "evolve.generations=2", "evolve.generation_tokens=4000", "evolve.rates=[0.5,1.0]", "evolve.rung_tokens=4000",
        "evolve.trunk_tokens=4000", "evolve.drafts=4", "evolve.most_drafts=8", "evolve.better_by=0",
        f"evolve.validation=[{held}]", "grm.imitate.batch=4", "grm.imitate.learning_rate=0.005",
        "grm.imitate.replay_share=0", "grm.checkpoint_every=1",
    ]  # fmt: skip


@contextlib.contextmanager
def a_trial_is_killed(run: Run) -> Iterator[list[int]]:
    """One trial's process ends by SIGKILL, once an individual of the first generation has taken a step."""
    killed: list[int] = []

    def kill() -> None:
        deadline = time.monotonic() + 240
        while not any(run.evolve_individuals.glob("*_*/1/metrics.jsonl")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process = next(iter(below("ray::ImplicitFunc")))
        process.kill()
        killed.append(process.pid)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    yield killed
    killer.join()


@pytest.fixture(scope="module")
def evolved(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    profile = evolving(tmp_path_factory.mktemp("sums"))
    with (
        open_run(tmp_path_factory.mktemp("evolved"), profile, resume=False) as run,
        a_trial_is_killed(run) as killed,
    ):
        stages.evolve(run, profile)
    assert killed
    return run


@pytest.mark.timeout(400)
def test_a_population_learns_and_its_best_adapter_is_kept(evolved: Run) -> None:
    meta = read_json(evolved.evolve_meta)
    assert meta["start"] == "trunk" and meta["generations"] == 2
    assert meta["fresh"]["difference"] > 0.2, "the winner solves more than the untouched model, on fresh drafts"
    winner = meta["winner"]
    state = evolved.individual(winner["id"], winner["generation"]).folder / STATE
    ours, theirs = load_file(evolved.evolve_adapter / WEIGHTS), load_file(state / "adapter" / WEIGHTS)
    assert ours.keys() == theirs.keys() and all((tensor == theirs[name]).all() for name, tensor in ours.items())
    assert evolved.evolve_lora.read_bytes() == (evolved.evolve_adapter / WEIGHTS).read_bytes()
    assert "toy/a" in evolved.evolve_attribution.read_text()
    assert meta["audit"]["audited"] > 0 == meta["audit"]["false_passes"]


def test_each_generation_has_a_whole_lineage_and_equal_tokens(evolved: Run) -> None:
    lineage = read_lineage(evolved.evolve_lineage)
    assert [life.generation for life in lineage] == [1] * 4 + [2] * 4
    assert {life.outcome for life in lineage[4:]} == {Outcome.FINISHED}
    lived = {(one.id, one.generation): one for one in all_lived(evolved.evolve_individuals)}
    for life in lineage:
        one = lived[life.id, life.generation]
        assert one.config == life.config["genome"]
        steps = read_json_lines(evolved.individual(one.id, one.generation).metrics)
        tokens = [step["num_tokens"] + step["learnt_tokens"] for step in steps]
        assert sum(tokens) == one.drawn_tokens + one.learnt_tokens > 0.5 * 4000, one.why_ended
        # without its last step, half of a step as the others were would not have been too much
        assert sum(tokens[:-1]) * (1 + 0.5 / max(1, len(tokens) - 1)) <= 4000, one.why_ended
        child = life.replaced_by
        assert child is None or (child.id, 2) in lived and child.config["genome"] != life.config["genome"]
    assert [life.outcome for life in lineage[:4]].count(Outcome.REPLACED) == 2, "where nothing has to be better"


def test_a_generation_ends_with_an_imitation_of_the_pool_that_competes(evolved: Run) -> None:
    first, second = read_boundaries(evolved.evolve_boundaries)
    assert (first.imitation, second.imitation) == ("imitation.1", "imitation.2")
    for boundary in (first, second):
        assert boundary.imitation in boundary.values and len(boundary.values) == 5
        assert boundary.selection_tokens <= boundary.budget_tokens
        assert boundary.coverage is not None and 0 < boundary.coverage.pool <= 1
    members = {life.id for life in read_lineage(evolved.evolve_lineage)}
    assert not {"imitation.1", "imitation.2"} & members, "it takes no place"


def test_what_individuals_are_measured_by_is_never_learnt(evolved: Run) -> None:
    learnt = {one.draft.problem_id for path in evolved.evolve_drafts().values() for one in read_drafts(path)}
    assert learnt and not any("held" in name for name in learnt)


def test_a_trial_that_is_killed_goes_on_from_its_checkpoint(evolved: Run) -> None:
    for one in all_lived(evolved.evolve_individuals):
        steps = [row["step"] for row in read_json_lines(evolved.individual(one.id, one.generation).metrics)]
        assert len(set(steps)) == len(steps) == one.steps, "no step is lost, none is there twice"


def test_the_recipe_for_tunes_results_works_in_a_script_of_ones_own(
    evolved: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"(?s)```python\n(.*?)```", (ROOT / "docs" / "evolution.md").read_text())
    (recipe,) = [block for block in blocks if "ResultGrid" in block]
    held: dict[str, Any] = {}
    exec(recipe.replace("runs/NAME/evolve/tune", str(evolved.evolve_tune)), held)
    said, lives = capsys.readouterr().out, read_lineage(evolved.evolve_lineage)
    assert len(held["places"]) == 4 and "config/genome/learning_rate" in held["places"].columns
    assert all(life.trial in said for life in lives) and held["errors"] == []
    assert held["best"].metrics["fitness"] == max(held["places"]["fitness"])
    assert len(held["best"].metrics_dataframe) == 2 and held["adapter"].joinpath(WEIGHTS).exists()


def test_the_experiment_is_reported_from_its_folder_alone(evolved: Run, tmp_path: Path, cli: Cli) -> None:
    shutil.copytree(evolved.evolve_tune, tmp_path / "tune")
    done = cli("report", "--tune", tmp_path / "tune")
    assert done.returncode == 0 and done.stdout == f"report: {tmp_path}/tune/report.html\n", done.stderr
    told = (tmp_path / "tune" / "report.md").read_text()
    assert "4 trials, 8 reports" in told and "## Who took whose place" in told
    for life in read_lineage(evolved.evolve_lineage):
        assert f"| {short(life.id)} | {life.trial} | {life.generation} |" in told


def test_tensorboard_has_the_steps_of_each_individual(evolved: Run) -> None:
    for one in all_lived(evolved.evolve_individuals):
        at = evolved.individual(one.id, one.generation)
        assert list(at.tensorboard.glob("events.*")), one.id
    trunk = evolved.individual("trunk", 0)
    found = EventAccumulator(str(trunk.tensorboard))
    found.Reload()
    steps = [one.step for one in found.Scalars("evolve/reward_mean")]
    assert steps == [row["step"] for row in read_json_lines(trunk.metrics)]
