"""AlphaEvolve: Ray Tune's population-based training, synchronous, that ends where the stock scheduler hangs.

    scheduler = AlphaEvolve(lineage=run.lineage, metric="fitness", mode="max", custom_explore_fn=mutate)
    tune.Tuner(train, param_space=space, tune_config=tune.TuneConfig(scheduler=scheduler, num_samples=4)).fit()

A generation ends when every trial has reported once, each with a checkpoint, and is paused. The better half survives;
the others go on from survivors' checkpoints with configs that `_get_new_config` makes, which calls `custom_explore_fn`.
Who selects may ask for what a trial reserves: no trial does meanwhile (`tune_spaces.trials.dismissed_all`).
After the last generation the scheduler itself ends the trials: give Tune no `stop`, and serialise trials by resources,
never by `max_concurrent_trials`.

What Ray 2.60.0 does, and what is done about it here (places in ray/tune):

- `on_trial_result` of schedulers/pbt.py:526 crosses the boundary when the last report arrives, so nobody does when the
  last trial to report fails instead; nor after a restore, since no scheduler is saved (`__getstate__` of
  execution/tune_controller.py:1983). Here `choose_trial_to_run`, which Tune calls in each step, looks at what the
  trials themselves hold (`tune_spaces.trials`): their checkpoints' generation, and the boundaries behind them.
- A trial that fails for good stays in the list of trials as ERROR. It leaves the population, and a new trial
  (`add_trial`, execution/tune_controller.py:520) with a survivor's checkpoint takes its place: reviving the failed one
  would hide its error from the ResultGrid, and its failures count against `max_failures` for ever. If all fail, the
  experiment ends there without a boundary, and `Tuner.restore(..., resume_errored=True)` tries that generation again.
- A clone's config and checkpoint are not in Tune's snapshot until it is started: `_exploit` (schedulers/pbt.py:894)
  doesn't mark it as changed, and `_TrainingRunMetadata` (trainable/metadata.py:13) keeps its old JSON. And a snapshot
  is made every ten seconds at most (execution/experiment_state.py:64). Here clones are marked, each change is saved.
- A report without a checkpoint pauses its trial as usual ("Got empty checkpoint", execution/tune_controller.py:1757),
  and the trial begins its generation anew, silently. Here it ends the experiment with MissingCheckpointError.

Limits. These are private members of Ray: the version is pinned, tests/ray/test_evolve_scheduler.py runs them. Restore
what was kept (`tune_spaces.saved_state`), since a killed driver leaves half of a snapshot. An experiment's folder can't
be moved: a clone's checkpoint lies in its donor's, by an absolute path. `pbt_policy_*.txt` begin with the last restore.
"""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import PopulationBasedTraining, TrialScheduler
from ray.tune.utils import flatten_dict

from app.evolution.lineage import (
    Child,
    Heir,
    Life,
    Member,
    Outcome,
    add_generation,
    founders,
    heirs,
    identify,
    read_lineage,
    succession,
)
from tune_spaces.saved_state import save
from tune_spaces.selecting import is_over, selecting
from tune_spaces.trials import (
    TIME,
    LostExperimentError,
    MissingCheckpointError,
    added_like,
    boundaries_of,
    boundaries_passed,
    clone,
    dismissed_all,
    note_boundary,
    raise_faults,
    reached,
    require_json,
    unfinished,
)

logger = logging.getLogger(__name__)


