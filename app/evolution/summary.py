"""What a complete evolution stage came to, for the report: read from evolve/meta.json, the lineage, the records of
individuals, and how each generation was decided.

A copy of a run may lack some of these files, and an older one some of their entries: what is there is told.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any

from app.errors import UserError
from app.evaluation.statistics import Comparison
from app.evolution.history import all_lived, read_boundaries
from app.evolution.lineage import Outcome, ancestry, read_lineage
from app.evolution.records import Boundary, Coverage, Lived, Value
from app.evolution.standings import MIXTURE, Standing, descent_of, standings_of
from app.files.json_files import read_json
from app.reward.drafts.audit import Audit
from app.reward.drafts.files import read_drafts
from app.reward.drafts.solve_rates import rates
from app.reward.summary import audit_of
from app.runs import Run
from app.stage_settings.evolve import FitnessSettings

OF_SELECTION = "It was chosen by these problems, which may suit it a little better than others do."


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """How a generation ended: a row of the report's table."""

    number: int
    best: str
    fitness: float
    pass_at_1: float
    """Of the best one."""
    probability: float
    """That the whole order of individuals is right."""
    survivors_probability: float
    replaced: int | None
    """By a child, those that failed left out; None where the lineage is not there."""
    individuals: int
    """That were measured; neither the imitation nor those that failed."""
    imitation_place: int | None
    """From 1, among all that were measured; None where there was no imitation."""
    undecided: int
    num_problems: int
    drafts: tuple[int, int]
    """Of a problem, fewest and most."""
    coverage: Coverage | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gene:
    """A gene of the individual that the report shows, beside what `grm` says."""

    name: str
    setting: Value | None
    """None where the run does not say."""
    value: Value
    changes: Sequence[tuple[str, Value]]
    """Along its line of descent: who had another value than the one before, and which."""
    varies: bool
    """Within the population."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The stage in numbers. Made by `summary_of`; read by the report and by `app.evolution.pictures`."""

    base: str
    start: str
    """trunk, self-reward or base."""
    winner: str
    generation: int
    """In which the winner was as good as it is kept."""
    is_imitation: bool
    fresh: Comparison | None
    """The winner against the untouched model, on drafts that had no part in choosing it."""
    are_unseen: bool
    """Whether the problems of this comparison had no part in it either."""
    untouched: float | None
    """pass@1 of the untouched model by what individuals are measured by."""
    generations: Sequence[Generation]
    standings: Sequence[Standing]
    descent: Sequence[tuple[int, str]]
    """Generation and id of the winner and its ancestors."""
    shown: str
    """Whose genes are told: the winner, or where that has none the best individual."""
    genes: Sequence[Gene]
    """Those that differ from grm, or within the population."""
    drafts: int
    drawn_tokens: int
    learnt_tokens: int
    selection_tokens: int
    seconds: float
    phases: Mapping[str, float]
    """Seconds of all individuals together, by what they were spent on; empty where no individual's record is there."""
    problems: Sequence[Mapping[str, Any]]
    """Source, licence and number of those learnt from."""
    audit: Audit | None

    @property
    def selection_share(self) -> float:
        """Of all tokens that were drawn or learnt."""
        return self.selection_tokens / max(1, self.drawn_tokens + self.learnt_tokens + self.selection_tokens)

    @property
    def failed(self) -> list[Standing]:
        return [one for one in self.standings if one.outcome is Outcome.FAILED]

    @property
    def outcome(self) -> str:
        """One sentence: what came of it, as Markdown."""
        if self.is_imitation:
            who = f"The imitation of what all individuals had solved, of generation {self.generation},"
        else:
            parent = next((one.parent for one in self.standings if one.id == self.winner), "")
            of = f"a child of `{parent}`" if parent else "one of the first generation"
            who = f"The individual `{self.winner}`, {of},"
        if self.fresh is None:
            return f"{who} came out best; no fresh draft could be judged, so nothing is said of it beside the base."
        found, (low, high) = self.fresh, self.fresh.interval_95
        word = "better than" if low > 0 else "worse than" if high < 0 else "not to be told apart from"
        return (
            f"{who} is **{word}** the untouched model on fresh drafts, which had no part in choosing it: "
            f"{100 * found.difference:+.1f} points of pass@1 ({100 * low:+.1f} to {100 * high:+.1f}) over "
            f"{found.num_problems} validation problems, {found.num_better} better and {found.num_worse} worse. "
            + ("The problems had no part in it either." if self.are_unseen else OF_SELECTION)
        )


