"""The rows of a batch that is being drawn, and those that wait for a place in it.

A row joins when the cache has room for it to its end, and in a prefill of no more tokens than are allowed at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from app.generation.kv_cache import ROOM
from app.records import Prompt


@dataclass(slots=True)
class Row:
    """One completion in the making."""

    prompt: Prompt
    sample: int
    prompt_ids: list[int]
    seed: int
    room: int
    """Tokens that may be drawn."""
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    """The log-probability of each drawn token."""
    tail: str = ""
    """The last characters, enough to hold a stop text."""
    open: bool = True
    """Not finished yet."""


class Waiting:
    """Rows that have not joined the batch."""

    def __init__(self, rows: Iterator[Row], batch_size: int, cache_tokens: int, prefill_tokens: int) -> None:
        self._rows, self._batch_size, self._cache_tokens = rows, batch_size, cache_tokens
        self._prefill_tokens = prefill_tokens
        self._next = next(rows, None)

    def joining(self, num_rows: int, columns: int) -> tuple[list[Row], bool]:
        """Those that join the batch now, and whether it was the prefill that had no more room.

        They have to have room beside the batch's rows, which hold `columns` tokens each, and in one prefill; at least
        one joins an empty batch.
        """
        joining: list[Row] = []
        width = num_prompts = 0
        while self._next is not None and num_rows + len(joining) < self._batch_size:
            ids = self._next.prompt_ids
            columns, width = max(columns, len(ids)), max(width, len(ids))
            whole = (num_rows + len(joining) + 1) * (columns + self._next.room + ROOM)
            if whole > self._cache_tokens and (num_rows or joining):
                break
            num_prompts += not joining or ids != joining[-1].prompt_ids
            if num_prompts * width > self._prefill_tokens and joining:
                return joining, True
            joining.append(self._next)
            self._next = next(self._rows, None)
        return joining, False
