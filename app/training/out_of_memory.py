"""What a training does when a card's memory runs out: the step is made again one rung lower, and nothing is lost.

Rungs, in order: half the rows at once, down to one; layers that keep nothing but their inputs; rows of 1,024 tokens.
The effective batch stays: the loss is a sum over labelled tokens, so smaller pieces add up to the same gradient. Only
the last rung changes what is learnt: a document that lies across the cut of a row loses what comes before it. Where
tokens are weighed by what they were drawn with, that would be another probability, so there the rung is left out.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

from app.progress import say
from app.training.parallel import world_size
from app.training.saved_activations import Keep

T = TypeVar("T")

SHORTEST = 1024
"""Tokens a row; below it an example of code seldom fits."""
Batch = dict[str, Tensor]


class Ladder:
    """The rung of the ladder that a training is on. decoder: the fused one, or None where the layers are transformers'
    own. cuts: whether rows may be made shorter."""

    def __init__(self, decoder: Any = None, *, cuts: bool = True) -> None:
        self._decoder, self._cuts = decoder, cuts
        self._rows: int | None = None
        self._seq_len: int | None = None

    def descend(self, passes: Callable[[], T], batch: Batch, what: str, forget: Callable[[], None] = lambda: None) -> T:
        """As the function `descend` does it, with `passes` that takes its batches by `pieces`. batch: one of them."""
        return descend(passes, lambda: self.lower(batch), what, forget)

    def pieces(self, batch: Batch) -> Iterator[Batch]:
        """The batch as it fits: the same rows, fewer at once."""
        if self._seq_len:
            batch = {name: tensor.reshape(-1, self._seq_len) for name, tensor in batch.items()}
            batch["position_ids"] = _restarted(batch["position_ids"])
        size = self._rows or len(batch["input_ids"])
        for start in range(0, len(batch["input_ids"]), size):
            yield {name: tensor[start : start + size] for name, tensor in batch.items()}

    def lower(self, batch: Batch) -> str:
        """Go one rung down. Returns what is done from now on, or nothing where there is no lower rung."""
        rows, seq_len = batch["input_ids"].shape
        rows = self._rows or rows
        if rows > 1:
            self._rows = rows // 2
            return f"{self._rows} rows at once instead of {rows}, the same batch a step"
        if self._decoder is not None and any(self._decoder.keep):
            self._decoder.keep = [Keep.INPUT] * len(self._decoder.layers)
            return "layers keep their inputs alone and compute the rest again"
        if self._cuts and not self._seq_len and seq_len > SHORTEST and seq_len % SHORTEST == 0:
            self._rows, self._seq_len = 1, SHORTEST
            return (
                f"rows of {SHORTEST} tokens instead of {seq_len}: documents across the cut lose what stands before it"
            )
        return ""


def descend(
    passes: Callable[[], T], lower: Callable[[], str], what: str, forget: Callable[[], None] = lambda: None
) -> T:
    """What `passes` gives; it is called again, a rung lower, each time that memory runs out.

    lower: goes one rung down and says what is done from then on, or says nothing where there is no lower rung. what:
    `passes` makes, for a person; forget: called before it is called again. Raises torch.OutOfMemoryError on the lowest
    rung, and where several workers train: one alone can't go another way.
    """
    while True:
        try:
            return passes()
        except torch.OutOfMemoryError:
            said = "" if world_size() > 1 else lower()
            if not said:
                raise
        # out of the handler: the error held the tensors of the failed pass
        forget()
        torch.cuda.empty_cache()
        say(f"  the card's memory ran out, so {what} is made again: {said}")


def _restarted(positions: Tensor) -> Tensor:
    """The positions, [rows, seq_len], where a document that a row starts in the middle of counts from 0 there."""
    places = torch.arange(positions.shape[1])
    first_start = torch.where(positions == 0, places, positions.shape[1]).min(1, keepdim=True).values
    return torch.where(places < first_start, positions - positions[:, :1], positions)