def summary_of(run: Run) -> Summary | None:
    """None where the stage is not complete. Raises UserError for files that were changed by hand."""
    if not run.evolve_meta.exists():
        return None
    meta = read_json(run.evolve_meta)
    lives, lived = read_lineage(run.evolve_lineage), all_lived(run.evolve_individuals)
    boundaries = read_boundaries(run.evolve_boundaries)
    try:
        winner, fresh = meta["winner"], meta.get("fresh")
        fitness = FitnessSettings.model_validate(meta["settings"]["fitness"])
        standings = standings_of(lives, lived, boundaries, fitness)
        shown = _shown(winner, standings)
        line = ancestry(lives, shown) if any(life.id == shown for life in lives) else []
        end = (winner["generation"], winner["id"])
        return Summary(
            base=meta["model"]["name"],
            start=meta["start"],
            winner=winner["id"],
            generation=winner["generation"],
            is_imitation=winner["is_imitation"],
            fresh=Comparison(**fresh | {"interval_95": tuple(fresh["interval_95"])}) if fresh else None,
            are_unseen=meta.get("fresh_problems") == "unseen",
            untouched=_untouched(run, lived),
            generations=[_generation(one, standings) for one in boundaries],
            standings=standings,
            descent=[end] if winner["is_imitation"] or not line else descent_of(line, winner["generation"]),
            shown=shown,
            genes=_genes(meta, shown, [life.id for life in line], standings),
            drafts=meta["drafts"],
            drawn_tokens=meta["drawn_tokens"],
            learnt_tokens=meta["learnt_tokens"],
            selection_tokens=meta["selection_tokens"],
            seconds=meta["seconds"],
            phases=_phases(lived),
            problems=meta["problems"],
            audit=audit_of(meta.get("audit")),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{run.evolve_meta} can't be read as the end of evolution ({type(error).__name__}: {error}): restore it, "
            "or remove it and give `python -m app evolve` again"
        ) from None


def _generation(one: Boundary, standings: Sequence[Standing]) -> Generation:
    outcomes = [each.outcome for each in standings if each.generation == one.generation and each.outcome]
    best, others = next(iter(one.values)), [name for name in one.values if name != one.imitation]
    return Generation(
        number=one.generation,
        best=best,
        fitness=one.values[best],
        pass_at_1=one.pass_at_1[best],
        probability=one.probability,
        survivors_probability=one.survivors_probability,
        replaced=outcomes.count(Outcome.REPLACED) if outcomes else None,
        individuals=len(others),
        imitation_place=1 + list(one.values).index(one.imitation) if one.imitation in one.values else None,
        undecided=one.undecided,
        num_problems=one.num_problems,
        drafts=(min(one.num_drafts.values()), max(one.num_drafts.values())),
        coverage=one.coverage,
    )


def _shown(winner: Mapping[str, Any], standings: Sequence[Standing]) -> str:
    if not winner["is_imitation"]:
        return str(winner["id"])
    last = [one for one in standings if one.generation == winner["generation"] and not one.is_imitation]
    known = [(one.fitness, one.id) for one in last if one.fitness is not None]
    return max(known, default=(0.0, ""))[1]


def _genes(meta: Mapping[str, Any], shown: str, line: Sequence[str], standings: Sequence[Standing]) -> list[Gene]:
    genomes = {one.id: one.genome for one in standings if one.genome}
    if shown not in genomes:
        return []
    said = _said(meta.get("grm", {}))
    found = []
    for name, value in genomes[shown].items():
        before = said.get(name)
        values = [(one, genomes[one][name]) for one in line if name in genomes.get(one, {})]
        steps = [("", before), *values] if before is not None else values
        changes = [(who, after) for (_, old), (who, after) in pairwise(steps) if after != old]
        varies = len({one.genome[name] for one in standings if one.generation and name in one.genome}) > 1
        if changes or varies:
            found.append(Gene(name=name, setting=before, value=value, changes=changes, varies=varies))
    return found


def _said(grm: Mapping[str, Any]) -> dict[str, Value]:
    """The genes that training without evolution has."""
    if not grm:
        return {}
    found: dict[str, Value] = {name: value for name, value in grm.items() if isinstance(value, int | float)}
    found["rate_low"], found["rate_high"] = grm["rate_band"]
    return found | {f"{MIXTURE}: {source}": 1.0 for source in grm["problems"]}


def _untouched(run: Run, lived: Sequence[Lived]) -> float | None:
    """Of the problems that individuals were measured by."""
    asked = {problem for one in lived for problem in one.metrics.rates}
    paths = sorted(run.evolve_untouched.rglob("*.parquet"))
    found = rates(one for path in paths for one in read_drafts(path))
    shares = [passed / counted for problem, (passed, counted) in found.items() if problem in asked]
    return fmean(shares) if shares else None


def _phases(lived: Sequence[Lived]) -> dict[str, float]:
    names = ("drafting", "judging", "training", "measuring")
    return {name: sum(getattr(one, f"{name}_seconds") for one in lived) for name in names} if lived else {}
