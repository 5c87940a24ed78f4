"""The guard that keeps benchmark problems out of the training data: the union of six signs, each found by hashed
n-grams.

- "exact": a paragraph or line of a problem, of 6 to 9 words and 32 characters or more, white space and case normalised
  (StarCoder, arXiv 2305.06161, searched for docstrings and solutions; longer ones are found by the next sign);
- "10-gram": ten words in a row (Qwen2.5-Coder, OpenCoder);
- "renamed": 22 tokens of code in a row that differ by a consistent renaming only, comments and docstrings left out: a
  solution with renamed variables;
- "entry point": a function of the same name (OpenCoder). A name of one word ("add", "solve", "encode") is anybody's: it
  counts only with five words in a row of its problem;
- "parts": short runs of code, of which a share of one solution's is close together (PART_SHARES): a solution in pieces;
- "tests": values of a problem's tests or inputs (`app.corpus.clean.value_signs`).

What they find and what not, and false alarms: docs/corpus.md ("The guard"), measured by `benchmarks.contamination`.
Speed: 8 MB/s of files on one core. What is hidden is looked at too (`app.corpus.clean.disguises`).

`app.corpus.clean.signs` makes the hashes and says which n-grams are evidence.

Use: a clean file holds no contaminated function, so `hit` is asked of the file with all its names first, and of the
functions only where the file is hit.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.corpus.clean.code_signs import Code, code_grams, code_of
from app.corpus.clean.disguises import revealed
from app.corpus.clean.signs import (
    BITS,
    NGRAM,
    OWNED,
    OWNED_BITS,
    OWNER_SHIFT,
    PIECE_WORDS,
    SIGNS,
    Signs,
    is_distinctive,
    name_grams,
    name_hash,
    piece_hash,
    signs_of,
    word_grams,
)
from app.corpus.clean.tokens import Hashes, Tokens, grams_of_lengths, word_tokens
from app.corpus.clean.value_signs import INPUT_VALUES, RUN_VALUES, value_grams, values_of
from app.records import BenchmarkText

ENTRY_POINT, EXACT, WORDS, RENAMED, PARTS, TESTS = "entry point", "exact", "10-gram", "renamed", "parts", "tests"
PART_SHARES = ((6, 0.85), (8, 0.8), (14, 0.45), (16, 0.3))
"""When a text holds a solution in pieces. Each pair is a number of the solution's short grams and a share of all of
them: a text that has both at least, close together, holds it. One pair is enough."""
MIN_INPUTS, MIN_CONSTANTS, INPUT_ROOM = ((3, 0),), ((4, 0),), 300
"""When a text holds a problem's tests: it has this number of their inputs within INPUT_ROOM tokens. MIN_INPUTS counts
inputs of several values in a row, MIN_CONSTANTS those of a single value."""
PART_ROOM = 60
"""Tokens beside twice the solution's in which its pieces have to be."""
_WORD = re.compile(r"\w+")
_DEFINED = re.compile(r"\bdef\s+(\w+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Index:
    """Hashes in order, each with the number of the part that it comes from."""

    hashes: Hashes
    owners: NDArray[np.int32]
    sieve: NDArray[np.bool_]
    """Whether any hash ends in these bits: sorts out nearly all look-ups at a tenth of a search's cost."""

    @classmethod
    def of(cls, parts: list[Hashes]) -> "_Index":
        """An index in which the first part that holds a hash owns it."""
        hashes = np.concatenate([np.zeros(0, np.uint64), *parts])
        owners = np.repeat(np.arange(len(parts), dtype=np.int32), [len(part) for part in parts])
        hashes, first = np.unique(hashes, return_index=True)
        sieve = np.zeros(1 << min(24, max(16, (16 * len(hashes)).bit_length())), bool)
        sieve[(hashes & np.uint64(len(sieve) - 1)).astype(np.int64)] = True
        return cls(hashes=hashes, owners=owners[first], sieve=sieve)

    def found(self, hashes: Hashes) -> NDArray[np.int64]:
        """Positions in `hashes` of those that are in the index."""
        return self.entries(hashes)[0]

    def entries(self, hashes: Hashes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The same, and where in the index each is."""
        likely = np.flatnonzero(self.sieve[(hashes & np.uint64(len(self.sieve) - 1)).view(np.int64)])
        if not len(likely):
            return likely, likely
        places = np.minimum(np.searchsorted(self.hashes, hashes[likely]), len(self.hashes) - 1)
        are_in = self.hashes[places] == hashes[likely]
        return likely[are_in], places[are_in]

    def owner(self, value: np.uint64) -> int:
        return int(self.owners[np.searchsorted(self.hashes, value)])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Owned:
    """Hashes of several problems, of which some together are evidence."""

    index: _Index
    first: NDArray[np.int64]
    """By place in the index: where the problems that have the hash begin in `problems`."""
    problems: NDArray[np.int32]
    sizes: NDArray[np.int64]
    """By problem: its hashes."""
    needed: NDArray[np.int64]
    """By problem: how many of them are evidence."""
    labels: list[str]

    @classmethod
    def of(cls, held: Sequence[Signs], kind: str, shares: Sequence[tuple[int, float]]) -> "_Owned":
        """shares: how many are evidence, each with the share of all that they are at least."""
        parts, problems, labels = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)], list[str]()
        for signs in held:
            values = getattr(signs, kind)
            numbers = (values >> OWNER_SHIFT).astype(np.int64)
            parts.append(values & OWNED_BITS)
            problems.append(numbers + len(labels))
            labels += [signs.label] * (int(numbers.max(initial=-1)) + 1)
        hashes, owners = np.concatenate(parts), np.concatenate(problems)
        order = np.argsort(hashes, kind="stable")
        index = _Index.of([hashes])
        sizes = np.bincount(owners, minlength=len(labels))
        least = [np.maximum(count, np.ceil(share * sizes)) for count, share in shares]
        return cls(
            index=index,
            first=np.append(np.searchsorted(hashes[order], index.hashes), len(hashes)),
            problems=owners[order].astype(np.int32),
            sizes=sizes,
            needed=np.minimum.reduce(least).astype(np.int64),
            labels=labels,
        )

    def found(self, places: NDArray[np.int64], hashes: Hashes) -> Iterator[tuple[int, list[tuple[int, int]]]]:
        """Problems with enough of these hashes, each with the places and hashes found, in order."""
        hashes = hashes & OWNED_BITS
        hits, entries = self.index.entries(hashes)
        if not len(hits):
            return
        counts = self.first[entries + 1] - self.first[entries]
        starts = np.repeat(self.first[entries] - np.concatenate(([0], np.cumsum(counts)[:-1])), counts)
        problems = self.problems[starts + np.arange(len(starts))]
        where, what = np.repeat(places[hits], counts), np.repeat(entries, counts)
        counts = np.bincount(problems, minlength=len(self.sizes))
        for problem in np.flatnonzero(counts >= self.needed).tolist():
            mine = problems == problem
            yield problem, list(zip(where[mine].tolist(), what[mine].tolist(), strict=True))


class Decontaminator:
    """The benchmarks, of which `hit` tells whether a document touches one. Made for each worker; thread-safe."""

    def __init__(self, benchmarks: Iterable[BenchmarkText] = (), signs: Sequence[Signs] = ()) -> None:
        """Take the problems of one suite, and signs of others that were made before."""
        held = [*signs_of(benchmarks), *signs]
        self._labels = [signs.label for signs in held]
        self._names, self._name_grams, self._words, self._pieces, self._piece_texts, self._code, self._values = (
            _Index.of([getattr(signs, kind) for signs in held]) for kind in SIGNS if kind not in OWNED
        )
        self._parts, self._inputs, self._constants = (
            _Owned.of(held, kind, shares)
            for kind, shares in zip(OWNED, (PART_SHARES, MIN_INPUTS, MIN_CONSTANTS), strict=True)
        )

    def hit(self, text: str, names: Iterable[str], *, renamed: bool = True) -> str:
        """Why the document is contaminated, as "kind: detail"; empty when it is not. names: functions it defines.
        renamed: look for that sign too, which most solutions of short exercises have in common."""
        tokens = word_tokens(text)
        if found := self._shown(text, tokens, names, renamed):
            return found
        for how, hidden in revealed(text, tokens):
            if found := self._shown(hidden, word_tokens(hidden), _DEFINED.findall(hidden), renamed):
                return found.replace(": ", f": {how}, ", 1)
        return ""

    def _shown(self, text: str, tokens: Tokens, names: Iterable[str], renamed: bool) -> str:
        """Why the text as it is shown is contaminated."""
        *pieces, runs = grams_of_lengths(tokens.hashes, (*PIECE_WORDS, NGRAM))
        found = (
            self._name(tokens, names)
            or self._run_of_words(tokens, runs & BITS)
            or self._piece(tokens, pieces)
            or self._tests(tokens)
        )
        if found or not renamed:
            return found
        code = code_of(text)
        found = self._solution(code)
        if found or not code.quoted:
            return found
        return self._name(tokens, _DEFINED.findall(code.quoted)) or self._solution(code_of(code.quoted))

    def repeats(self, text: str, code: str, name: str) -> bool:
        """Whether a problem that was written for the same readers as these is one of them: its function's name is one
        of theirs, or half of its runs of words or of its code's is. One sign, which `hit` goes by, says little here:
        problems of one source share forms of words and the beginnings of solutions. text: statement and solution."""
        tokens = word_tokens(text)
        shares = [(self._words, word_grams(tokens)), (self._code, code_grams(code_of(code))[-1] & BITS)]
        return bool(self._name(tokens, [name])) or any(
            len(runs) > 0 and 2 * len(index.found(runs)) >= len(runs) for index, runs in shares
        )

    def _name(self, tokens: Tokens, names: Iterable[str]) -> str:
        for name in names:
            value = name_hash(name)
            if len(self._names.found(np.array([value]))) and (
                is_distinctive(name) or len(self._name_grams.found(name_grams(tokens, value)))
            ):
                return f"{ENTRY_POINT}: defines {name!r} of {self._label(self._names, value)}"
        return ""

    def _run_of_words(self, tokens: Tokens, runs: Hashes) -> str:
        for place in self._words.found(runs)[:1]:
            shown = _quoted(tokens, place, NGRAM)
            return f"{WORDS}: shares {shown!r} with {self._label(self._words, runs[place])}"
        return ""

    def _piece(self, tokens: Tokens, pieces: Sequence[Hashes]) -> str:
        for count, runs in zip(PIECE_WORDS, pieces, strict=True):
            for place in self._pieces.found(runs & BITS):
                value = piece_hash(tokens, place, count)
                if len(self._piece_texts.found(np.array([value]))):
                    shown = _quoted(tokens, place, count)
                    return f"{EXACT}: holds {shown!r} of {self._label(self._piece_texts, value)}"
        return ""

    def _solution(self, code: Code) -> str:
        places, parts, runs = code_grams(code)
        runs &= BITS
        for place in self._code.found(runs)[:1]:
            return f"{RENAMED}: the code of {self._label(self._code, runs[place])} under other names"
        for problem, found in self._parts.found(places, parts):
            if _closest(found, 2 * int(self._parts.sizes[problem]) + PART_ROOM) >= self._parts.needed[problem]:
                return f"{PARTS}: pieces of the solution of {self._parts.labels[problem]} under other names"
        return ""

    def _tests(self, tokens: Tokens) -> str:
        values = values_of(tokens)
        runs = value_grams(tokens, values, RUN_VALUES) & BITS
        for place in self._values.found(runs)[:1]:
            return f"{TESTS}: {RUN_VALUES} values in a row of the tests of {self._label(self._values, runs[place])}"
        for held, lengths in ((self._inputs, INPUT_VALUES), (self._constants, (1,))):
            looked_up = [value_grams(tokens, values, length) for length in lengths]
            places = np.concatenate([np.arange(len(grams)) for grams in looked_up])
            for problem, found in held.found(places, np.concatenate(looked_up)):
                if _closest(sorted(found), INPUT_ROOM) >= held.needed[problem]:
                    return f"{TESTS}: inputs of a problem of {held.labels[problem]}"
        return ""

    def _label(self, index: _Index, value: np.uint64) -> str:
        return self._labels[index.owner(value)]


def defined_names(tree: ast.Module) -> list[str]:
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def _closest(found: Sequence[tuple[int, int]], room: int) -> int:
    """The most different hashes that lie within `room` tokens of each other. found: places and hashes, in the order of
    places."""
    held, start, most = Counter[int](), 0, 0
    for place, what in found:
        held[what] += 1
        while found[start][0] < place - room:
            held[found[start][1]] -= 1
            if not held[found[start][1]]:
                del held[found[start][1]]
            start += 1
        most = max(most, len(held))
    return most


def words(text: str) -> list[str]:
    """The words in which `app.evaluation.contamination` counts overlaps."""
    return _WORD.findall(text.lower())


def _quoted(tokens: Tokens, place: int, count: int) -> str:
    return " ".join(tokens.raw[tokens.starts[place] : tokens.ends[place + count - 1]].decode().split())
