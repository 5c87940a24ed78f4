"""The end of a generation: further drafts for close calls, one candidate more that imitates the pool, and who is
replaced by whose child.

    individuals   measured by their own first drafts (`app.evolution.trial`)
    imitation     rejection-sampled tuning of the base on what all individuals solved (`app.evolution.pool`)
    selection     more drafts where it is close, then donors (`app.evolution.selection`)

The imitation takes no place by itself: it is a donor where it is ahead of all survivors, and better than the worst
individual by as much as any donor has to be. It may be the final choice. Nobody holds a slot meanwhile, so drafts are
drawn by the caller; the imitation is trained by who gives `imitate`, in a slot. What was decided is kept, and a
generation that is decided already is not decided again.
"""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from app.errors import UserError
from app.evolution.fitness import fitness_of
from app.evolution.history import boundary_file, read_boundary, write_boundary
from app.evolution.measuring import measured
from app.evolution.pool import coverage, draft_files, pooled
from app.evolution.records import Boundary, Compared, Coverage, Fitness, Lived, Metrics
from app.evolution.selection import Pair, Ranking, pair_of, ranked, replacements
from app.evolution.selection_drafts import Further, further_draws, selection_budget, with_more
from app.evolution.trial import STATE, Surroundings
from app.runs import Run
from app.stage_settings.evolve import EvolveSettings
from app.training.state import ADAPTER

Imitate = Callable[[int], Lived | None]
"""Makes a generation's imitation of the pool and measures it; None where nothing was solved that it could imitate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A generation's boundary and who competed. Made by `decide`."""

    boundary: Boundary
    order: Sequence[str]
    """Individuals, the best first; those that nobody could measure come last."""


def decide(
    run: Run,
    generation: int,
    individuals: Sequence[Lived],
    around: Surroundings,
    imitate: Imitate,
) -> Decided:
    """individuals: all that came to the end of the generation."""
    names = [one.id for one in individuals]
    if boundary_file(run.evolve_boundaries, generation).exists():
        held = read_boundary(run.evolve_boundaries, generation)
        if held.values.keys().isdisjoint(names):
            raise UserError(
                f"{run.evolve_boundaries} tells of another population than {run.evolve_tune}: remove {run.evolve} to "
                "start anew"
            )
        return Decided(boundary=held, order=_order(held, names))
    start, settings = time.perf_counter(), around.profile.evolve
    imitation = imitate(generation) if settings.imitation and not around.deadline.is_over() else None
    budget = selection_budget(settings)
    found, further = _measured(run, individuals, imitation, around, budget)
    ranking = ranked({name: found[name] for name in names}, settings, seed=around.profile.seed)
    replaced = replacements(found, ranking, settings)
    ahead = imitation.id if imitation and is_ahead(found, imitation.id, ranking, settings) else ""
    donors = {one.name: one.donor for one in replaced if one.donor}
    if ahead and replaced and _is_better(found, ahead, replaced[-1].name, settings):
        donors[replaced[-1].name] = ahead
    everybody = ranked(found, settings, seed=around.profile.seed)
    order = [*everybody.names, *everybody.unmeasured]
    worths = _worths(found, settings)
    boundary = Boundary(
        generation=generation,
        values={name: worths[name].value for name in order if name in worths},
        pass_at_1={name: worths[name].pass_at_1 for name in order if name in worths},
        num_drafts={name: one.drafts for name, one in found.items()},
        num_problems=ranking.num_problems,
        unmeasured=ranking.unmeasured,
        imitation=imitation.id if imitation else "",
        donors=donors,
        close=[compared(one.pair) for one in replaced],
        undecided=len(further.unpaid),
        probability=ranking.probability,
        survivors_probability=ranking.survivors_probability,
        selection_tokens=sum(one.num_tokens for one in found.values()),
        budget_tokens=budget,
        coverage=_coverage(run, generation, around),
        seconds=time.perf_counter() - start,
    )
    write_boundary(run.evolve_boundaries, boundary)
    if generation > 1:  # what came before the first is begun with again where the stage is started again
        _forget_states(run, generation - 1)
    return Decided(boundary=boundary, order=_order(boundary, names))


