"""Where each individual stood at the end of each generation, with its parent, its worth and its genes: the lineage, the
records of individuals and the boundaries put together, for the report."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.evolution.fitness import fitness_of
from app.evolution.lineage import Life, Outcome
from app.evolution.records import Boundary, Lived, Value
from app.stage_settings.evolve import FitnessSettings

MIXTURE = "mixture"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """An individual, or an imitation of the pool, at the end of one generation.

    Example: Standing(id="5f0c1_00003.2", generation=2, place=3, parent="5f0c1_00001.1", outcome=Outcome.SURVIVED,
                      fitness=0.31, genome={"learning_rate": 7e-5, ...}, is_imitation=False)
    """

    id: str
    generation: int
    """0: it learnt before the first one, in a rung or as the trunk."""
    place: int | None
    """Row of the family tree, from 0: a child has that of the one whose place it took. None: it took no place, or the
    lineage is not there."""
    parent: str
    """Whose weights it began with; empty for the first generation."""
    outcome: Outcome | None
    fitness: float | None
    """By all drafts that selection asked for; None where nothing was measured."""
    genome: Mapping[str, Value]
    """By gene, each source of the mixture for itself; empty for an imitation."""
    is_imitation: bool


def short(name: str) -> str:
    """An id without the experiment and leading zeros: 3.2 of 5f0c1_00003.2, 3_2.2 of 5f0c1_00003_2.2."""
    experiment, _, number = name.partition("_")
    return re.sub(r"^0+(?=\d)", "", number) if "." in number else name


def standings_of(
    lives: Sequence[Life], lived: Sequence[Lived], boundaries: Sequence[Boundary], fitness: FitnessSettings
) -> list[Standing]:
    """By generation, then by place; those without a place last."""
    first = {(one.generation, one.id): value.value for one in lived if (value := fitness_of(one.metrics, fitness))}
    worth = first | {(one.generation, name): value for one in boundaries for name, value in one.values.items()}
    genomes = {(life.generation, life.id): flat(life.config.get("genome", {})) for life in lives}
    genomes |= {(one.generation, one.id): flat(one.config) for one in lived}
    imitations = {one.imitation for one in boundaries if one.imitation} | {one.id for one in lived if not one.config}
    of_line = {(life.generation, life.id): life for life in lives}
    places = _places(lives)
    found = []
    for generation, name in sorted({*worth, *genomes, *of_line}):
        life = of_line.get((generation, name))
        found.append(
            Standing(
                id=name,
                generation=generation,
                place=places.get(name),
                parent=life.parent if life else "",
                outcome=life.outcome if life else None,
                fitness=worth.get((generation, name)),
                genome=genomes.get((generation, name), {}),
                is_imitation=name in imitations,
            )
        )
    return sorted(found, key=lambda one: (one.generation, one.place is None, one.place, one.id))


def _places(lives: Sequence[Life]) -> dict[str, int]:
    founders = sorted(life.trial for life in lives if life.generation == 1)
    found: dict[str, int] = {}
    for life in sorted(lives, key=lambda one: one.generation):
        place = found.setdefault(life.id, founders.index(life.trial) if life.trial in founders else len(found))
        if life.replaced_by:
            found[life.replaced_by.id] = place
    return found


def descent_of(line: Sequence[Life], last: int) -> list[tuple[int, str]]:
    """Generation and id along a line of descent (`app.evolution.lineage.ancestry`), each until the next was born and
    the last one until the generation `last`. It begins anew where one's weights came from an imitation of the pool."""
    ends = [*(life.generation - 1 for life in line[1:]), last]
    found: list[tuple[int, str]] = []
    for life, end in zip(line, ends, strict=True):
        if found and life.parent != found[-1][1]:
            found = [(life.generation - 1, life.parent)]
        found += [(generation, life.id) for generation in range(life.generation, end + 1)]
    return found


def flat(config: Mapping[str, Value]) -> dict[str, Value]:
    """A genome as Tune carries it, the mixture's sources each for itself."""
    found = {name: value for name, value in config.items() if name != MIXTURE}
    mixture = json.loads(str(config.get(MIXTURE, "{}")))
    return found | {f"{MIXTURE}: {source}": weight for source, weight in mixture.items()}
