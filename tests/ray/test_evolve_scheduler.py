"""The scheduler of evolution on a real Ray: whoever dies, the population goes on and its lineage is whole."""

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import ray

from actors.generator import _places
from app.evolution.lineage import Life, Outcome, read_lineage
from app.files.json_files import read_json_lines
from app.hardware import num_cores
from app.overrides import with_overrides
from app.profiles import smoke
from tests import commands
from tests.ray.evolving import ON_A_CORE, explore_in_slot, restored, tuner
from tune_spaces import brief_log
from tune_spaces.gpu_slots import Slots, slots_for
from tune_spaces.trials import LostExperimentError, MissingCheckpointError

pytestmark = [pytest.mark.usefixtures("local_ray", "quiet"), pytest.mark.timeout(120, func_only=True)]
ON_CARD = with_overrides(smoke(), ["sft.use_gpu=true", "generation.use_gpu=true", "evolve.population=4"])
SURVIVED, REPLACED, FAILED, FINISHED = Outcome.SURVIVED, Outcome.REPLACED, Outcome.FAILED, Outcome.FINISHED
UNDISTURBED = [
    (1, 0.4, SURVIVED, None),
    (1, 0.3, SURVIVED, None),
    (1, 0.2, REPLACED, 0.41),
    (1, 0.1, REPLACED, 0.31),
    (2, 0.41, SURVIVED, None),
    (2, 0.4, SURVIVED, None),
    (2, 0.31, REPLACED, 0.42),
    (2, 0.3, REPLACED, 0.41),
    (3, 0.42, FINISHED, None),
    (3, 0.41, FINISHED, None),
    (3, 0.41, FINISHED, None),
    (3, 0.4, FINISHED, None),
]
"""Generation, rate, outcome, rate of the child that took its place: the best of each generation first."""


@pytest.fixture(scope="module")
def quiet() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
        yield


@contextlib.contextmanager
def engine(slots: Slots) -> Iterator[None]:
    """Reserves what the engine does, for as long as the block lasts."""

    @ray.remote
    class Engine:
        def is_there(self) -> bool:
            return True

    (place,) = _places(smoke().generation.model_copy(update={"use_gpu": bool(slots.gib)}), slots.beside_trainer)
    held = Engine.options(**place).remote()
    try:
        assert ray.get(held.is_there.remote(), timeout=60)
        yield
    finally:
        ray.kill(held)


def told(lineage: list[Life]) -> list[tuple[int, float, Outcome, float | None]]:
    """What UNDISTURBED has of each line."""
    return [
        (life.generation, life.config["rate"], life.outcome, life.replaced_by and life.replaced_by.config["rate"])
        for life in lineage
    ]


def learnt_by_lineage(lineage: list[Life]) -> dict[str, list[list[float]]]:
    """By trial the rates that it must have learnt with, at the end of each generation: those of its individual and of
    that one's parents."""
    learnt: dict[str, list[float]] = {}
    by_trial: dict[str, list[list[float]]] = {}
    for life in lineage:
        before = learnt.get(life.id, learnt.get(life.parent, []))
        if life.outcome is not FAILED:
            learnt[life.id] = [*before, life.config["rate"]]
            by_trial.setdefault(life.trial, []).append(learnt[life.id])
    return by_trial


def trained(work: Path) -> list[dict[str, Any]]:
    """What was trained, also what was trained again."""
    return [row for path in (work / "trained").glob("*.jsonl") for row in read_json_lines(path)]


def assert_one_at_a_time(work: Path) -> None:
    """Of trials, and of who selected between two generations."""
    selected = work / "selected.jsonl"
    rows = [*trained(work), *(read_json_lines(selected) if selected.exists() else [])]
    spans = sorted((row["start"], row["end"]) for row in rows)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def assert_whole(work: Path) -> list[Life]:
    """Each individual has one line a generation, and learnt on from its parent's checkpoint. Returns the lines."""
    lineage = read_lineage(work / "lineage.jsonl")
    lines = [(life.generation, life.id) for life in lineage]
    assert len(set(lines)) == len(lines)
    expected = learnt_by_lineage(lineage)
    for trial, generations in expected.items():
        rows = {row["generation"]: row["learnt"] for row in trained(work) if row["trial"] == trial}
        assert [rows[len(learnt)] for learnt in generations] == generations, trial
    return lineage


def test_the_better_half_survives_and_one_slot_of_a_card_lets_one_train_at_a_time(tmp_path: Path) -> None:
    """In turns with the engine. Selection asks for the slot, and gets it; a process serves a generation."""
    slots = slots_for(ON_CARD, peak_gib=None, declared=1, cards=1)
    with engine(slots):
        results = tuner(tmp_path, slots=slots, custom_explore_fn=explore_in_slot).fit()
    assert told(assert_whole(tmp_path)) == UNDISTURBED
    assert not results.errors
    assert sorted(result.config["rate"] for result in results) == [0.4, 0.41, 0.41, 0.42]
    assert len(trained(tmp_path)) == 12 and len(read_json_lines(tmp_path / "selected.jsonl")) == 4
    assert_one_at_a_time(tmp_path)
    processes = {(row["generation"], row["pid"]) for row in trained(tmp_path)}
    assert len(processes) == 3


