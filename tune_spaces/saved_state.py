"""Tune's state as it was when the scheduler last had it saved, in one file that is whole whenever a driver is killed.

Ray 2.60.0 copies its snapshot (`experiment_state-*.json`, and the states of searcher and callbacks) into the
experiment's folder in place, as it does with `tuner.pkl` when an experiment is restored: a driver that is killed
meanwhile leaves half of a file (`sync_up_experiment_state`, ray/tune/execution/experiment_state.py).
"""

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.files.durable import flush


def save(tune_controller: Any, place: Path | None) -> None:
    """Have Tune save its state, and copy that, without the trials' checkpoints, to the file `place`."""
    tune_controller.checkpoint(force=True, wait=True)
    if place is None:
        return
    experiment = Path(tune_controller._storage.experiment_fs_path)
    unfinished = place.with_name(f".{place.name}.tmp")
    with zipfile.ZipFile(unfinished, "w") as archive:
        for path in _files(experiment):
            archive.write(path, path.name)
    flush(unfinished)
    os.replace(unfinished, place)


def put_back(place: Path, experiment: Path) -> None:
    """Replace what lies in the experiment's folder by what was kept."""
    with zipfile.ZipFile(place) as archive:
        for path in _files(experiment):
            path.unlink()
        archive.extractall(experiment)


def _files(experiment: Path) -> Iterator[Path]:
    yield from (path for path in sorted(experiment.iterdir()) if path.suffix in (".json", ".pkl"))
