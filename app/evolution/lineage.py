"""Who lived in which generation, and who came of it: the population's history as lines of `evolve/lineage.jsonl`.

The scheduler (`tune_spaces.scheduler`) writes a generation's lines before it acts on them, all at once, so that a
kill at any moment leaves a boundary decided as a whole or not at all. What is written holds: a restored run that comes
to the same boundary again does what its lines say. Lines are only added, one for each individual and generation; a
generation in which all failed has none.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from app.errors import UserError
from app.files.json_files import numbered_json_lines, write_json_lines


class Outcome(StrEnum):
    """What became of an individual at the end of a generation."""

    SURVIVED = "survived"
    """It goes on with its weights and its config."""
    REPLACED = "replaced"
    """Its place was given to a child of a survivor."""
    FAILED = "failed"
    """Its trial ended before the generation did, for good; it has no score. Its place was given away too, unless nobody
    was left or no generation was to come."""
    FINISHED = "finished"
    """It came to the end of the last generation."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """The individual that takes another's place. Made by the scheduler; its own line is in the next generation.

    Example: Child(id="5f0c1_00003.2", trial="5f0c1_00003", parent="5f0c1_00001.1", donor="5f0c1_00001",
                   config={"rate": 3e-4})
    """

    id: str
    trial: str
    """Tune's trial that trains it: that of the one whose place it takes, or a new trial where that one failed."""
    parent: str
    """Whose weights it begins with: a survivor, or a candidate that no trial trained, whose weights config names."""
    donor: str
    """Tune's trial whose checkpoint its own is given: the parent's, or for such a candidate the best survivor's."""
    config: dict[str, Any]
    """What its trial is given: JSON values only."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One individual in one generation: a line of lineage.jsonl. Made by the scheduler; read by the report.

    Example: Life(generation=1, id="5f0c1_00003.1", trial="5f0c1_00003", parent="", config={"rate": 1e-3}, score=0.21,
                  outcome=Outcome.REPLACED, replaced_by=Child(...))
    """

    generation: int
    """Counted from 1; the line was written at its end."""
    id: str
    """The trial and the generation in which the individual was born."""
    trial: str
    parent: str
    """Empty in the first generation."""
    config: dict[str, Any]
    score: float | None
    """The metric as the trial reported it; None where the individual failed, or reported no number."""
    outcome: Outcome
    replaced_by: Child | None = None

    def __post_init__(self) -> None:
        if self.replaced_by and self.outcome not in (Outcome.REPLACED, Outcome.FAILED):
            raise ValueError(f"{self.id} {self.outcome} generation {self.generation}: nobody can have replaced it")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """An individual that a generation begins with, and the trial that trains it."""

    id: str
    trial: str
    parent: str
    failed: bool = False
    """Its trial ended before the generation did, for good."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Heir:
    """Whose child takes a place, and with which config. Made by who selects."""

    parent: str
    donor: str
    config: dict[str, Any]


class Succession(Protocol):
    """Who selects, in place of the scheduler's order of scores."""

    def __call__(
        self, generation: int, members: Sequence["Member"], is_last: bool
    ) -> list[tuple["Member", Heir | None]]:
        """The members that came to the end of the generation, and those that failed before it, the best first, each
        with who takes its place; None for those that go on. is_last: none is to be replaced."""
        ...


def identify(trial: str, born: int) -> str:
    """The id of the individual that a trial trains from the start of that generation on."""
    return f"{trial}.{born}"


def founders(trials: Sequence[str]) -> list[Member]:
    """The first generation."""
    return [Member(id=identify(trial, 1), trial=trial, parent="") for trial in trials]


def heirs(lives: Sequence[Life]) -> list[Member]:
    """The members of the next generation, from the lines of one: in each place who survived, or the child."""
    members = []
    for life in lives:
        if life.outcome is Outcome.SURVIVED:
            members.append(Member(id=life.id, trial=life.trial, parent=life.parent))
        elif child := life.replaced_by:
            members.append(Member(id=child.id, trial=child.trial, parent=child.parent))
    return members


def succession(
    members: Sequence[Member], scores: Mapping[str, float | None], keep: int, *, highest: bool
) -> list[tuple[Member, Member | None]]:
    """The members, the best first, each with the survivor whose child is to take its place; None for the survivors.

    scores: by trial; a member without one failed and survives in no case, one whose score is None is the worst of the
    others, and equal ones keep their order. The `keep` best survive; the best of them replaces first, and they take
    turns. Without survivors nobody is replaced.
    """
    sign = 1.0 if highest else -1.0

    def worth(member: Member) -> float:
        score = scores[member.trial]
        return -math.inf if score is None else sign * score

    ranked = sorted((member for member in members if member.trial in scores), key=worth, reverse=True)
    survivors = ranked[:keep]
    others = [*ranked[keep:], *(member for member in members if member.trial not in scores)]
    donors = [survivors[place % len(survivors)] if survivors else None for place in range(len(others))]
    return [*((member, None) for member in survivors), *zip(others, donors, strict=True)]


def ancestry(lives: Sequence[Life], name: str) -> list[Life]:
    """The line of descent of an individual, from one of the first generation down to itself: of each the line of the
    generation that it was born into.

    A candidate that no trial trained has no lines; its child follows the individual whose trial was the donor, and
    whose config its own was made of. Raises UserError where a line is missing.
    """
    born = {life.id: life for life in reversed(lives)}
    children = {child.id: child for life in lives if (child := life.replaced_by)}
    in_trial = {(life.generation, life.trial): life.id for life in lives}
    line: list[Life] = []
    while name:
        if name not in born or len(line) >= len(born):
            raise UserError(f"the lineage does not tell where {name} comes from: restore lineage.jsonl")
        life = born[name]
        line.append(life)
        name = life.parent
        if name and name not in born and life.id in children:
            name = in_trial.get((life.generation - 1, children[life.id].donor), name)
    return line[::-1]


def read_lineage(path: Path) -> list[Life]:
    """All lines, in their order; none without a file. Raises UserError naming a line that is broken."""
    return [_life(row, f"{path}:{number}") for number, row in numbered_json_lines(path)]


def add_generation(path: Path, lives: Sequence[Life]) -> None:
    """Add a generation's lines to the file: all of them or, if this process is killed meanwhile, none.

    Raises ValueError when an individual has its line of that generation already, or a config holds more than JSON.
    """
    known = read_lineage(path)
    doubled = {(life.generation, life.id) for life in known} & {(life.generation, life.id) for life in lives}
    if doubled:
        raise ValueError(f"{path} has these lines (generation, individual) already: {sorted(doubled)}")
    write_json_lines(path, [dataclasses.asdict(life) for life in [*known, *lives]])


def _life(row: dict[str, Any], place: str) -> Life:
    try:
        child = row["replaced_by"]
        return Life(
            **row | {"outcome": Outcome(row["outcome"]), "replaced_by": Child(**child) if child is not None else None}
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{place} does not describe an individual ({error}): restore the file, or start a new run"
        ) from None
