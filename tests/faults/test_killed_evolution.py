"""The command of evolution, whose driver is killed while Ray writes its files: what it kept whole serves."""

from pathlib import Path

import pytest

from app.evolution.history import read_boundaries
from app.evolution.lineage import read_lineage
from app.overrides import with_overrides
from app.runs import open_run
from tests.conftest import Cli
from tests.processes import started_and_killed
from tests.ray.test_evolve import evolving


@pytest.mark.timeout(400)
def test_a_driver_that_is_killed_goes_on_after_each_generation(tmp_path: Path, cli: Cli) -> None:
    """Killed where the first generation was decided, and in the second, while Ray wrote its files; begun with a
    trunk."""
    small = ["evolve.rates=[]", "evolve.trunk_tokens=1000", "evolve.population=2", "evolve.survivors=1"]
    profile = with_overrides(evolving(tmp_path), [*small, "evolve.generation_tokens=2000"])
    with open_run(tmp_path / "run", profile, resume=False) as run:
        command = ["evolve", "--run", str(run.root)]
    for place in ("boundaries/1.json", "individuals/*_*/2/lived.json"):
        started_and_killed(command, tmp_path / "log", lambda place=place: any(run.evolve.glob(place)))
        written = [path for path in run.evolve_tune.iterdir() if path.suffix in (".json", ".pkl")]
        assert any(path.name.startswith("experiment_state") for path in written)
        for path in written:
            path.write_bytes(path.read_bytes()[:-20])
    done = cli(*command, timeout=240)
    assert done.returncode == 0, done.stderr
    assert [life.generation for life in read_lineage(run.evolve_lineage)] == [1, 1, 2, 2]
    assert len(read_boundaries(run.evolve_boundaries)) == 2 and run.evolve_meta.exists()
