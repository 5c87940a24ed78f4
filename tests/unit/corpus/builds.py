"""What the tasks of a build share, with its guard written, for tests that run one task without Ray."""

import functools
from pathlib import Path
from typing import Any

from app.corpus.clean.guard import GUARD, Guard, guard_of, signs_bytes
from app.corpus.jobs import BuildSettings
from app.corpus.recipes import Recipe
from app.files.json_files import write_atomic
from app.profiles import smoke


@functools.cache
def _written(guard: Guard) -> bytes:
    return signs_bytes(guard.signs(), guard.facts())


def build_in(folder: Path, guard: Guard | None = None, **recipe: Any) -> BuildSettings:
    """A build whose folders are below this one. recipe: its parts, sources aside."""
    write_atomic(folder / "work" / GUARD, _written(guard or guard_of({})))
    return BuildSettings(
        recipe=Recipe.model_validate({"name": "t", "sources": [{"kind": "installed_python"}]} | recipe),
        work=folder / "work",
        train=folder / "train",
        problems=folder / "problems",
        guard_sha256=str(folder),
        model=smoke().model,
        seq_len=256,
        seed=0,
        sandbox=smoke().sandbox,
        unsafe=False,
    )
