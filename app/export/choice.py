"""Which of a run's adapters is exported: one of those that `serve` shows, which are the kept ones.

Left to itself it is that of the last stage that was kept (evolve, else grm, else sft), the one that the report's first
sentence speaks of; evolution began with self-reward's where that was kept. It is the base where nothing was kept.
"""

from dataclasses import dataclass
from pathlib import Path

from app.errors import UserError
from app.runs import Run

BASE = "base"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What is exported. Made by `choose`; read by the rest of this room.

    Example: Chosen(name="grm", adapter=Path("runs/a/grm/adapter"), why="the last stage that was kept")
    """

    name: str
    """Of the stage, as `serve` calls the model; "base" for the base alone."""
    adapter: Path | None
    """None: the base alone."""
    why: str
    """For a person."""


def choose(run: Run, wanted: str | None) -> Chosen:
    """Raises UserError for an adapter that the run lacks, or that was not kept."""
    kept, trained = run.adapters(), run.trained()
    if wanted == BASE:
        return Chosen(name=BASE, adapter=None, why="asked for")
    if wanted is None:
        if kept:
            name, folder = list(kept.items())[-1]
            return Chosen(name=name, adapter=folder, why="the last stage that was kept")
        return Chosen(name=BASE, adapter=None, why="no adapter was kept" if trained else "no adapter was trained")
    if wanted in kept:
        return Chosen(name=wanted, adapter=kept[wanted], why="asked for")
    if wanted in trained:
        raise UserError(
            f"the adapter {wanted!r} of {run.root} was not kept, so that `serve` does not show it either: "
            f"take one of {', '.join((*kept, BASE))}, or overrule it with `python -m app pipeline --resume "
            f"--keep-anyway --run {run.root}`"
        )
    raise UserError(f"{run.root} has no adapter {wanted!r}: take one of {', '.join((*kept, BASE))}")
