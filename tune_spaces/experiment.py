"""Evolution on Ray Tune: a population of trials, each of which is an individual that holds a slot of the card while it
learns for a generation.

    rung    a few learning rates, each for a while; the trunk takes the best of them
    trunk   one individual, of which the whole population is made, with its moments
    Tune    AlphaEvolve (`tune_spaces.scheduler`): population x generations; `evolve/tune/` is the experiment's folder

The trials call `app.evolution.trial.live` in their own process; what they share comes to them through Ray's object
store, and is given anew where an experiment is restored. At the end of a generation nobody holds a slot: this process
selects (`app.evolution.boundary`), and has the imitation of the pool trained in a slot meanwhile.
"""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.logger import CSVLoggerCallback, JsonLoggerCallback

from app.errors import UserError
from app.evolution.fitness import fitness_of
from app.evolution.lineage import Outcome, identify, read_lineage
from app.evolution.records import Lived
from app.evolution.selection import ranked
from app.evolution.trial import STATE, Surroundings
from app.files.json_files import read_json, write_json
from app.hardware import can_share_locks
from app.progress import say
from app.running import metrics
from app.runs import Run
from app.settings import Profile
from app.training.reports import shown
from tune_spaces import brief_log
from tune_spaces.alpha_evolve import (
    config_of,
    default_genome,
    first_population,
    settings_of,
)
from tune_spaces.gpu_slots import Slots, slots_for
from tune_spaces.in_slots import TRUNK, Shared, in_slots, live_in_slot
from tune_spaces.replay import write_policy
from tune_spaces.saved_state import put_back
from tune_spaces.scheduler import AlphaEvolve
from tune_spaces.selecting import selected_by
from tune_spaces.succession import BySelection

WHO = "individual.json"
"""In a trial's checkpoint: whose it is, and of which generation."""
THREAD_TIMEOUT_S = "120"
"""In which a trial's thread has to end before its process serves another: it frees a model."""
MAX_FAILURES = 2
"""Of a trial, before it leaves the population."""


def evolve_on_ray(run: Run, around: Surroundings, origin: Path, *, with_trunk: bool, started: Slots) -> None:
    """Run the population to its end, or go on with it. Needs a connected Ray with the engine and the judges on it.

    origin: a TrainState of the base, which a trunk begins with, or what the population itself begins with. started: the
    slots by which the engine was started. Raises UserError where all individuals failed.
    """
    settings = around.profile.evolve
    if not can_share_locks():  # with which the writer of Tune's curves for TensorBoard starts
        os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"  # relative paths of the settings mean in a trial what they mean here
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # else Tune draws tables, whatever `verbose` says
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # else it takes Control-C for the experiment's end
    # Tune's ids begin at random otherwise, and what is drawn by hash of an individual would differ from run to run.
    os.environ.setdefault("_TEST_TUNE_TRIAL_UUID", "trial")
    brief_log.shorten()
    number = settings.population * settings.generations
    with shown("evolve", number, lambda report: report["note"], unit="individuals") as channel:
        shared = Shared(run=run, around=around, slots=started, origin=origin, channel=channel)
        if with_trunk:
            shared = _with_trunk(shared)
        say(f"  {shared.slots.reason}")
        metrics.report(slots=shared.slots.number)
        with selected_by(BySelection(shared), around.deadline):
            results = _tuner(shared).fit()
    lives = read_lineage(run.evolve_lineage)
    reached = max((life.generation for life in lives), default=0)
    if not any(life.outcome is Outcome.FINISHED for life in lives):
        why = str(results.errors[0]).strip().splitlines()[-1:] if results.num_errors else []
        raise UserError(
            f"evolution ended after {reached} of {settings.generations} generations, because all individuals of the "
            f"next one failed ({''.join(why) or 'Tune says no reason'}): mend that, and give the same command again"
        )
    say(f"  {write_policy(run)}")


def _tuner(shared: Shared) -> tune.Tuner:
    """A new experiment, or the one that was ended."""
    run, profile, settings = shared.run, shared.around.profile, shared.around.profile.evolve
    trainable = tune.with_resources(tune.with_parameters(individual, shared=shared), shared.slots.resources)
    place = run.evolve_tune
    if _is_restorable(run):
        return tune.Tuner.restore(str(place), trainable=trainable, resume_errored=True)
    founders = first_population(profile.grm, settings, profile.seed)
    genomes = [config_of(one.genome) for one in founders]
    scheduler = AlphaEvolve(
        lineage=run.evolve_lineage,
        kept=run.evolve_tune_state,
        metric="fitness",
        mode="max",
        population=settings.population,
        generations=settings.generations,
        custom_explore_fn=dict,  # not asked: `BySelection` makes the children
    )
    return tune.Tuner(
        trainable,
        param_space={"genome": tune.grid_search(genomes), "born": 1, "weights": ""},
        tune_config=tune.TuneConfig(scheduler=scheduler, reuse_actors=True),
        run_config=tune.RunConfig(
            name=place.name,
            storage_path=str(place.parent),
            failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=3),
            callbacks=None if can_share_locks() else [CSVLoggerCallback(), JsonLoggerCallback()],
            verbose=0,
        ),
    )


