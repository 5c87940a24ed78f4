"""How many searches a request may make, counted where they are made: nothing that a model or a page says changes it.

The id of a request is made here and says who may search how often, so it is as secret as a password: it is never part
of what a model reads. Requests end after an hour, and the oldest when there are too many; an id that has ended, or was
never made, may not search.
"""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from app.docsearch.records import Refused

REQUEST_SECONDS = 3600.0
MAX_REQUESTS = 10_000


class Budget:
    def __init__(
        self,
        searches: int,
        *,
        seconds: float = REQUEST_SECONDS,
        most: int = MAX_REQUESTS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """searches: of each request. seconds: how long it lasts. most: requests that are known at once."""
        self._searches, self._seconds, self._most, self._clock = searches, seconds, most, clock
        self._lock = threading.Lock()
        self._requests: OrderedDict[str, tuple[float, int, str]] = OrderedDict()
        """By id when it ends, how many searches are left and whose it is, the oldest first."""

    def begin(self, owner: str = "") -> str:
        """The id of a new request. owner: name of the API key that it came with."""
        request, now = secrets.token_urlsafe(24), self._clock()
        with self._lock:
            self._requests[request] = (now + self._seconds, self._searches, owner)
            while self._requests:
                ends, *_ = next(iter(self._requests.values()))
                if ends > now and len(self._requests) <= self._most:
                    break
                self._requests.popitem(last=False)
        return request

    def take(self, request: str) -> tuple[int, str]:
        """Count one search, before anything else is done for it; how many are left then, and the request's owner.
        Raises Refused: `request` for an id that is not known here or no longer, `budget` where all are used."""
        with self._lock:
            ends, left, owner = self._requests.get(request, (0.0, 0, ""))
            if request not in self._requests or ends <= self._clock():
                self._requests.pop(request, None)
                raise Refused("request", "it has ended, or was not begun here")
            if left < 1:
                raise Refused("budget", f"all {self._searches} searches of this request are used")
            self._requests[request] = (ends, left - 1, owner)
            return left - 1, owner

    def __len__(self) -> int:
        return len(self._requests)
