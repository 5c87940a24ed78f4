"""What a training by reward keeps of itself beside the checkpoint that it goes on from.

    FOLDER/best/            the best validated checkpoint, a TrainState; of the start only its adapter
    FOLDER/recent/00005/    adapters of the last checkpoints, where their mean is wanted
    FOLDER/fallback.json    that validation fell and the training went on from the best checkpoint, held near the base

Each appears whole. The first two are written before the checkpoint of their step: a training that goes on from an
earlier one makes them again.
"""

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from app.files.durable import flush
from app.files.json_files import read_json, write_json
from app.training.state import ADAPTER, PROGRESS

FALLBACK = "fallback.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """Made where validation fell; kept in fallback.json, and in each checkpoint that was learnt from there on."""

    step: int
    """Whose checkpoint the training went on from; 0 is the start."""
    kl: float
    """The coefficient that it went on with."""
    reason: str


class Kept:
    """A training's folder, apart from drafts, figures and the checkpoint to go on from."""

    def __init__(self, folder: Path, num_recent: int) -> None:
        """num_recent: adapters of checkpoints to keep; 1: none."""
        self.best = folder / "best"
        self._recent, self._fallback = folder / "recent", folder / FALLBACK
        self._num_recent = num_recent

    @property
    def fallback(self) -> Fallback | None:
        return Fallback(**read_json(self._fallback)) if self._fallback.exists() else None

    def fall_back(self, fallback: Fallback) -> None:
        write_json(self._fallback, asdict(fallback))

    def mark(self, checkpoint: Path) -> None:
        """Note in a checkpoint whether it was learnt after the fallback."""
        if self._fallback.exists():
            shutil.copy(self._fallback, checkpoint / FALLBACK)

    @property
    def best_state(self) -> Path | None:
        """The best checkpoint, to go on from; None where the start is the best."""
        return self.best if (self.best / PROGRESS).exists() else None

    def keep_best(self, save: Callable[[Path], None]) -> None:
        make_whole(self.best, save)

    def keep_recent(self, step: int, save_adapter: Callable[[Path], None]) -> None:
        if self._num_recent > 1:
            make_whole(self._recent / f"{step:05}", save_adapter)
            for old in self.recent[: -self._num_recent]:
                shutil.rmtree(old)

    @property
    def recent(self) -> list[Path]:
        """Adapters of the last checkpoints, the oldest first."""
        return numbered(self._recent)

    def forget_after(self, step: int) -> None:
        """Drop adapters of later steps, which the training will take again."""
        for path in self.recent:
            if int(path.name) > step:
                shutil.rmtree(path)


def adapter_only(save_adapter: Callable[[Path], None]) -> Callable[[Path], None]:
    """What saves an adapter where a checkpoint has its own."""
    return lambda folder: save_adapter(folder / ADAPTER)


def numbered(folder: Path) -> list[Path]:
    """The folders of steps in a folder, in their order."""
    return sorted(path for path in folder.glob("*") if path.name.isdigit())


def make_whole(place: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a folder, and put it in the place of what is there."""
    beside = place.with_name(f".{place.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    write(beside)
    flush(beside)
    shutil.rmtree(place, ignore_errors=True)
    beside.rename(place)