def test_four_slots_of_a_card_are_held_at_the_same_time_also_after_all_four_failed(tmp_path: Path) -> None:
    slots = slots_for(ON_CARD, peak_gib=0.5, declared=None, cards=1)
    with engine(slots):
        results = tuner(tmp_path, slots=slots, together=4, generations=2, raises=[0, 2]).fit()
        assert ["it always does" in str(error) for error in results.errors] == [True] * 4, "there was no hang"
        assert told(assert_whole(tmp_path)) == UNDISTURBED[:4]
        (tmp_path / "cured").touch()
        results = restored(tmp_path, slots=slots, resume_errored=True).fit()
    assert not results.errors
    last = [(2, rate, FINISHED, None) for rate in (0.41, 0.4, 0.31, 0.3)]
    assert told(assert_whole(tmp_path)) == [*UNDISTURBED[:4], *last]
    for generation in (1, 2):
        rows = [row for row in trained(tmp_path) if row["generation"] == generation]
        assert len(rows) == 4
        assert max(row["start"] for row in rows) < min(row["end"] for row in rows)


def test_one_alone_learns_to_the_end(tmp_path: Path) -> None:
    tuner(tmp_path, rates=[0.2], population=1).fit()
    outcomes = enumerate((SURVIVED, SURVIVED, FINISHED), 1)
    assert told(assert_whole(tmp_path)) == [(generation, 0.2, outcome, None) for generation, outcome in outcomes]


def assert_one_was_replaced(work: Path) -> None:
    """It had the rate 0.3 and failed in the second generation."""
    lineage = assert_whole(work)
    assert told(lineage) == [(2, 0.3, FAILED, 0.41) if line[:2] == (2, 0.3) else line for line in UNDISTURBED]
    failed = next(life for life in lineage if life.outcome is FAILED)
    assert failed.score is None and failed.replaced_by and failed.replaced_by.trial != failed.trial
    assert len(trained(work)) == 11, "nothing is trained twice"


def test_one_that_fails_for_good_makes_room_for_a_child_of_a_survivor(tmp_path: Path) -> None:
    results = tuner(tmp_path, raises=[0.3, 2]).fit()
    assert_one_was_replaced(tmp_path)
    assert len(results) == 5 and ["it always does" in str(error) for error in results.errors] == [True]
    restored(tmp_path, resume_errored=True).fit()
    assert_one_was_replaced(tmp_path)


def test_a_full_disk_costs_the_population_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It ends the experiment instead, which goes on when there is room."""
    brief_log.shorten()
    with pytest.raises(OSError, match="No space left on device"):
        tuner(tmp_path, starves=[0.3, 2]).fit()
    assert not any(record.exc_info for record in caplog.records)
    (tmp_path / "cured").touch()
    results = restored(tmp_path, resume_errored=True).fit()
    assert told(assert_whole(tmp_path)) == UNDISTURBED and not results.errors


def test_a_worker_that_is_killed_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    with engine(ON_A_CORE):
        results = tuner(tmp_path, killed=[0.4, 2], max_failures=1).fit()
    assert (tmp_path / "killed").exists(), "the test has to kill one"
    assert_one_at_a_time(tmp_path)
    assert {row["threads"] for row in trained(tmp_path)} == {num_cores()}, "and it has all cores"
    assert told(assert_whole(tmp_path)) == UNDISTURBED
    assert not results.errors and len(trained(tmp_path)) == 12, "what it had learnt before is not learnt again"


def die(work: Path, point: str, generation: int) -> None:
    """Have a driver start or continue the experiment, and end by SIGKILL there."""
    log, given = work / "driver.log", [ray.get_runtime_context().gcs_address, str(work), point, str(generation)]
    driver = commands.started(given, os.environ, [log, log], module="tests.ray.driver")
    driver.join(timeout=90)
    driver.kill()  # one that hangs
    assert driver.exitcode == -signal.SIGKILL, log.read_text()
    # What the driver kept outside of the experiment's folder: a new Ray would have a new place for it.
    shutil.rmtree(Path(ray._private.worker._global_node.get_session_dir_path()) / "artifacts")


def test_a_driver_killed_at_each_boundary_goes_on_and_nothing_is_decided_twice(tmp_path: Path) -> None:
    """One trial fails in the second generation, so the new one in its place is restored too."""
    for point, generation in (("saved", 1), ("decided", 2), ("decided", 3)):
        die(tmp_path, point, generation)
    results = restored(tmp_path).fit()
    assert_one_was_replaced(tmp_path)
    assert sorted(result.metrics["training_iteration"] for result in results) == [1, 3, 3, 3, 3]
    assert len(results.errors) == 1


def test_a_report_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingCheckpointError, match="reported generation 2 without a checkpoint"):
        tuner(tmp_path, forgets=[0.4, 2]).fit()
    assert len(read_lineage(tmp_path / "lineage.jsonl")) == 4


def test_a_population_that_tune_would_not_start_as_a_whole_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 trials for a population of 4: .* no max_concurrent_trials"):
        tuner(tmp_path, max_concurrent_trials=1).fit()


def test_another_experiment_with_the_same_lineage_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lineage.jsonl").write_text(
        '{"generation": 1, "id": "a.1", "trial": "a", "parent": "", "config": {}, "score": 1.0, '
        '"outcome": "survived", "replaced_by": null}\n'
    )
    with pytest.raises(LostExperimentError, match="tells of other trials"):
        tuner(tmp_path).fit()
