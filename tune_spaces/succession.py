"""Who goes on at the end of a generation, who is replaced, and what the children are: `app.evolution.boundary` decides,
`tune_spaces.alpha_evolve` mutates.
"""

from collections.abc import Mapping, Sequence

from ray.exceptions import RayError

from app.evolution.boundary import decide
from app.evolution.history import read_lived
from app.evolution.lineage import Heir, Member
from app.evolution.records import Lived
from app.evolution.trial import STATE
from app.progress import say
from tune_spaces.alpha_evolve import (
    Child,
    config_of,
    genome_of,
    mutated,
    space_of,
)
from tune_spaces.in_slots import Shared, imitate_in_a_slot, is_its_own, last_line


class BySelection:
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
        """None as well where it failed for what it is, for it is one candidate more."""
        try:
            return imitate_in_a_slot(self._shared, generation)
        except RayError as error:
            if not is_its_own(error):
                raise
            say(f"  the imitation of generation {generation} failed and is left out: {last_line(error)}")
            return None
