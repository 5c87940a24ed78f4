"""Iterators that a program answers with. They stay in its process and are named by number.

The tests get a generator that asks for the items as they are wanted, as lazily as in one process: an endless one is
fine for tests that take five.

The first items come one at a time, since who takes them may not want the next; then more in a message, as long as they
are made quickly. Also used for the items of a pair of iterators (`return evens, odds`).
"""

import time
from collections import deque
from collections.abc import Callable, Generator
from typing import Any

from app.sandbox.values import Encoder, TooLargeError, WireError, to_json

NUM_SINGLE = 32
"""Messages with one item each, at first and after any other call."""
MAX_BATCH = 1024
BATCH_SECONDS = 0.002
MAX_TAKEN = 1_000_000
"""Items that the tests may take from all iterators of one program together."""
TAG = "iterator"


def unsendable(error: WireError) -> dict[str, str]:
    """The response for an answer that is not plain data, or too large."""
    return {"unsendable": f"{type(error).__name__}: {error}"}


class _Lent:
    """An iterator of the program, and what came out of it but could not go into the last message."""

    def __init__(self, iterator: Any) -> None:
        self.iterator = iterator
        self.kept: deque[Any] = deque()
        self.error: BaseException | None = None


class Lender:
    """The candidate's side."""

    def __init__(self) -> None:
        self._lent: list[_Lent] = []

    def to_json(self, value: Any) -> Any:
        """As `values.to_json`, but for iterators: as a value, or in a list or tuple that is the value."""
        return self._encode(Encoder(), value)

    def give(self, request: dict[str, Any]) -> dict[str, Any]:
        """The next items: {"ok": items, "end": whether these were all, "value": what a generator returned}."""
        lent = self._lent[request["next"]]
        encoder, items, deadline = Encoder(), list[Any](), time.perf_counter() + BATCH_SECONDS
        num_lent = len(self._lent)
        while len(items) < request["count"]:
            try:
                value = self._step(lent, request)
            except StopIteration as stop:
                return self._last(items, stop.value)
            except BaseException as error:
                if not items:
                    raise
                lent.error = error
                break
            try:
                items.append(self._encode(encoder, value))
            except WireError as error:
                if not items:
                    return unsendable(error)
                lent.kept.append(value)  # with the next message
                break
            if encoder.is_half_full or len(self._lent) > num_lent or time.perf_counter() > deadline:
                break
        return {"ok": items, "end": False, "value": None}

    def _last(self, items: list[Any], value: Any) -> dict[str, Any]:
        try:
            return {"ok": items, "end": True, "value": self.to_json(value)}
        except WireError as error:
            return unsendable(error)

    def _step(self, lent: _Lent, request: dict[str, Any]) -> Any:
        if lent.kept:
            return lent.kept.popleft()
        if lent.error is not None:
            error, lent.error = lent.error, None
            raise error
        return lent.iterator.send(request["send"]) if "send" in request else next(lent.iterator)

    def _encode(self, encoder: Encoder, value: Any) -> Any:
        try:
            return to_json(value, encoder)
        except TooLargeError:
            raise
        except WireError:
            kind = type(value)
            if _is_iterator(kind):
                return self._lend(value)
            if kind not in (list, tuple) or not any(_is_iterator(type(item)) for item in value):
                raise
            items = [self._lend(item) if _is_iterator(type(item)) else to_json(item, encoder) for item in value]
            return items if kind is list else {"t": items}

    def _lend(self, iterator: Any) -> dict[str, Any]:
        self._lent.append(_Lent(iterator))
        return {TAG: [len(self._lent) - 1, type(iterator).__name__]}


def _is_iterator(kind: type) -> bool:
    return hasattr(kind, "__next__") and hasattr(kind, "__iter__")


Fetch = Callable[[int, Any], tuple[list[Any], bool, Any]]


def borrowed(fetch: Fetch, is_undisturbed: Callable[[], bool]) -> Generator[Any, Any, Any]:
    """The judge's side: a generator over the items.

    fetch: asks for up to a number of items, with what to send to a generator; returns them, whether these were all, and
    what it returned. is_undisturbed: whether nothing else was asked of the program since the last fetch.
    """
    items: deque[Any] = deque()
    count, num_fetched, sent, has_ended, result = 1, 0, None, False, None
    while True:
        if not items:
            if has_ended:
                return result
            if not is_undisturbed() or sent is not None:
                count, num_fetched = 1, 0
            elif num_fetched >= NUM_SINGLE:
                count = min(2 * count, MAX_BATCH)
            batch, has_ended, result = fetch(count, sent)
            items.extend(batch)
            num_fetched += 1
            if not items:
                continue
        sent = yield items.popleft()