def individual(config: dict[str, Any], shared: Shared) -> None:
    """The trainable: one generation whenever it is called, reported with the checkpoint that the next begins with."""
    os.environ.setdefault("TUNE_FUNCTION_THREAD_TIMEOUT_S", THREAD_TIMEOUT_S)  # read here, in the trial's process
    trial, begun = tune.get_context().get_trial_id(), tune.get_checkpoint()
    generation, start = 1, shared.origin
    if begun:
        start = Path(begun.path)
        generation = int(read_json(start / WHO)["generation"]) + 1
    if config["weights"] and generation == config["born"]:
        start = Path(config["weights"])
    name = identify(trial, config["born"])
    while True:
        lived = live_in_slot(shared, name, generation, config["genome"], start)
        folder = shared.run.individual(name, generation).folder / STATE
        write_json(folder / WHO, {"id": name, "generation": generation})
        tune.report(_reported(lived, shared.around.profile), checkpoint=tune.Checkpoint.from_directory(folder))
        start, generation = folder, generation + 1


def _is_restorable(run: Run) -> bool:
    """Whether Tune can go on with the experiment, whose state is then put back as it was kept last. What was begun
    before anything was kept is removed. Raises UserError where the state was lost later."""
    if run.evolve_tune_state.exists() and run.evolve_tune.exists():
        put_back(run.evolve_tune_state, run.evolve_tune)
        return True
    if read_lineage(run.evolve_lineage):
        raise UserError(
            f"Tune's state ({run.evolve_tune_state}, {run.evolve_tune}) was lost, and {run.evolve_lineage} tells of "
            f"generations that it had: restore it, or remove {run.evolve} to start anew"
        )
    individuals = run.evolve_individuals  # rungs and trunk came before, and stay
    of_trials = (*individuals.glob("*_*"), *individuals.glob("imitation.*"))
    run.evolve_tune_state.unlink(missing_ok=True)
    for begun in (run.evolve_tune, run.evolve_boundaries, *of_trials):
        shutil.rmtree(begun, ignore_errors=True)
    return False


def _reported(lived: Lived, profile: Profile) -> dict[str, Any]:
    """What Tune shows of a generation."""
    fitness = fitness_of(lived.metrics, profile.evolve.fitness)
    return {
        "fitness": fitness.value if fitness else float("nan"),
        "pass_at_1": fitness.pass_at_1 if fitness else float("nan"),
        "kl": lived.metrics.kl,
        "reward": lived.reward if lived.reward is not None else float("nan"),
        "steps": lived.steps,
        "drawn_tokens": lived.drawn_tokens,
        "learnt_tokens": lived.learnt_tokens,
        "individual": lived.id,
    }


def _with_trunk(shared: Shared) -> Shared:
    """The population is to begin with one individual that has learnt with the best of the rung's rates."""
    around, settings = shared.around, shared.around.profile.evolve
    genome, start = default_genome(around.profile.grm), shared.origin
    if len(settings.rates) > 1:
        say(f"  rung: {len(settings.rates)} learning rates")
        tried = [replace(genome, learning_rate=genome.learning_rate * rate) for rate in settings.rates]
        names = [f"rung-{number}" for number in range(1, len(tried) + 1)]
        lives = in_slots(shared, [(name, one, start) for name, one in zip(names, tried, strict=True)], may_fail=True)
        best = ranked({one.id: one.metrics for one in lives}, settings, seed=around.profile.seed).names[0]
        genome, start = tried[names.index(best)], shared.run.individual(best, 0).folder / STATE
        say(f"  the trunk learns at {genome.learning_rate:g}")
    (trunk,) = in_slots(shared, [(TRUNK, genome, start)])
    profile = around.profile.model_copy(update={"grm": settings_of(genome, around.profile.grm)})
    peak = trunk.peak_gib if profile.sft.use_gpu else None
    slots = slots_for(profile, peak_gib=peak, declared=settings.slots, cards=num_cards(), started=shared.slots)
    ruler = around.ruler if slots.number == 1 else replace(around.ruler, base_speeds=())
    origin = shared.run.individual(TRUNK, 0).folder / STATE
    return replace(shared, around=replace(around, profile=profile, ruler=ruler), slots=slots, origin=origin)


def num_cards() -> int:
    """Of the cluster that is connected."""
    return int(ray.cluster_resources().get("GPU", 0))
