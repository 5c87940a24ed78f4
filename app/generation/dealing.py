"""Deal prompts out to several engines, by the drafts that each still has to draw.

Each piece costs its engine the time in which the last rows of a batch are drawn without others beside them, so there
are few, and of whole batches: three quarters of an engine's even share, and the rest when it has fewer drafts to draw
than its batch has places for. The rest is an even share of what is left by then, a batch at least, so a fast engine, or
one with short answers, draws more. What all draw in less than four batches each is dealt out evenly at once.
A draft's randomness comes from its prompt's id and its number, so it is the same whoever draws it.

Limits: a quarter evens out what equal cards differ by; one that is many times as slow is waited for.
"""

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from app.records import Draft, Prompt

MANY_BATCHES = 4
"""Below as many a quarter fills no batch."""


class Dealing:
    """The prompts of one call that no engine has yet, and how many drafts each engine is at."""

    def __init__(self, prompts: Iterable[Prompt], *, engines: int, batch_size: int) -> None:
        """batch_size: drafts that an engine draws at once."""
        # As engines take them, the longest first: prompts of a piece are alike in length, and the last pieces short.
        self._waiting = deque(sorted((one for one in prompts if one.samples), key=lambda one: -len(one.text)))
        self._num_waiting = sum(len(one.samples) for one in self._waiting)
        self._batch_size = batch_size
        self._to_draw = [0] * engines

    def pieces(self) -> Iterator[tuple[int, list[Prompt]]]:
        """Engines that are to be given more, by number, and what."""
        while self._num_waiting and min(self._to_draw) < self._batch_size:
            engine = self._to_draw.index(min(self._to_draw))
            piece = self._take(self._size(engine))
            self._to_draw[engine] += sum(len(one.samples) for one in piece)
            yield engine, piece

    def drawn(self, engine: int, number: int = 1) -> None:
        """So many drafts have come from it."""
        self._to_draw[engine] -= number

    def _size(self, engine: int) -> int:
        """Drafts of its next piece, of those with which all engines would have the same to draw."""
        even = -(-(self._num_waiting + sum(self._to_draw)) // len(self._to_draw)) - self._to_draw[engine]
        if even >= MANY_BATCHES * self._batch_size:
            even = even * 3 // 4
        elif not self._to_draw[engine]:
            return even
        # An engine that is a little ahead would be given half of what is left, and half of that, a batch each time.
        return max(1, round(even / self._batch_size)) * self._batch_size

    def _take(self, size: int) -> list[Prompt]:
        """The next prompts, the last with a part of its samples where all would be more than `size` drafts."""
        piece: list[Prompt] = []
        while size and self._waiting:
            prompt = self._waiting.popleft()
            if rest := prompt.samples[size:]:
                self._waiting.appendleft(dataclasses.replace(prompt, samples=rest))
                prompt = dataclasses.replace(prompt, samples=prompt.samples[:size])
            piece.append(prompt)
            size -= len(prompt.samples)
            self._num_waiting -= len(prompt.samples)
        return piece


def even_shares(sizes: Sequence[int], number: int) -> list[list[int]]:
    """Places of `sizes`, dealt out in turn by size, so that each share has as many of the large ones. Empty shares are
    left out."""
    by_size = sorted(range(len(sizes)), key=lambda place: -sizes[place])
    return [share for first in range(number) if (share := by_size[first::number])]


def cores_each(machines: Sequence[int], number: int, *, left: int = 0) -> int:
    """The most cores that each of `number` engines can have, all of one machine's, so that `left` remain in all; at
    least one. machines: cores of each."""
    for cores in range(max(machines, default=1), 1, -1):
        if sum(held // cores for held in machines) >= number and sum(machines) - number * cores >= left:
            return cores
    return 1


def in_order(prompts: Sequence[Prompt], drafts: Iterator[Draft]) -> list[Draft]:
    """Drafts in the order of the prompts and of their samples."""
    wanted = ((prompt.id, sample) for prompt in prompts for sample in prompt.samples)
    order = {key: index for index, key in enumerate(wanted)}
    return sorted(drafts, key=lambda draft: order[draft.problem_id, draft.sample])
