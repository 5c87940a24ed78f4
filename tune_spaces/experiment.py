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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.util.queue import Queue

from app.errors import UserError, causes
from app.evolution.boundary import decide
from app.evolution.fitness import fitness_of
from app.evolution.history import read_lived
from app.evolution.imitation import imitate_pool
from app.evolution.lineage import Heir, Member, identify, read_lineage
from app.evolution.records import Genome, Lived
from app.evolution.selection import ranked
from app.evolution.trial import STATE, Birth, Surroundings, live, told
from app.files.json_files import read_json, write_json
from app.progress import say
from app.runs import Run
from app.settings import Profile
from app.training.reports import send, shown
from tune_spaces.alpha_evolve import (
    Child,
    config_of,
    default_genome,
    first_population,
    genome_of,
    mutated,
    settings_of,
    space_of,
)
from tune_spaces.gpu_slots import Slots, enforce, profile_in, slots_for
from tune_spaces.replay import write_policy
from tune_spaces.scheduler import AlphaEvolve
from tune_spaces.selecting import selected_by

WHO = "individual.json"
"""In a trial's checkpoint: whose it is, and of which generation."""
TRUNK = "trunk"
THREAD_TIMEOUT_S = "120"
"""In which a trial's thread has to end before its process serves another: it frees a model."""
MAX_FAILURES = 2
"""Of a trial, before it leaves the population."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What a trial's process is given."""

    run: Run
    around: Surroundings
    slots: Slots
    origin: Path
    """The TrainState that the first generation begins with."""
    channel: Queue


def evolve_on_ray(run: Run, around: Surroundings, origin: Path, *, with_trunk: bool, started: Slots) -> None:
    """Run the population to its end, or go on with it. Needs a connected Ray with the engine and the judges on it.

    origin: a TrainState of the base, which a trunk begins with, or what the population itself begins with. started: the
    slots by which the engine was started. Raises UserError where all individuals failed.
    """
    settings = around.profile.evolve
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # else Tune draws tables, whatever `verbose` says
    with shown("evolve", settings.population * settings.generations, str) as channel:
        shared = Shared(run=run, around=around, slots=started, origin=origin, channel=channel)
        if with_trunk:
            shared = _with_trunk(shared)
        say(f"  {shared.slots.reason}")
        with selected_by(_Selection(shared)):
            results = _tuner(shared).fit()
    if results.num_errors and not any(life.score is not None for life in read_lineage(run.evolve_lineage)):
        raise UserError(f"all individuals failed, the first with: {results.errors[0]}")
    say(f"  {write_policy(run)}")


