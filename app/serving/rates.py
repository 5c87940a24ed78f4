"""How often each API key may ask, and how many tokens it may use: a bucket of each, filled again at so many a minute.

A bucket holds one minute's worth, so a key that has been idle may use that at once, and then as it is filled. What a
request may need of tokens is set aside when it is let in, and what it did not use is put back at its end. A request
that needs more than a bucket holds is let in when the bucket is full. Limits: each edge counts for itself, and what was
counted ends with it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from app.serving.errors import rate_limited

MINUTE = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What one key may do in a minute; 0: as much as it likes. Example: Rate(requests_per_minute=60)"""

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    """Prompts and answers together."""


class _Bucket:
    def __init__(self) -> None:
        self._used, self._at = 0.0, 0.0

    def wait(self, amount: float, size: int, now: float) -> float:
        """Seconds until there is room for the amount; 0: there is. size: what is filled in a minute; 0: no end."""
        if size == 0:
            return 0.0
        self._used = max(0.0, self._used - (now - self._at) * size / MINUTE)
        self._at = now
        return max(0.0, self._used + min(amount, size) - size) * MINUTE / size

    def take(self, amount: float) -> float:
        """How much is used now. A negative amount is put back."""
        self._used = max(0.0, self._used + amount)
        return self._used


class Rates:
    def __init__(self, rate_of: Callable[[str], Rate], clock: Callable[[], float] = time.monotonic) -> None:
        """rate_of: the rate of the key with this name, asked anew each time, so that a change holds at once."""
        self._rate_of, self._clock = rate_of, clock
        self._requests: dict[str, _Bucket] = {}
        self._tokens: dict[str, _Bucket] = {}

    def take_request(self, owner: str) -> None:
        """Count one request. Raises ApiError (429), and counts nothing, where there were as many as there may be."""
        size = self._rate_of(owner).requests_per_minute
        bucket = self._requests.setdefault(owner, _Bucket())
        if wait := bucket.wait(1, size, self._clock()):
            raise rate_limited(f"this key may send {size} requests a minute", wait)
        bucket.take(1 if size else 0)

    def take_tokens(self, owner: str, most: int) -> Callable[[int], None]:
        """Set aside what a request may need; returns what is to be called at its end with what it did use.

        Raises ApiError (429), and sets nothing aside, where there is not as much. most: 0 for what draws nothing.
        """
        size = self._rate_of(owner).tokens_per_minute
        bucket = self._tokens.setdefault(owner, _Bucket())
        if most and (wait := bucket.wait(most, size, self._clock())):
            cause = f"this key may use {size} tokens a minute, and this request may need {most} (prompt and max_tokens)"
            raise rate_limited(cause, wait)
        set_aside = most if size else 0
        level, start = bucket.take(set_aside), self._clock()

        def settle(used: int) -> None:
            if set_aside:  # what the bucket was filled with meanwhile is not there to be put back a second time
                left = max(0.0, level - (self._clock() - start) * size / MINUTE)
                bucket.take(max(used - set_aside, -left))

        return settle
