"""What Tune's trials hold of a population's progress, read and changed so that Tune's snapshots have it.

All of it is private to Ray 2.60.0: `_exploit` (ray/tune/schedulers/pbt.py:894) is the model.
"""

import copy
import json
import pickle
from pathlib import Path
from typing import Any

from ray.exceptions import RayError
from ray.train._internal.session import _TrainingResult
from ray.tune.experiment import Trial

from app.evolution.lineage import Child
from tune_spaces.in_slots import is_its_own

TIME = "training_iteration"
"""Tune counts a trial's reports by this name, and goes on counting from a restored checkpoint's: its generation."""
PASSED = "alpha_evolve_passed"
"""Attribute of a trial: the boundaries behind it. Tune's snapshots hold all attributes of a trial
(`Trial.__getstate__`, ray/tune/experiment/trial.py:1046), so it is as old or as new as the checkpoint beside it."""


class MissingCheckpointError(RuntimeError):
    """A trial reported the end of a generation without what the next one begins with."""


class LostExperimentError(RuntimeError):
    """Tune's own state and the lineage tell of different experiments."""


def unfinished(trials: list[Trial]) -> list[Trial]:
    return [trial for trial in trials if not trial.is_finished()]


def reached(trial: Trial) -> int:
    """The generation that the trial's newest checkpoint is the end of. Its newest report may be one further: until
    its checkpoint is registered, or where a driver was killed before that."""
    newest = trial.latest_checkpoint_result
    return newest.metrics[TIME] if newest else 0


def boundaries_of(trial: Trial) -> int:
    passed: int = vars(trial).get(PASSED, 0)
    return passed


def boundaries_passed(trials: list[Trial]) -> int:
    """How many boundaries the population has behind it. A trial with fewer failed and left it."""
    return max(map(boundaries_of, trials), default=0)


def dismissed_all(controller: Any) -> bool:
    """Whether no process of a trial is left, and nothing of what they reserved.

    With reuse_actors=True one process serves a generation's trials one after the other. After the last of them it is
    ended, since no trial waits for it (`_maybe_cache_trial_actor`, ray/tune/execution/tune_controller.py:1062), and
    what it reserved is given back in a later step, when Tune has seen its end (`_actor_stop_resolved`,
    ray/air/execution/_internal/actor_manager.py:244). One that was kept for a trial which failed is ended here."""
    tune_controller = controller._tune_controller
    tune_controller._cleanup_cached_actors(force_all=True)
    number: int = tune_controller._actor_manager.num_live_actors
    return number == 0


def raise_faults(trials: list[Trial]) -> None:
    """Raise the error of a trial that failed for good by no fault of its individual's, such as a full disk: the others
    would meet it too, or go on without this one."""
    for trial in trials:
        error = _failure_of(trial) if trial.status == Trial.ERROR else None
        if error is not None and not is_its_own(error):
            raise error


def _failure_of(trial: Trial) -> RayError | None:
    """The trial's last failure, as Tune wrote it down in this session (`Trial.handle_error`); None where there was no
    room to."""
    name, folder = trial.run_metadata.pickled_error_filename, trial.local_path
    if not (name and folder):
        return None
    try:
        error = pickle.loads(Path(folder, name).read_bytes())
    except (OSError, EOFError, pickle.UnpicklingError):
        return None
    return error if isinstance(error, RayError) else None


def note_boundary(trial: Trial, generation: int) -> None:
    vars(trial)[PASSED] = generation
    trial.run_metadata.num_failures = 0  # those of a generation count, not those of all
    trial.invalidate_json_state()


def clone(donor: Trial, trial: Trial, child: Child) -> None:
    """Have the trial go on from the donor's checkpoint with the child's config."""
    newest = donor.latest_checkpoint_result
    trial.set_config(copy.deepcopy(child.config))
    trial.run_metadata.checkpoint_manager._latest_checkpoint_result = _TrainingResult(
        checkpoint=copy.copy(newest.checkpoint), metrics=dict(newest.metrics)
    )
    trial.run_metadata.last_result = trial.run_metadata.last_result or dict(newest.metrics)
    trial.run_metadata.invalidate_cache()


def added_like(donor: Trial, child: Child, controller: Any) -> Trial:
    """A further trial of the experiment, a clone of the donor's, for the place of one that failed."""
    trial = donor.reset()
    trial.trial_id = child.trial
    trial.init_local_path()
    clone(donor, trial, child)
    controller._tune_controller.add_trial(trial)
    return trial


def require_json(config: dict[str, Any]) -> None:
    try:
        json.dumps(config)
    except (TypeError, ValueError) as error:
        raise ValueError(f"an individual's config may hold JSON values only, not {config!r} ({error})") from None
