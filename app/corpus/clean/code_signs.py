"""Grams of code with its names made one: what a program has in common with another under whatever names.

Long ones (CODE_NGRAM tokens) say by themselves that a program is a problem's solution. Short ones (PART_NGRAM) are
common; a share of one problem's, close together, says that its solution is here in pieces: split over functions,
reordered in part, or shorter than a long gram.
"""

import builtins
import functools
import keyword
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.corpus.clean.tokens import Hashes, Tokens, code_tokens, mixed

CODE_NGRAM = 22
PART_NGRAM = 8
MIN_TELLING = 2
"""Fewest tokens of a long gram that are keywords, builtins or attributes; of a short one it is 1."""
BODY_TOKENS = 14
"""Fewest tokens of a long gram outside import lines and signatures."""
PART_BODY_TOKENS = PART_NGRAM - 2
"""The same of a short one."""
MIN_MARKS, MAX_QUOTES = 6, 4
"""Tokens of a long gram: fewest that are punctuation, which prose has little of, and most that are quotes, which tables
are full of."""
IMPORTS = re.compile(rb"^[ \t]*(?:from[ \t]+[\w.]+[ \t]+import[ \t]*(?:\([^)]*\)|[^\n]*)|import[ \t][^\n]*)", re.M)
SIGNATURES = re.compile(rb"\bdef\s+\w+\s*\((?:[^()]|\([^()]*\))*\)\s*(?:->[^:\n]+)?:|\bclass\s+\w+[^:\n]*:")
# Short strings are kept (group 1); docstrings and comments go.
_SHORT = r"(\"(?!\"\")[^\"\\\n]*(?:\\.[^\"\\\n]*)*\"|'(?!'')[^'\\\n]*(?:\\.[^'\\\n]*)*')"
_NO_CODE = re.compile(_SHORT + r"|\"\"\"[\s\S]*?\"\"\"|'''[\s\S]*?'''|#[^\n]*")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Code:
    """The tokens of a program. Made by `code_of`."""

    tokens: Tokens
    names: NDArray[np.bool_]
    """Which tokens begin with a letter or an underscore."""
    free: NDArray[np.bool_]
    """Which of them a renaming may change."""
    quoted: str
    """Docstrings that define a function, and comments where one of them does."""

    def grams(self, lengths: Sequence[int] = (PART_NGRAM, CODE_NGRAM)) -> list[Hashes]:
        """Grams of each length, in which a free name counts as the distance to its last use in the gram, 0 at its first
        (Baker, "A theory of parameterized pattern matching", STOC 1993): equal for code that differs by a renaming.
        lengths: rising, since the longer grams are made from the shorter ones."""
        hashes, free = self.tokens.hashes, self.free
        distances = np.zeros(len(hashes), np.uint64)
        names = np.flatnonzero(free)
        names = names[np.argsort(hashes[names], kind="stable")]
        again = hashes[names[1:]] == hashes[names[:-1]]
        distances[names[1:][again]] = (names[1:] - names[:-1])[again]
        fixed = np.where(free, np.uint64(0), hashes)
        total, made = np.zeros(len(hashes), np.uint64), list[Hashes]()
        for offset, factor in enumerate(_factors(lengths[-1])):
            longer = next(length for length in lengths if length > offset)
            count = max(0, len(hashes) - longer + 1)
            total, window = total[:count], slice(offset, offset + count)
            near = distances[window]
            total += (fixed[window] + near * (near <= offset)) * factor
            if offset + 1 == longer:
                made.append(mixed(total))
        return made

    def says_enough(self, length: int, least: int) -> NDArray[np.bool_]:
        """For each gram, whether at least `least` of its tokens are keywords, builtins or attributes."""
        return sums(self.names & ~self.free, length) >= least