def is_ahead(found: Mapping[str, Metrics], name: str, ranking: Ranking, settings: EvolveSettings) -> bool:
    """Whether a candidate without a place is better than the best individual, by however little."""
    pair = pair_of(found, name, ranking.names[0], settings)
    return pair is not None and pair.difference > 0


def compared(pair: Pair) -> Compared:
    return Compared(
        first=pair.ahead,
        second=pair.behind,
        difference=pair.difference,
        errors=pair.errors,
        probability=pair.probability,
    )


def _measured(
    run: Run, individuals: Sequence[Lived], imitation: Lived | None, around: Surroundings, budget: int
) -> tuple[dict[str, Metrics], Further]:
    """By id, with more drafts where individuals are close, and then as many of the imitation as of the best one."""
    settings = around.profile.evolve
    lived = {one.id: one for one in (*individuals, *([imitation] if imitation else []))}
    found = _fairly_timed({name: one.metrics for name, one in lived.items()})
    left = budget - (imitation.metrics.num_tokens if imitation else 0)
    while True:
        measured_ones = {one.id: found[one.id] for one in individuals}
        ranking = ranked(measured_ones, settings, seed=around.profile.seed)
        further = further_draws(measured_ones, ranking, settings, budget=left)
        if not further.draws:
            break
        for draw in further.draws:
            found[draw.name] = with_more(found[draw.name], _more(run, lived[draw.name], draw.samples, around))
    if imitation:
        held, wanted = found[imitation.id], found[ranking.names[0]].drafts
        cost = held.num_tokens / held.drafts * (wanted - held.drafts)
        if 0 < cost <= budget - sum(one.num_tokens for one in found.values()):
            more = _more(run, imitation, tuple(range(held.drafts, wanted)), around)
            found[imitation.id] = with_more(held, more)
    return found, further


def _more(run: Run, one: Lived, samples: Sequence[int], around: Surroundings) -> Metrics:
    at = run.individual(one.id, one.generation)
    adapter = str(at.folder / STATE / ADAPTER)
    more, _ = measured(at.folder, adapter, around.ruler, around.generator, around.judge, around.facts, samples)
    return more


def _fairly_timed(found: Mapping[str, Metrics]) -> dict[str, Metrics]:
    """Speed counts for all, or, where a restart has kept it from being measured of somebody, for nobody."""
    if all(one.speeds for one in found.values()):
        return dict(found)
    return {name: replace(one, speeds=()) for name, one in found.items()}


def _is_better(found: Mapping[str, Metrics], donor: str, name: str, settings: EvolveSettings) -> bool:
    pair = pair_of(found, donor, name, settings)
    return pair is not None and pair.errors >= settings.better_by


def _worths(found: Mapping[str, Metrics], settings: EvolveSettings) -> dict[str, Fitness]:
    worths = {name: fitness_of(one, settings.fitness) for name, one in found.items()}
    return {name: worth for name, worth in worths.items() if worth is not None}


def _order(boundary: Boundary, names: Sequence[str]) -> list[str]:
    known = [name for name in boundary.values if name in names]
    return [*known, *(name for name in names if name not in known)]


def _coverage(run: Run, generation: int, around: Surroundings) -> Coverage | None:
    """Problems that all individuals' drafts have solved so far, beside those of as many drafts of one individual."""
    pool = pooled(draft_files(run.evolve_individuals, generation), {one.given.id for one in around.problems})
    return coverage(generation, pool.own)


def _forget_states(run: Run, generation: int) -> None:
    """Remove what nobody goes on from any more: Tune has its own copies of what individuals go on from."""
    for state in run.evolve_individuals.glob(f"*/{generation}/{STATE}"):
        shutil.rmtree(state)
