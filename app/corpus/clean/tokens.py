"""Tokens of source and prose as 64-bit hashes, by arithmetic on whole arrays instead of a Python object for each token.

Near-duplicates (`minhash`) and benchmark overlaps (`decontamination`) compare n-grams of these hashes. Measured on
Python source, one core: 130 MB/s up to the hashes of 5-grams, where `re.findall` alone takes 26.

Limits: characters beyond ASCII, and question marks, count as spaces. Two tokens, or two n-grams, are taken for one with
probability 2^-64. A `#` inside a string ends the line too: finding strings costs more than the comparison gains.
"""

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Hashes: TypeAlias = NDArray[np.uint64]
_COMMENT = re.compile(rb"#[^\n]*")
_SPACE, _WORD, _MARK = 0, 1, 2
_BASE = 0x9E3779B97F4A7C15
_BASE_INVERSE = pow(_BASE, -1, 2**64)
_GRAM_BASE = 0xFF51AFD7ED558CCD
_MIX = np.uint64(0xD6E8FEB86659FD93)
_HALF = np.uint64(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Tokens in the order of the text; parallel arrays. Made here; read by `minhash` and `decontamination`."""

    raw: bytes
    """The text that `starts` and `ends` point into."""
    hashes: Hashes
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


def code_tokens(text: str) -> Tokens:
    """Words (names, keywords, numbers, the words of strings) and single punctuation marks; no comments, no layout."""
    return _tokens(_COMMENT.sub(b"", text.encode("ascii", "replace")), _classes())


def word_tokens(text: str) -> Tokens:
    """Lower-case words of letters, digits and underscores; nothing else."""
    return _tokens(text.lower().encode("ascii", "replace"), _classes() % _MARK)


def grams(hashes: Hashes, length: int) -> Hashes:
    """Hash of each run of `length` tokens; empty for fewer tokens."""
    return next(grams_of_lengths(hashes, [length]))


def grams_of_lengths(hashes: Hashes, lengths: Sequence[int]) -> Iterator[Hashes]:
    """The same for several lengths, which rise: the longer ones are made from the shorter."""
    total, done = hashes, 1
    for length in lengths:
        count = max(0, len(hashes) - length + 1)
        total = total[:count].copy()
        for offset in range(done, length):
            total += hashes[offset : offset + count] * np.uint64(pow(_GRAM_BASE, offset, 2**64))
        done = length
        yield mixed(total)


def mixed(values: Hashes) -> Hashes:
    """A bijection of 64-bit numbers that spreads every bit over all others."""
    values = (values ^ (values >> _HALF)) * _MIX
    return (values ^ (values >> _HALF)) * _MIX


def _tokens(raw: bytes, classes: NDArray[np.uint8]) -> Tokens:
    letters = np.frombuffer(raw, np.uint8)
    kinds = np.concatenate((np.zeros(1, np.uint8), classes[letters], np.zeros(1, np.uint8)))
    word, mark = kinds == _WORD, kinds == _MARK
    starts = np.flatnonzero((word[1:] & ~word[:-1]) | mark[1:])
    ends = np.flatnonzero((word[:-1] & ~word[1:]) | mark[:-1])
    # Polynomial prefix sums modulo 2^64: the hash of raw[start:end] is a difference, shifted back to position 0.
    powers, inverses = _powers(1 << max(16, len(raw).bit_length()))
    sums = np.zeros(len(raw) + 1, np.uint64)
    np.cumsum(letters * powers[: len(raw)], out=sums[1:])
    return Tokens(raw=raw, hashes=mixed((sums[ends] - sums[starts]) * inverses[starts]), starts=starts, ends=ends)


@functools.lru_cache(maxsize=2)
def _powers(count: int) -> tuple[Hashes, Hashes]:
    """The first powers of the base and of its inverse."""
    both = np.ones((2, count), np.uint64)
    both[0, 1:], both[1, 1:] = _BASE, _BASE_INVERSE
    both = np.multiply.accumulate(both, axis=1)
    return both[0], both[1]


@functools.cache
def _classes() -> NDArray[np.uint8]:
    """Class of each byte. `encode` has put a question mark for all that is not ASCII: it counts as space."""
    kinds = np.full(256, _SPACE, np.uint8)
    for code in range(33, 127):
        character = chr(code)
        kinds[code] = _WORD if character.isalnum() or character == "_" else _MARK
    kinds[ord("?")] = _SPACE
    return kinds
