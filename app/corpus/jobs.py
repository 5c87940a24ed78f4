"""What every task of a build is given. A task's own job is a subclass beside the task; it travels as a Ray object."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from app.corpus.recipes import Recipe
from app.corpus.shard_files import is_made, part
from app.settings import ModelSettings, SandboxSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSettings:
    """What all jobs of a build share. Made by `app.corpus.build`; read by its tasks on every node."""

    recipe: Recipe
    work: Path
    """Folder of the parts that one task writes and another reads; removed when the corpus is complete."""
    train: Path
    """Folder of the packed rows."""
    problems: Path
    """Folder of the problems by split."""
    guard_sha256: str
    """SHA-256 of the guard's file in the work folder."""
    model: ModelSettings
    """The model whose tokenizer writes the samples."""
    seq_len: int
    """Tokens of a packed row."""
    seed: int
    sandbox: SandboxSettings
    unsafe: bool
    """Run mined functions on machines that can't confine them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One part to make. Made by `app.corpus.build`; a subclass for each task adds what its part is made of."""

    index: int
    """The part's number in its folder."""
    identity: str
    """Hash of all that decides the part's bytes (`app.corpus.identity`)."""
    build: BuildSettings

    def part(self, folder: str) -> Path:
        """The file of this number in a folder of the work folder."""
        return part(self.build.work, folder, self.index)


def discard_others(folder: Path, jobs: Iterable[Job], *beside: Path) -> None:
    """Remove the parts of a folder that are not what these jobs make, with what was written beside them."""
    wanted = {part(folder, ".", job.index).name: job.identity for job in jobs}
    for path in sorted(folder.glob("*.parquet")):
        if path.name not in wanted or not is_made(path, wanted[path.name]):
            for place in (path, *(other / path.name for other in beside)):
                place.unlink(missing_ok=True)
