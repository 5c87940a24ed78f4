"""What evolution has written of itself, read back: who lived, what they did and what was decided.

    evolve/individuals/ID/GENERATION/lived.json   a `Lived`; drafts, figures and checkpoints beside it
    evolve/boundaries/GENERATION.json             a `Boundary`
    evolve/lineage.jsonl                          the scheduler's own (`app.evolution.lineage`)

A file appears whole, or not at all.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from app.errors import UserError
from app.evolution.records import Boundary, Compared, Coverage, Lived, Metrics
from app.files.json_files import read_json, write_json

LIVED = "lived.json"


def write_lived(folder: Path, lived: Lived) -> None:
    write_json(folder / LIVED, asdict(lived))


def read_lived(folder: Path) -> Lived:
    """Raises UserError for a file of another kind."""
    path = folder / LIVED
    row = read_json(path)
    try:
        held = row["metrics"]
        rates = {problem: (passed, counted) for problem, (passed, counted) in held["rates"].items()}
        metrics = Metrics(**held | {"rates": rates, "speeds": tuple(held["speeds"])})
        return Lived(**row | {"metrics": metrics})
    except (KeyError, TypeError, ValueError) as error:
        raise _broken(path, error) from None


def all_lived(individuals: Path) -> list[Lived]:
    """By generation, then by id; imitations among them."""
    found = [read_lived(path.parent) for path in individuals.glob(f"*/*/{LIVED}")]
    return sorted(found, key=lambda one: (one.generation, one.id))


def write_boundary(folder: Path, boundary: Boundary) -> None:
    write_json(folder / f"{boundary.generation}.json", asdict(boundary))


def read_boundaries(folder: Path) -> list[Boundary]:
    """In their order. Raises UserError for a file of another kind."""
    paths = sorted((path for path in folder.glob("*.json") if path.stem.isdigit()), key=lambda path: int(path.stem))
    return [_boundary(read_json(path), path) for path in paths]


def _boundary(row: Mapping[str, Any], path: Path) -> Boundary:
    try:
        close = tuple(Compared(**one) for one in row["close"])
        coverage = Coverage(**row["coverage"]) if row["coverage"] else None
        return Boundary(**{**row, "close": close, "coverage": coverage})
    except (KeyError, TypeError, ValueError) as error:
        raise _broken(path, error) from None


def _broken(path: Path, error: Exception) -> UserError:
    way_out = "restore it, or remove the run's evolve/ to start anew"
    return UserError(f"{path} is no record of evolution ({error}): {way_out}")
