"""Numbers drawn by hash: the same on every machine, whatever else was drawn before."""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def by_hash(key: str | bytes) -> bytes:
    """What to sort by for an order that depends on the keys alone: the key's SHA-256."""
    return hashlib.sha256(key.encode() if isinstance(key, str) else key).digest()


def bits(key: str | bytes) -> int:
    """64 bits drawn by the key."""
    return int.from_bytes(by_hash(key)[:8], "big")


def uniform(key: str | bytes) -> float:
    """A number drawn by the key: 0 or more and less than 1, in steps of 2**-53, so that no rounding makes it 1."""
    return (bits(key) >> 11) / 2**53


class Draws:
    """A stream of draws under a key."""

    def __init__(self, key: str) -> None:
        self._key = key.encode("utf-8", "surrogatepass")
        self._count = 0

    def below(self, end: int) -> int:
        self._count += 1
        digest = hashlib.blake2b(self._key + self._count.to_bytes(8, "big"), digest_size=8).digest()
        return int.from_bytes(digest, "big") % end

    def one_of(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """In an order that depends on the key and the items' places."""
        left = list(items)
        return [left.pop(self.below(len(left))) for _ in range(len(left))]
