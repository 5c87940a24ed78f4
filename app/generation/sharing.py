"""Several threads that draw with one engine at the same time, each as the base or with an adapter of its own.

Places   which adapters lie in the engine, and how many of its users draw with each
Turns    one thread at a time steps the engine, for all; whoever waited longest is next
"""

import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

Version = TypeVar("Version", bound=Hashable)


class Turns:
    """A lock that is handed to whoever waits for it longest. threading.Lock is not: a thread that gives it back and
    asks again at once gets it, and the others wait until its drafts are drawn."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._taken = False

    def __enter__(self) -> None:
        with self._mutex:
            if not self._taken:
                self._taken = True
                return
            gate = threading.Lock()
            gate.acquire()
            self._waiting.append(gate)
        gate.acquire()  # opened by whoever hands its turn on

    def __exit__(self, *_: object) -> None:
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False


class Places(Generic[Version]):
    """Room for a number of adapters, by version. `using` waits for a place that nobody draws with."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._held: dict[Version, Any] = {}
        """What the engine calls it; who was used least lately comes first."""
        self._users: dict[Version, int] = {}
        self._changed = threading.Condition()

    @contextmanager
    def using(
        self,
        version: Version,
        put: Callable[[], Any],
        take_away: Callable[[Any], None],
        *,
        wake: Callable[[], None],
        needs_place: bool = True,
    ) -> Iterator[Any]:
        """What `put` returned for this version, which stays where it is as long as this is held.

        put, take_away, wake: called by one thread at a time, `wake` whenever somebody begins. needs_place: False for
        what needs none, such as the base beside adapters; it is counted as a user all the same."""
        with self._changed:
            self._changed.wait_for(lambda: not needs_place or version in self._held or self._is_free())
            wake()
            if needs_place:
                if version not in self._held and len(self._held) >= self._number:
                    idle = next(one for one in self._held if not self._users.get(one))
                    take_away(self._held.pop(idle))
                self._held[version] = self._held.pop(version) if version in self._held else put()
            self._users[version] = self._users.get(version, 0) + 1
        try:
            yield self._held.get(version)
        finally:
            with self._changed:
                self._users[version] -= 1
                if not self._users[version]:
                    del self._users[version]
                self._changed.notify_all()

    @contextmanager
    def idle(self) -> Iterator[None]:
        """Nobody draws, and nobody begins to, as long as this is held."""
        with self._changed:
            self._changed.wait_for(lambda: not self._users)
            yield

    def has(self, version: Version) -> bool:
        return version in self._held

    def forget(self) -> None:
        """The engine that held them is gone."""
        self._held.clear()

    def _is_free(self) -> bool:
        return len(self._held) < self._number or any(not self._users.get(one) for one in self._held)
