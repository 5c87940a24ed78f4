"""The methods that `benchmarks.evolution` compares, as Ray Tune runs them on `benchmarks.evolution_task`.

It lies in a module of its own because Tune pickles trials by name. Each reading is the one that favours its method
where Ray leaves a choice:

    evolve      `AlphaEvolve` with the selection of `app.evolution` and the mutation of `tune_spaces.alpha_evolve`
    close       the same; half of the drafts first, the others where individuals are close (`further_draws`)
    any_better  the same as evolve, but any measured difference decides: no 1.5 standard errors
    continue    the two best go on, the others become exact clones of the best: no mutation, no threshold
    pbt         Ray's own, as it comes: the best's child takes the worst's place; but synchronous, since with one slot
                it would else compare trials of different generations
    pbt_half    the same; children of the two best take the places of the others, as in evolve
    asha        Ray's own, told to keep half at each rung, as the population does; a trial that is stopped makes room
                for a new one until the budget is spent
    random      four draws, trained to the end

All have one slot. Ray's own choose in the end as `ResultGrid.get_best_result` does, by each trial's last measurement.
"""

import contextlib
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, PopulationBasedTraining, TrialScheduler

from app.corpus.draws import bits
from app.evolution.lineage import Heir, Member, Succession, read_lineage, succession
from app.evolution.records import Metrics
from app.evolution.selection import Measured, ranked, replacements
from app.evolution.selection_drafts import Draw, further_draws, with_more
from app.files.json_files import append_json_line, read_json, read_json_lines, write_json
from app.stage_settings.evolve import EvolveSettings
from app.stage_settings.grm import GrmSettings
from benchmarks.evolution_task import START, Task, searched
from tune_spaces.alpha_evolve import config_of, default_genome, genome_of, mutated, space_of
from tune_spaces.scheduler import AlphaEvolve
from tune_spaces.selecting import selected_by

POPULATION = 4
GENES = ("learning_rate",)
SCORE: dict[str, Any] = {"metric": "score", "mode": "max"}
Method = tuple[TrialScheduler, Succession | None]
"""Tune's scheduler, and who selects for `AlphaEvolve`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One method's run on one task."""

    task: Task
    rates: Sequence[float]
    """Learning rates to begin with; `asha` has one for each trial that it may begin."""
    drafts: int
    """For each problem, of an individual in a generation: all methods have as many in all."""
    work: Path

    @property
    def individual_generations(self) -> int:
        return POPULATION * self.task.generations


def fit(method: str, experiment: Experiment) -> int:
    """Run it; the place of the individual that the method chooses in the end. `work` then holds lived.jsonl, a line
    for each generation of an individual, and again.jsonl, what was drawn beyond that."""
    seed = bits(f"{experiment.task.seed}:{method}") % 2**32
    random.seed(seed)  # stock PBT draws from both
    np.random.seed(seed)
    config = _config(experiment, _first_drafts(experiment) if method == "close" else experiment.drafts)
    scheduler, selects = METHODS[method](experiment)
    stop: Any = {"training_iteration": experiment.task.generations}
    if is_ours := isinstance(scheduler, AlphaEvolve):
        stop = None  # it ends the trials itself
    elif method == "asha":
        stop = Budget(experiment.individual_generations)
    tuner = tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        param_space=config | {"learning_rate": tune.grid_search(list(experiment.rates))},
        tune_config=tune.TuneConfig(scheduler=scheduler, reuse_actors=True),
        run_config=tune.RunConfig(name="tune", storage_path=str(experiment.work), stop=stop, verbose=0),
    )
    with selected_by(selects) if selects else contextlib.nullcontext():
        results = tuner.fit()
    if results.errors:
        raise RuntimeError(f"{method} failed with seed {experiment.task.seed}: {results.errors[0]}")
    if is_ours:
        lives = read_lineage(experiment.work / LINEAGE)
        return place_of(next(life.trial for life in lives if life.generation == experiment.task.generations))
    return place_of(results.get_best_result(**SCORE).metrics["trial_id"])


def _config(experiment: Experiment, drafts: int) -> dict[str, Any]:
    """What all trials are given but for the learning rate."""
    held = {"task": asdict(experiment.task), "drafts": drafts, "work": str(experiment.work)}
    return config_of(default_genome(GrmSettings())) | held


def train(config: dict[str, Any]) -> None:
    """Train generations until the trial is stopped, and measure each."""
    task, place = Task(**config["task"]), place_of(tune.get_context().get_trial_id())
    left, generation, came_from = START, 0, place
    if checkpoint := tune.get_checkpoint():
        with checkpoint.as_directory() as folder:
            state = read_json(Path(folder) / "state.json")
            left, generation, came_from = state["left"], state["generation"], state["place"]
    while True:
        left, generation = task.trained(left, config["learning_rate"]), generation + 1
        metrics = task.measured(left, place, generation, range(config["drafts"]))
        row = {"place": place, "generation": generation, "came_from": came_from, "left": left}
        score = sum(passed for passed, _ in metrics.rates.values()) / metrics.num_tokens
        told = {"judged": metrics.num_tokens, "score": score, "config": config}
        append_json_line(Path(config["work"]) / LIVED, row | told)
        came_from = place
        with tempfile.TemporaryDirectory() as folder:
            write_json(Path(folder) / "state.json", row)
            tune.report({"score": score}, checkpoint=tune.Checkpoint.from_directory(folder))


def place_of(trial: str) -> int:
    """The number that ends a trial's id."""
    return int(trial.rpartition("_")[2])