def _tuner(shared: Shared) -> tune.Tuner:
    """A new experiment, or the one that was ended."""
    run, profile, settings = shared.run, shared.around.profile, shared.around.profile.evolve
    trainable = tune.with_resources(tune.with_parameters(individual, shared=shared), shared.slots.resources)
    place = run.evolve_tune
    if tune.Tuner.can_restore(str(place)):
        return tune.Tuner.restore(str(place), trainable=trainable, resume_errored=True)
    founders = first_population(profile.grm, settings, profile.seed)
    genomes = [config_of(one.genome) for one in founders]
    scheduler = AlphaEvolve(
        lineage=run.evolve_lineage,
        metric="fitness",
        mode="max",
        population=settings.population,
        generations=settings.generations,
        custom_explore_fn=dict,  # not asked: `_Selection` makes the children
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


def live_in_slot(shared: Shared, name: str, generation: int, held: Mapping[str, Any], start: Path) -> Lived:
    """In a process that holds a slot. held: the genome as Tune carries it, and what else its config says."""
    device, around = enforce(shared.slots), _around_of(shared)
    profile, genome = around.profile, genome_of(held)
    tokens = {TRUNK: profile.evolve.trunk_tokens}.get(name, profile.evolve.generation_tokens)
    birth = Birth(
        id=name,
        generation=generation,
        genome=genome,
        config=config_of(genome),
        grm=settings_of(genome, profile.grm),
        start=start,
        tokens=tokens if generation or name == TRUNK else profile.evolve.rung_tokens,
    )
    lived = live(shared.run.individual(name, generation), birth, around, device)
    fitness = fitness_of(lived.metrics, profile.evolve.fitness)
    send(shared.channel, f"  {told(lived, fitness.value if fitness else None)}")
    return lived


def imitate_in_slot(shared: Shared, generation: int) -> Lived | None:
    device = enforce(shared.slots)
    lived = imitate_pool(shared.run, generation, _around_of(shared), device)
    if lived:
        fitness = fitness_of(lived.metrics, shared.around.profile.evolve.fitness)
        send(shared.channel, f"  {told(lived, fitness.value if fitness else None)}")
    return lived


def _around_of(shared: Shared) -> Surroundings:
    """As who holds a slot has it."""
    profile = profile_in(shared.slots, shared.around.profile)
    return replace(shared.around, profile=profile, engine_sleeps=shared.slots.takes_turns)


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
        lives = _in_slots(shared, [(name, one, start) for name, one in zip(names, tried, strict=True)])
        best = ranked({one.id: one.metrics for one in lives}, settings, seed=around.profile.seed).names[0]
        genome, start = tried[names.index(best)], shared.run.individual(best, 0).folder / STATE
        say(f"  the trunk learns at {genome.learning_rate:g}")
    (trunk,) = _in_slots(shared, [(TRUNK, genome, start)])
    profile = around.profile.model_copy(update={"grm": settings_of(genome, around.profile.grm)})
    peak = trunk.peak_gib if profile.sft.use_gpu else None
    return replace(
        shared,
        around=replace(around, profile=profile),
        slots=slots_for(profile, peak_gib=peak, declared=settings.slots, cards=num_cards(), started=shared.slots),
        origin=shared.run.individual(TRUNK, 0).folder / STATE,
    )


def _in_slots(shared: Shared, births: Sequence[tuple[str, Genome, Path]]) -> list[Lived]:
    """Individuals of no trial, before the first generation, as many at a time as there are slots."""
    remote = _remote(live_in_slot, shared.slots)
    found = [remote.remote(shared, name, 0, config_of(genome), start) for name, genome, start in births]
    return _get(found)


def _remote(function: Any, slots: Slots) -> Any:
    resources = dict(slots.resources)
    return ray.remote(function).options(
        num_cpus=resources.pop("CPU", 0), num_gpus=resources.pop("GPU", 0), max_retries=1
    )


def _get(references: Any) -> Any:
    try:
        return ray.get(references)
    except ray.exceptions.RayTaskError as error:
        *_, bottom = causes(error)
        if isinstance(bottom, UserError):
            raise bottom from None
        raise


def num_cards() -> int:
    """Of the cluster that is connected."""
    return int(ray.cluster_resources().get("GPU", 0))


class _Selection:
    """Who goes on, who is replaced, and what the children are (`app.evolution.lineage.Succession`)."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._settings = shared.around.profile.evolve

    def __call__(self, generation: int, members: Sequence[Member], is_last: bool) -> list[tuple[Member, Heir | None]]:
        shared, run = self._shared, self._shared.run
        there = {one.id: one for one in members if not one.failed}
        lives = [read_lived(run.individual(name, generation).folder) for name in there]
        decided = decide(run, generation, lives, shared.around, self._imitate)
        failed = [one for one in members if one.failed]
        best = there[decided.order[0]]
        donors = dict(decided.boundary.donors) | {one.id: best.id for one in failed}
        heirs = {} if is_last else self._heirs(generation, there, donors, best)
        return [(one, heirs.get(one.id)) for one in (*(there[name] for name in decided.order), *failed)]

    def _heirs(
        self, generation: int, there: Mapping[str, Member], donors: Mapping[str, str], best: Member
    ) -> dict[str, Heir]:
        """By the id of who is replaced. A child differs from who goes on, and from the children before it."""
        profile, run = self._shared.around.profile, self._shared.run
        genomes = {name: genome_of(read_lived(run.individual(name, generation).folder).config) for name in there}
        living = [genome for name, genome in genomes.items() if name not in donors]
        found: dict[str, Heir] = {}
        for number, (name, donor) in enumerate(donors.items()):
            member = there.get(donor, best)  # an imitation learnt by no genome: its child has the best one's
            child: Child = mutated(
                genomes[member.id],
                profile.seed,
                number,
                generation,
                genes=self._settings.genes,
                living=living,
                space=space_of(profile.grm),
            )
            living.append(child.genome)
            weights = "" if donor in there else str(run.individual(donor, generation).folder / STATE)
            config = {"genome": config_of(child.genome), "born": generation + 1, "weights": weights}
            found[name] = Heir(parent=donor, donor=member.trial, config=config)
        return found

    def _imitate(self, generation: int) -> Lived | None:
        lived: Lived | None = _get(_remote(imitate_in_slot, self._shared.slots).remote(self._shared, generation))
        return lived
