"""How often something may happen within a stretch of time: searches of an API key, requests to a source.

The window moves, so no stretch of that length ever holds more. Counted in this process: one that starts anew begins at
nothing, and then it is the site's own 429 that ends it.
"""

import dataclasses
import math
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping

from app.docsearch.records import Refused

MINUTE = 60.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    calls: int
    seconds: float


class Rates:
    """May be used by several threads at once."""

    def __init__(self, rates: Mapping[str, Rate], clock: Callable[[], float] = time.monotonic) -> None:
        """rates: by kind, for each who of that kind; what has none may be as often as it likes."""
        self._rates, self._clock, self._lock = rates, clock, threading.Lock()
        self._taken: defaultdict[tuple[str, str], deque[float]] = defaultdict(deque)
        """When each call of the last stretch was, the oldest first."""

    def take(self, kind: str, who: str = "") -> None:
        """Count one call. Raises Refused("rate"), and counts nothing, where there were as many as there may be."""
        if (rate := self._rates.get(kind)) is None:
            return
        with self._lock:
            now, taken = self._clock(), self._taken[kind, who]
            while taken and taken[0] <= now - rate.seconds:
                taken.popleft()
            if len(taken) >= rate.calls:
                wait = math.ceil(taken[0] + rate.seconds - now)
                raise Refused("rate", f"{rate.calls} calls in {rate.seconds:.0f} s are used; the next in {wait} s")
            taken.append(now)
