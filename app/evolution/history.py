"""What evolution has written of itself, read back: who lived, what they did and what was decided.

    evolve/individuals/ID/GENERATION/lived.json   a `Lived`; drafts, figures and checkpoints beside it
    evolve/boundaries/GENERATION.json             a `Boundary`
    evolve/lineage.jsonl                          the scheduler's own (`app.evolution.lineage`)

A file appears whole, or not at all.
"""

from dataclasses import asdict
from pathlib import Path

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


def boundary_file(folder: Path, generation: int) -> Path:
    return folder / f"{generation}.json"


def write_boundary(folder: Path, boundary: Boundary) -> None:
    write_json(boundary_file(folder, boundary.generation), asdict(boundary))


def read_boundaries(folder: Path) -> list[Boundary]:
    """In their order. Raises UserError for a file of another kind."""
    numbers = sorted(int(path.stem) for path in folder.glob("*.json") if path.stem.isdigit())
    return [read_boundary(folder, number) for number in numbers]


def read_boundary(folder: Path, generation: int) -> Boundary:
    """Raises UserError for a file of another kind."""
    path = boundary_file(folder, generation)
    row = read_json(path)
    try:
        close = tuple(Compared(**one) for one in row["close"])
        coverage = Coverage(**row["coverage"]) if row["coverage"] else None
        return Boundary(**{**row, "close": close, "coverage": coverage})
    except (KeyError, TypeError, ValueError) as error:
        raise _broken(path, error) from None


def _broken(path: Path, error: Exception) -> UserError:
    way_out = "restore it, or remove the run's evolve/ to start anew"
    return UserError(f"{path} can't be read as a record of evolution ({error}): {way_out}")
