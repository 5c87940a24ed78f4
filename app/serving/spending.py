"""What an answer costs in tokens, read out of the engine's own counts while its parts pass by.

Every stream is asked for with its counts in each piece, so that one whose client left is counted too. Clients get what
they asked for: the counts are taken out again. A quote within a JSON string has a backslash before it, so the patterns
find nothing there.
"""

import json
import re
import time
from typing import Any

USAGE = re.compile(rb',\s?"usage":\s?(\{(?:[^{}]|\{[^{}]*\})*\}|null)')
INDEX = re.compile(rb'"choices":\s?\[\{"index":\s?(\d+)')
NO_CHOICES = re.compile(rb'"choices":\s?\[\]')
END = b"\n\n"


class Spending:
    """Of one request, over all that was asked of engines for it."""

    def __init__(self) -> None:
        self._start, self._has_begun = time.monotonic(), False
        self._rest = b""
        self._done = (0, 0)
        self._now: dict[int, tuple[int, int]] = {}
        """Of the engine's answer that is under way: by choice its prompt's tokens and those drawn."""
        self._whole: tuple[int, int] | None = None

    def begin(self) -> None:
        """Another answer of an engine begins: what the one before it came to stays."""
        self._done = self.prompt, self.answer
        self._now, self._whole, self._rest = {}, None, b""

    def is_first(self) -> bool:
        """True when it is asked first."""
        is_first, self._has_begun = not self._has_begun, True
        return is_first

    def seconds(self) -> float:
        return time.monotonic() - self._start

    @property
    def prompt(self) -> int:
        return self._done[0] + self._under_way()[0]

    @property
    def answer(self) -> int:
        return self._done[1] + self._under_way()[1]

    def read_whole(self, body: bytes) -> None:
        """The body of an answer that is no stream."""
        for found in USAGE.finditer(body):
            self._count(found[1], None)

    def read_events(self, part: bytes, *, keep_total: bool) -> bytes:
        """The events that a part of a stream ends, without the counts that only the server asked for. keep_total: the
        client asked for the event that has the sum, and no choices."""
        whole, end, self._rest = (self._rest + part).rpartition(END)
        if b'"usage":' not in whole:
            return whole + end
        kept = [self._read_event(event, keep_total) for event in whole.split(END)]
        return b"".join(event + END for event in kept if event)

    def rest(self) -> bytes:
        """What a stream ended with that is no whole event."""
        return self._rest

    def _read_event(self, event: bytes, keep_total: bool) -> bytes:
        found = USAGE.search(event)
        if found is None:
            return event
        if NO_CHOICES.search(event):
            self._count(found[1], None)
            return event if keep_total else b""
        index = INDEX.search(event)
        self._count(found[1], int(index[1]) if index else 0)
        return event[: found.start()] + event[found.end() :]

    def _count(self, usage: bytes, index: int | None) -> None:
        counts: dict[str, Any] | None = json.loads(usage)
        if counts is None:
            return
        spent = counts.get("prompt_tokens", 0), counts.get("completion_tokens") or 0
        if index is None:
            self._whole = spent
        else:
            self._now[index] = spent

    def _under_way(self) -> tuple[int, int]:
        """Choices of one prompt each count it; the sum at the end is exact."""
        if self._whole is not None:
            return self._whole
        prompt = max((prompt for prompt, _ in self._now.values()), default=0)
        return prompt, sum(answer for _, answer in self._now.values())


def with_counts(body: dict[str, Any]) -> dict[str, Any]:
    """The body, with counts in each piece if it asks for a stream."""
    if not body.get("stream"):
        return body
    return body | {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
