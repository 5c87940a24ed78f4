"""What runs while it holds a slot: an individual for a generation, or the imitation of the pool, each in the process of
its trial or of a task of Ray's. Nobody waits for a slot while holding one.
"""

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
import torch
from ray.exceptions import RayError, RayTaskError
from ray.util.queue import Queue

from app.errors import UserError, causes
from app.evolution.fitness import fitness_of
from app.evolution.history import LIVED
from app.evolution.imitation import imitate_pool, imitation_id
from app.evolution.records import Genome, Lived
from app.evolution.standings import short
from app.evolution.trial import Birth, Surroundings, live, told
from app.progress import forward_to, say
from app.running import metrics
from app.runs import Run
from app.training.reports import send
from tune_spaces.alpha_evolve import (
    config_of,
    genome_of,
    settings_of,
)
from tune_spaces.gpu_slots import Slots, enforce, profile_in

TRUNK = "trunk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What a trial's process is given."""

    run: Run
    around: Surroundings
    slots: Slots
    origin: Path
    """The TrainState that the first generation begins with."""
    channel: Queue


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
        # the rung's rates are to be compared on the same prompts
        draws_as=name.partition("_")[2] or name.partition("-")[0],
    )
    with _held(shared, name):
        lived = live(shared.run.individual(name, generation), birth, around, device)
        _tell(shared, lived)
    return lived


def imitate_in_slot(shared: Shared, generation: int) -> Lived | None:
    device = enforce(shared.slots)
    with _held(shared, imitation_id(generation)):
        lived = imitate_pool(shared.run, generation, _around_of(shared), device)
        if lived:
            _tell(shared, lived)
    return lived


@contextlib.contextmanager
def _held(shared: Shared, name: str) -> Iterator[None]:
    """What this process reports is this individual's, which holds a slot."""
    with metrics.tagged(run=shared.run.root.name, stage="evolve", individual=short(name)):
        metrics.report(slots_held=1)
        forward_to(functools.partial(_progress, shared, name))
        try:
            yield
        finally:
            metrics.report(slots_held=0)


def _progress(shared: Shared, name: str, said: str) -> None:
    """What an individual says while it learns is told as how far it is."""
    send(shared.channel, {"step": _num_lived(shared), "note": f"{short(name)}, {said.strip()}"})


def _num_lived(shared: Shared) -> int:
    """Individuals that have lived a generation, those of before the first one and imitations aside."""
    return len(list(shared.run.evolve_individuals.glob(f"*_*/*/{LIVED}")))


def _tell(shared: Shared, lived: Lived) -> None:
    fitness = fitness_of(lived.metrics, shared.around.profile.evolve.fitness)
    if fitness:
        metrics.report_fitness(short(lived.id), lived.generation, fitness.value)
    send(shared.channel, f"  {told(lived, fitness.value if fitness else None)}")


def _around_of(shared: Shared) -> Surroundings:
    """As who holds a slot has it."""
    profile = profile_in(shared.slots, shared.around.profile)
    return replace(shared.around, profile=profile, engine_sleeps=shared.slots.takes_turns)


def in_slots(shared: Shared, births: Sequence[tuple[str, Genome, Path]], *, may_fail: bool = False) -> list[Lived]:
    """Individuals of no trial, before the first generation, as many at a time as there are slots. may_fail: those that
    fail are told and left out; raises UserError where all do."""
    begun = [
        _remote(live_in_slot, name, shared.slots).remote(shared, name, 0, config_of(genome), start)
        for name, genome, start in births
    ]
    found = []
    for (name, _, _), one in zip(births, begun, strict=True):
        try:
            found.append(_get(one))
        except RayError as error:
            if not may_fail or not is_its_own(error):
                raise
            say(f"  {name} failed: {last_line(error)}")
    if not found:
        raise UserError("all learning rates of the rung failed: lower grm.learning_rate, or evolve.rates")
    return found


def imitate_in_a_slot(shared: Shared, generation: int) -> Lived | None:
    """The imitation of the pool, in a process of its own. Raises what it raised there."""
    lived: Lived | None = _get(
        _remote(imitate_in_slot, imitation_id(generation), shared.slots).remote(shared, generation)
    )
    return lived


def _remote(function: Any, name: str, slots: Slots) -> Any:
    """A task in a slot, under the name that Ray's dashboard shows. On a card its process ends with it: it would keep
    its context there."""
    cpus, gpus = slots.resources.get("CPU", 0.0), slots.resources.get("GPU", 0.0)
    remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=1, max_calls=1 if gpus else 0)(function)
    return remote.options(name=f"evolve: {name}")


def _get(reference: Any) -> Any:
    """Raises UserError where that lies at the bottom of the task's error."""
    try:
        return ray.get(reference)
    except RayTaskError as error:
        *_, bottom = causes(error)
        if isinstance(bottom, UserError):
            raise bottom from None
        raise


def is_its_own(error: RayError) -> bool:
    """Whether a candidate failed for what it is, so that the others may go on: it diverged, found no memory, or its
    process was lost. What else a task raises is a fault of the program."""
    *_, bottom = causes(error)
    diverged = isinstance(bottom, FloatingPointError | ValueError | torch.OutOfMemoryError)
    return diverged or not isinstance(error, RayTaskError)


def last_line(error: BaseException) -> str:
    *_, bottom = causes(error)
    return (str(bottom).strip().splitlines() or [type(bottom).__name__])[-1]