def code_of(text: str) -> Code:
    left_out: list[str] = []

    def short(match: re.Match[str]) -> str:
        if match[1] is None:
            left_out.append(match[0])
        return match[1] or ""

    tokens = code_tokens(_NO_CODE.sub(short, text))
    quoted = _defining(left_out)
    if not len(tokens.starts):
        return Code(tokens=tokens, names=np.zeros(0, bool), free=np.zeros(0, bool), quoted=quoted)
    letters = np.frombuffer(tokens.raw, np.uint8)
    before = letters[np.maximum(tokens.starts - 1, 0)]
    names = _is_name(letters[tokens.starts])
    kept = _fixed_names()
    places = np.minimum(np.searchsorted(kept, tokens.hashes), len(kept) - 1)
    free = names & (before != ord(".")) & (kept[places] != tokens.hashes)
    return Code(tokens=tokens, names=names, free=free, quoted=quoted)


def _defining(left_out: list[str]) -> str:
    """What docstrings and comments say where they define functions, without their marks."""
    if not any("def " in said for said in left_out):
        return ""
    comments = [said.lstrip("#") for said in left_out if said.startswith("#")]
    docstrings = [said[3:-3] for said in left_out if not said.startswith("#") and "def " in said]
    return "\n".join([*docstrings, *(comments if any("def " in said for said in comments) else [])])


def code_grams(code: Code) -> tuple[NDArray[np.int64], Hashes, Hashes]:
    """The grams of a program that is looked up, without those that say little: place and hash of the short ones, hash
    of the long ones."""
    short, long = code.grams()
    places = np.flatnonzero(code.says_enough(PART_NGRAM, 1))
    return places, short[places], long[code.says_enough(CODE_NGRAM, MIN_TELLING)]


def code_evidence(code: Code) -> Hashes:
    """The long grams of a problem that are more than headers and prose."""
    tokens = code.tokens
    if len(tokens.starts) < CODE_NGRAM:
        return np.zeros(0, np.uint64)
    first = np.frombuffer(tokens.raw, np.uint8)[tokens.starts]
    is_digit = (first >= ord("0")) & (first <= ord("9"))
    marks = sums(~code.names & ~is_digit, CODE_NGRAM)
    quotes = sums((first == ord('"')) | (first == ord("'")), CODE_NGRAM)
    is_code = (marks >= MIN_MARKS) & (quotes <= MAX_QUOTES) & (_body(tokens, CODE_NGRAM) >= BODY_TOKENS)
    return code.grams()[-1][code.says_enough(CODE_NGRAM, MIN_TELLING) & is_code]


def part_evidence(code: Code) -> Hashes:
    """The short grams of a solution that are more than headers."""
    if len(code.tokens.starts) < PART_NGRAM:
        return np.zeros(0, np.uint64)
    is_code = _body(code.tokens, PART_NGRAM) >= PART_BODY_TOKENS
    return np.unique(code.grams()[0][code.says_enough(PART_NGRAM, 1) & is_code])


def within(pattern: re.Pattern[bytes], tokens: Tokens) -> NDArray[np.bool_]:
    """Which tokens lie in a match."""
    edges = np.zeros(len(tokens.raw) + 1, np.int64)
    for match in pattern.finditer(tokens.raw):
        edges[match.start()] += 1
        edges[match.end()] -= 1
    return np.cumsum(edges)[tokens.starts] > 0


def sums(flags: NDArray[np.bool_], length: int) -> NDArray[np.int64]:
    """Number of flags set in each window; shape: (len(flags) - length + 1,), empty for fewer flags."""
    counts = np.concatenate(([0], np.cumsum(flags)))
    return counts[length:] - counts[: max(0, len(counts) - length)]


@functools.cache
def hashes_of(names: tuple[str, ...]) -> Hashes:
    """Hashes of single words, in order."""
    return np.unique(code_tokens(" ".join(names)).hashes)


def _body(tokens: Tokens, length: int) -> NDArray[np.int64]:
    return sums(~within(IMPORTS, tokens) & ~within(SIGNATURES, tokens), length)


def _is_name(first: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return ((first | 0x20) >= ord("a")) & ((first | 0x20) <= ord("z")) | (first == ord("_"))


@functools.cache
def _factors(length: int) -> Hashes:
    return mixed(np.arange(1, length + 1, dtype=np.uint64)) | np.uint64(1)


@functools.cache
def _fixed_names() -> Hashes:
    """Hashes, in order, of the names that a renamed program keeps."""
    return hashes_of((*keyword.kwlist, *(name for name in dir(builtins) if not name.startswith("_"))))
