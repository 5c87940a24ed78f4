"""How a child comes by its parent's weights and optimiser state, when its genome has another rank or the same.

    the same rank   all of the parent's state: it goes on as its parent would
    a lower one     the adapter nearest to the parent's (`app.models.adapter_ranks.svd_truncate`), no moments
    a higher one    an adapter that does what the parent's does (`grow`), no moments

Moments belong to single numbers of A and B, and those are others at another rank. Without them AdamW's first steps are
as long as its later ones but know less of where to go, which is what a warm-up is for: so progress begins at 0 too, and
the schedule with it. lora_alpha goes with the rank, because lora_alpha / r is the same in all of a population
(`tune_spaces.alpha_evolve.settings_of`), and a training refuses an adapter that has another.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from app.errors import UserError
from app.files.json_files import read_json
from app.models.adapter_ranks import LARGEST_RANK, grow, plain_lora, svd_truncate
from app.reward.by_reward.keeping import make_whole
from app.training.state import ADAPTER, DOCUMENTS, MOMENTS, PROGRESS, Progress, start_anew


@dataclass(frozen=True, slots=True, kw_only=True)
class Inherited:
    """What a child has of its parent. Made by `inherit`.

    Example: Inherited(parent_rank=32, rank=8, error=0.41)
    """

    parent_rank: int
    rank: int
    error: float
    """Distance between what child and parent add to the base's weights, as a share of the norm of what the parent adds
    (Frobenius); 0 unless the rank is lower."""

    @property
    def is_whole(self) -> bool:
        """Moments and progress came with the weights."""
        return self.rank == self.parent_rank


def inherit(parent: Path, target: Path, rank: int, *, seed: int) -> Inherited:
    """Write the TrainState that a child of `rank` begins with, in the place of what is there: whole or not at all.

    parent: a TrainState (`app.training.state`); what else its folder holds says something of the parent's training, and
    stays behind. seed: draws the rows of A that a higher rank adds. Raises UserError for a parent that is no TrainState
    or whose adapter is not plain LoRA, and for a rank that no adapter has.
    """
    if not 1 <= rank <= LARGEST_RANK:
        raise UserError(f"lora_r={rank} is the rank of no adapter: take 1 to {LARGEST_RANK}")
    before, errors = _rank_of(parent), list[float]()
    make_whole(target, lambda place: errors.append(_write(parent, place, before, rank, seed)))
    return Inherited(parent_rank=before, rank=rank, error=errors[0])


def begin(adapter: Path, target: Path) -> None:
    """Write a TrainState of a finished adapter alone, in the place of what is there: from it a training takes its first
    step with the adapter's weights, without moments.

    adapter: a PEFT folder. Rank and lora_alpha / r have to be those of the training; `inherit` takes it to another
    rank. Raises UserError unless it is plain LoRA.
    """
    plain_lora(adapter)

    def write(place: Path) -> None:
        shutil.copytree(adapter, place / ADAPTER)
        start_anew(place)

    make_whole(target, write)


def _rank_of(parent: Path) -> int:
    """The rank of a TrainState's adapter. Raises UserError for a folder that is no TrainState."""
    if missing := [name for name in (ADAPTER, MOMENTS, PROGRESS) if not (parent / name).exists()]:
        raise UserError(
            f"{parent} is not a training's checkpoint, since it has no {missing[0]}: give the folder of one"
        )
    held = read_json(parent / PROGRESS)
    try:
        Progress(**held)
    except TypeError as error:
        raise UserError(
            f"{parent / PROGRESS} does not say how far a training has come ({error}): restore the file"
        ) from None
    return int(plain_lora(parent / ADAPTER)["r"])


def _write(parent: Path, place: Path, before: int, rank: int, seed: int) -> float:
    """Fill the folder `place`; before: the parent's rank. Returns `Inherited.error`."""
    adapter, new = parent / ADAPTER, place / ADAPTER
    if rank == before:
        shutil.copytree(adapter, new)
        for name in (MOMENTS, PROGRESS, DOCUMENTS):
            if (parent / name).exists():
                shutil.copy(parent / name, place / name)
        return 0.0
    start_anew(place)
    if rank < before:
        return svd_truncate(adapter, new, rank, same_scale=True)
    grow(adapter, new, rank, seed, same_scale=True)
    return 0.0
