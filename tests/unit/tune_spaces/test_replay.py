"""The winner's schedule, read by Ray's own class."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from ray.tune.schedulers import PopulationBasedTrainingReplay

from app.errors import UserError
from app.evolution.history import write_boundary
from app.evolution.lineage import add_generation
from app.runs import Run
from tests.unit.evolution.made_run import boundary, config, lineage
from tune_spaces.replay import policy_of, write_policy

LIVES = [one for lives in lineage() for one in lives]


def replayed(run: Run) -> PopulationBasedTrainingReplay:
    (path,) = run.evolve_replay.iterdir()
    return PopulationBasedTrainingReplay(str(path))


def written(run: Run, winner: str) -> str:
    """What came of a run which that one won."""
    for lives in lineage():
        add_generation(run.evolve_lineage, lives)
    last = boundary(3)
    others = {name: value for name, value in last.values.items() if name != winner}
    write_boundary(run.evolve_boundaries, replace(last, values={winner: 1.0} | others))
    return write_policy(run)


def test_ray_reads_the_schedule_of_the_winner_and_its_ancestors(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert written(run, "e_00002.3") == f"the schedule of e_00002.3: {tmp_path}/evolve/replay/pbt_policy_e_00002.txt"
    replay = replayed(run)
    assert replay.config == config("e_00001.1", 1)
    assert replay._policy == [(1, config("e_00003.2", 2)), (2, config("e_00002.3", 3))]


def test_one_of_the_first_generation_is_replayed_without_a_change(tmp_path: Path) -> None:
    run = Run(tmp_path)
    written(run, "e_00001.1")
    replay = replayed(run)
    assert replay.config == config("e_00001.1", 1)
    assert replay._policy == [(3, replay.config)], "not before its end"


def test_a_line_is_what_ray_writes_of_a_clone() -> None:
    first, second = map(json.loads, policy_of(LIVES, "e_00002.3"))
    assert first == ["e_00003.2", "e_00001.1", 1, 1, config("e_00001.1", 1), config("e_00003.2", 2)]
    assert second[0] == "e_00002.3" and second[1] == first[0], "Ray follows the parent of each line to the one before"


def test_what_no_trial_did_has_no_schedule(tmp_path: Path) -> None:
    assert policy_of(LIVES, "e_00000_2.3") == [], "its weights began with an imitation's"
    for number, winner in enumerate(("e_00000_2.3", "imitation.3")):
        run = Run(tmp_path / str(number))
        assert f"{winner} can't be replayed" in written(run, winner)
        assert not run.evolve_replay.exists()
    assert write_policy(Run(tmp_path)) == "no generation was decided, so there is no schedule to replay"
    with pytest.raises(UserError, match="does not tell where nobody comes from"):
        policy_of(LIVES, "nobody")