def selected(
    measured: Measured, settings: EvolveSettings, judged: Callable[[Draw], Metrics], budget: int
) -> list[tuple[str, str]]:
    """Names, the best first, each with that of whose child takes its place; empty for who goes on.

    judged: drafts that selection asks for, measured. budget: of all drafts, those of measured included."""
    measured = dict(measured)
    ranking = ranked(measured, settings)
    while draws := further_draws(measured, ranking, settings, budget=budget).draws:
        measured |= {draw.name: with_more(measured[draw.name], judged(draw)) for draw in draws}
        ranking = ranked(measured, settings)
    donors = {one.name: one.donor for one in replacements(measured, ranking, settings)}
    return [(name, donors.get(name, "")) for name in ranking.names]


class Selecting:
    """A `Succession` by the project's selection and mutation. No trial fails here."""

    def __init__(self, experiment: Experiment, settings: EvolveSettings) -> None:
        self._experiment = experiment
        self._settings = settings

    def __call__(self, generation: int, members: Sequence[Member], is_last: bool) -> list[tuple[Member, Heir | None]]:
        task, work = self._experiment.task, self._experiment.work
        rows = newest(work, members)

        def judged(name: str, samples: Sequence[int]) -> Metrics:
            return task.measured(rows[name]["left"], rows[name]["place"], rows[name]["generation"], samples)

        def judged_again(draw: Draw) -> Metrics:
            metrics = judged(draw.name, draw.samples)
            append_json_line(work / AGAIN, {"judged": metrics.num_tokens})
            return metrics

        first = {name: judged(name, range(self._settings.drafts)) for name in rows}
        budget = POPULATION * self._experiment.drafts * task.num_problems
        named = {member.id: member for member in members}
        found = selected(first, self._settings, judged_again, budget)
        return [(named[name], self._heir(named[name], named.get(donor), rows, generation)) for name, donor in found]

    def _heir(self, member: Member, donor: Member | None, rows: Mapping[str, Any], generation: int) -> Heir | None:
        if donor is None:
            return None
        config = rows[donor.id]["config"]
        child = mutated(
            genome_of(config),
            self._experiment.task.seed,
            place_of(member.trial),
            generation,
            genes=self._settings.genes,
            living=[genome_of(row["config"]) for name, row in rows.items() if name != member.id],
            space=space_of(GrmSettings()),
        )
        return Heir(parent=donor.id, donor=donor.trial, config=config | config_of(child.genome))


class Continuing:
    """A `Succession` in which the best survivor's exact clones take the others' places."""

    def __init__(self, experiment: Experiment) -> None:
        self._work = experiment.work

    def __call__(self, generation: int, members: Sequence[Member], is_last: bool) -> list[tuple[Member, Heir | None]]:
        rows = newest(self._work, members)
        scores = {member.trial: rows[member.id]["score"] for member in members}
        order = succession(members, scores, POPULATION // 2, highest=True)
        best = order[0][0]
        clone = Heir(parent=best.id, donor=best.trial, config=rows[best.id]["config"])
        return [(member, clone if donor else None) for member, donor in order]


def newest(work: Path, members: Sequence[Member]) -> dict[str, dict[str, Any]]:
    """The last line of each, by its id."""
    rows = {row["place"]: row for row in read_json_lines(work / LIVED)}
    return {member.id: rows[place_of(member.trial)] for member in members}


class Budget(tune.Stopper):
    """Ends the experiment after some individual-generations."""

    def __init__(self, generations: int) -> None:
        self._left = generations

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        self._left -= 1
        return self._left <= 0

    def stop_all(self) -> bool:
        return self._left <= 0


def _first_drafts(experiment: Experiment) -> int:
    """Of `close`: half, so that the others are left for whom it matters."""
    return max(1, experiment.drafts // 2)


def _alpha_evolve(experiment: Experiment) -> TrialScheduler:
    return AlphaEvolve(lineage=experiment.work / LINEAGE, custom_explore_fn=dict, **SCORE)


def _evolve(experiment: Experiment, **settings: Any) -> Method:
    drafts = {"drafts": experiment.drafts, "most_drafts": experiment.drafts}
    given = EvolveSettings(population=POPULATION, genes=GENES, **drafts | settings)
    return _alpha_evolve(experiment), Selecting(experiment, given)


def _close(experiment: Experiment) -> Method:
    return _evolve(experiment, drafts=_first_drafts(experiment), most_drafts=4 * experiment.drafts)


def _any_better(experiment: Experiment) -> Method:
    return _evolve(experiment, better_by=0)


def _continue(experiment: Experiment) -> Method:
    return _alpha_evolve(experiment), Continuing(experiment)


def _pbt(experiment: Experiment, quantile: float = 0.25) -> Method:
    scheduler = PopulationBasedTraining(
        time_attr="training_iteration",
        perturbation_interval=1,
        quantile_fraction=quantile,
        synch=True,
        hyperparam_mutations={"learning_rate": tune.loguniform(searched().low, searched().high)},
        **SCORE,
    )
    return scheduler, None


def _pbt_half(experiment: Experiment) -> Method:
    return _pbt(experiment, 0.5)


def _asha(experiment: Experiment) -> Method:
    return ASHAScheduler(max_t=experiment.task.generations, grace_period=1, reduction_factor=2, **SCORE), None


def _random(experiment: Experiment) -> Method:
    return FIFOScheduler(), None


METHODS: Mapping[str, Callable[[Experiment], Method]] = {
    "evolve": _evolve,
    "close": _close,
    "any_better": _any_better,
    "continue": _continue,
    "pbt": _pbt,
    "pbt_half": _pbt_half,
    "asha": _asha,
    "random": _random,
}
LIVED, AGAIN, LINEAGE = "lived.jsonl", "again.jsonl", "lineage.jsonl"