class AlphaEvolve(PopulationBasedTraining):
    """A population that is renewed after each generation. It holds nothing that a restore would need: each decision is
    in the lineage before it is acted on, and whether it was acted on is in the trials."""

    def __init__(
        self,
        *,
        lineage: Path,
        kept: Path | None = None,
        metric: str | None = None,
        mode: str | None = None,
        population: int = 4,
        generations: int = 3,
        hyperparam_mutations: Mapping[str, Any] | None = None,
        custom_explore_fn: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        """lineage: the file that tells of this experiment alone; kept: the one for Tune's state. custom_explore_fn:
        makes a child's config, of JSON values, of a copy of its parent's; as Tune pickles it, it comes from a module
        that can be imported."""
        if population < 1 or generations < 1:
            raise ValueError(f"population {population} x generations {generations}: at least 1 x 1 are needed")
        super().__init__(
            time_attr=TIME,
            metric=metric,
            mode=mode,
            perturbation_interval=1,
            hyperparam_mutations=dict(hyperparam_mutations or {}),
            quantile_fraction=0.5,
            custom_explore_fn=custom_explore_fn,
            synch=True,
        )
        self._lineage = Path(lineage)
        self._kept = kept
        self._population = population
        self._generations = generations
        self._saved: list[tuple[Any, ...]] = []

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Three kinds come: new ones, which are PENDING; retried ones, which are so too and were added before; and
        restored ones and newcomers, with a checkpoint, which wait as PAUSED for `choose_trial_to_run`."""
        is_retried = trial in self._trial_state
        super().on_trial_add(tune_controller, trial)
        if is_retried:
            return
        trial.run_metadata.num_failures = 0  # a restored one may fail as often as a new one
        require_json(trial.config)
        if trial.run_metadata.checkpoint_manager.checkpoint_config.num_to_keep == 1:
            raise ValueError("CheckpointConfig(num_to_keep=1) deletes what a clone is to begin with: keep 2 or all")
        if trial.has_checkpoint():
            if trial.status == Trial.PENDING:
                trial.set_status(Trial.PAUSED)
            return
        known = {life.trial for life in read_lineage(self._lineage)}
        if known and trial.trial_id not in known:
            raise LostExperimentError(
                f"Tune begins trial {trial.trial_id} from nothing, but {self._lineage} tells of other trials: Tune's "
                "saved state was lost or broken, or restart_errored was given; restore the experiment's folder, or "
                f"remove {self._lineage.parent} to start anew"
            )

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Each report ends its trial's generation."""
        self._trial_state[trial].last_train_time = result[TIME]
        return TrialScheduler.PAUSE

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """A trial ended by itself or by Tune's `stop`. Tune makes a failure of it (`stop_trial`,
        execution/tune_controller.py:1410) and writes this text beside the trial."""
        raise RuntimeError(
            f"trial {trial.trial_id} ended after {reached(trial)} of {self._generations} generations: the trainable "
            "has to train one generation and report it whenever it is called, and Tune is to be given no `stop`"
        )

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Cross the boundary when it is time, save what changed, and name a trial that has a generation to train."""
        trials = tune_controller.get_trials()
        raise_faults(trials)  # not in on_trial_error: Tune makes text of what that raises
        passed = boundaries_passed(trials)
        if not passed and len(trials) != self._population:
            raise ValueError(
                f"Tune has {len(trials)} trials for a population of {self._population}: give TuneConfig num_samples="
                f"{self._population} and no max_concurrent_trials, which keeps the others away"
            )
        for trial in unfinished(trials):
            if boundaries_of(trial) < passed:
                logger.warning("trial %s failed in an earlier generation and is not resumed", trial.trial_id)
                tune_controller.stop_trial(trial)
        self._require_checkpoints(trials)
        self._save(tune_controller)
        there = [trial.status == Trial.PAUSED and reached(trial) > passed for trial in unfinished(trials)]
        if there and all(there) and dismissed_all(tune_controller):
            self._pass_boundary(tune_controller, passed + 1)
            passed += 1
            self._save(tune_controller)
        runnable = [
            trial
            for trial in unfinished(trials)
            if trial.status in (Trial.PENDING, Trial.PAUSED) and reached(trial) <= passed
        ]
        # Tune starts what is PENDING anyhow; naming it here again would leave the others paused until it runs.
        return min(runnable, key=lambda trial: trial.status != Trial.PAUSED, default=None)

    def _require_checkpoints(self, trials: list[Trial]) -> None:
        for trial in unfinished(trials):
            reported = self._trial_state[trial].last_train_time
            if trial.status == Trial.PAUSED and reported > reached(trial):
                raise MissingCheckpointError(
                    f"trial {trial.trial_id} reported generation {reported} without a checkpoint, so that nothing "
                    "could go on from there: call tune.report(metrics, checkpoint=...) at the end of each generation"
                )

    def _pass_boundary(self, controller: Any, generation: int) -> None:
        """Decide, unless a driver that was killed had decided already; write it; act on it."""
        trials = controller.get_trials()
        lives = self._recorded(generation)
        if not lives:
            add_generation(self._lineage, self._decide(generation, trials))
            lives = self._recorded(generation)  # JSON's lists for tuples, and so on: the same after a restore
        for life in lives:
            self._act(controller, life)

    def _decide(self, generation: int, trials: list[Trial]) -> list[Life]:
        """What becomes of each member at the end of this generation, to which all came that have not failed."""
        members = self._members(generation, trials)
        by_id = {trial.trial_id: trial for trial in trials}
        scores = {trial.trial_id: self._score(trial) for trial in unfinished(trials)}
        is_last = generation == self._generations or is_over()
        lives = []
        for member, heir in self._succession(generation, members, by_id, scores, is_last=is_last):
            trial, child = by_id[member.trial], None
            if heir and not is_last:
                place = f"{member.trial}_{generation + 1}" if trial.is_finished() else member.trial
                child = Child(
                    id=identify(place, generation + 1),
                    trial=place,
                    parent=heir.parent,
                    donor=heir.donor,
                    config=heir.config,
                )
            if trial.is_finished():
                outcome = Outcome.FAILED
            elif is_last:
                outcome = Outcome.FINISHED
            else:
                outcome = Outcome.REPLACED if child else Outcome.SURVIVED
            life = Life(
                generation=generation,
                id=member.id,
                trial=member.trial,
                parent=member.parent,
                config=trial.config,
                score=scores.get(member.trial),
                outcome=outcome,
                replaced_by=child,
            )
            lives.append(life)
        return lives

    def _succession(
        self,
        generation: int,
        members: list[Member],
        by_id: Mapping[str, Trial],
        scores: Mapping[str, float | None],
        *,
        is_last: bool,
    ) -> list[tuple[Member, Heir | None]]:
        """The members, the best first, each with whose child takes its place.

        scores: by trial, of those that came to the boundary. Also asked after the last generation, for the order.
        """
        if select := selecting():
            arrived = [replace(member, failed=member.trial not in scores) for member in members]
            return select(generation, arrived, is_last)
        found = succession(members, scores, max(1, self._population // 2), highest=self._mode == "max")
        heirs = []
        for member, donor in found:
            config = self._get_new_config(by_id[member.trial], by_id[donor.trial])[0] if donor and not is_last else {}
            heirs.append((member, Heir(parent=donor.id, donor=donor.trial, config=config) if donor else None))
        return heirs

    def _act(self, controller: Any, life: Life) -> None:
        """Bring one place into the next generation, or end its trial."""
        by_id = {trial.trial_id: trial for trial in controller.get_trials()}
        trial = by_id[life.trial]
        if life.outcome in (Outcome.FINISHED, Outcome.FAILED):
            controller.stop_trial(trial)  # nothing is done to one that has ended
        if child := life.replaced_by:
            donor = by_id[child.donor]
            if reached(donor) != life.generation:
                raise LostExperimentError(
                    f"{self._lineage} has {child.id} begin with what {child.parent} had after generation "
                    f"{life.generation}, but trial {donor.trial_id} has a checkpoint of generation {reached(donor)}: "
                    f"restore the experiment's folder, or remove {self._lineage.parent} to start anew"
                )
            trial = by_id.get(child.trial) or added_like(donor, child, controller)
            clone(donor, trial, child)
            if self._log_config:
                states = self._trial_state[trial], self._trial_state[donor]
                self._log_config_on_step(*states, trial, donor, child.config)
            self._num_perturbations += 1
        if life.outcome is not Outcome.FAILED or child:
            note_boundary(trial, life.generation)
        controller._tune_controller._mark_trial_to_checkpoint(trial)

    def _members(self, generation: int, trials: list[Trial]) -> list[Member]:
        """With whom the generation began."""
        if generation == 1:
            return founders([trial.trial_id for trial in trials])
        members = heirs(self._recorded(generation - 1))
        if not {member.trial for member in members} <= {trial.trial_id for trial in trials} or not members:
            raise LostExperimentError(
                f"{self._lineage} does not tell of the trials that Tune has: restore the experiment's folder and the "
                "lineage from the same time, or start a new run"
            )
        return members

    def _recorded(self, generation: int) -> list[Life]:
        return [life for life in read_lineage(self._lineage) if life.generation == generation]

    def _score(self, trial: Trial) -> float | None:
        score = float(flatten_dict(trial.latest_checkpoint_result.metrics)[self._metric])
        return score if math.isfinite(score) else None

    def _save(self, controller: Any) -> None:
        """Have Tune save its state when a trial came further: a driver killed after that loses nothing of it."""
        state = [
            (trial.trial_id, trial.is_finished(), reached(trial), boundaries_of(trial))
            for trial in controller.get_trials()
        ]
        if state != self._saved:
            save(controller._tune_controller, self._kept)
            self._saved = state
