"""Keeps benchmark problems out of the training data: the union of four signs, each found by hashed n-grams.

- "exact": a paragraph or line of a problem, of 6 to 9 words and 32 characters or more, white space normalised
  (StarCoder, arXiv 2305.06161, searched for docstrings and solutions; longer ones are found by the next sign);
- "10-gram": ten words in a row (Qwen2.5-Coder, OpenCoder), of which five hold letters, because runs of numbers meet by
  chance;
- "renamed": 22 tokens of code in a row that differ by a consistent renaming only, comments and docstrings left out: a
  solution with renamed variables. Two of the tokens must be keywords, builtins or attributes;
- "entry point": a function of the same name (OpenCoder). A name of one word ("add", "solve", "encode") is anybody's: it
  counts only with five words in a row of its problem.

Measured against HumanEval and MBPP (1,138 problems). False alarms, over 14,148 documented functions of installed
packages: 22 renamed, 10 entry points (64 if every name counted: "encode" 10 times, "validate" 7), 8 10-grams, 1 exact:
1 in 345. Found with every name changed and the docstring gone: 126 of 164 HumanEval solutions, 589 of 974 of MBPP; the
others are mostly shorter than 22 tokens. Prompts of MBPP in a docstring: all. Speed: 11 MB/s of files on one core.

Use: a clean file holds no contaminated function, so `hit` is asked of the file with all its names first, and of the
functions only where the file is hit.
"""

import ast
import builtins
import functools
import keyword
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.corpus.tokens import Hashes, Tokens, code_tokens, grams, mixed, word_tokens
from app.records import BenchmarkText

NGRAM = 10
MIN_LETTER_WORDS = 5
CODE_NGRAM = 22
MIN_TELLING = 2
NAME_NGRAM = 5
PIECE_WORDS = range(6, NGRAM)
PIECE_CHARS = 32
ENTRY_POINT, EXACT, WORDS, RENAMED = "entry point", "exact", "10-gram", "renamed"
_WORD = re.compile(r"\w+")
_PIECES = re.compile(r"\n\s*\n|\"\"\"|'''")
_IMPORT = re.compile(r"\s*(?:from|import)\s")
# Short strings are kept (group 1); docstrings and comments go.
_SHORT = r"(\"(?!\"\")[^\"\\\n]*(?:\\.[^\"\\\n]*)*\"|'(?!'')[^'\\\n]*(?:\\.[^'\\\n]*)*')"
_NO_CODE = re.compile(_SHORT + r"|\"\"\"[\s\S]*?\"\"\"|'''[\s\S]*?'''|#[^\n]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Index:
    """Hashes in order, and for each the number of the part that it comes from."""

    hashes: Hashes
    owners: NDArray[np.int32]
    sieve: NDArray[np.bool_]
    """Whether any hash ends in these bits: sorts out nearly all look-ups at a tenth of a search's cost."""

    @classmethod
    def of(cls, parts: list[Hashes]) -> "_Index":
        """Of a hash in several parts the first is the owner."""
        hashes = np.concatenate([np.zeros(0, np.uint64), *parts])
        owners = np.repeat(np.arange(len(parts), dtype=np.int32), [len(part) for part in parts])
        hashes, first = np.unique(hashes, return_index=True)
        sieve = np.zeros(1 << min(24, max(16, (16 * len(hashes)).bit_length())), bool)
        sieve[(hashes & np.uint64(len(sieve) - 1)).astype(np.int64)] = True
        return cls(hashes=hashes, owners=owners[first], sieve=sieve)

    def found(self, hashes: Hashes) -> NDArray[np.int64]:
        """Positions in `hashes` of those that are in the index."""
        likely = np.flatnonzero(self.sieve[(hashes & np.uint64(len(self.sieve) - 1)).astype(np.int64)])
        if not len(likely):
            return likely
        places = np.minimum(np.searchsorted(self.hashes, hashes[likely]), len(self.hashes) - 1)
        return likely[self.hashes[places] == hashes[likely]]

    def owner(self, value: np.uint64) -> int:
        return int(self.owners[np.searchsorted(self.hashes, value)])


class Decontaminator:
    """Holds the benchmarks; `hit` tells whether a document touches one. Made for each worker; thread-safe."""

    def __init__(self, benchmarks: Iterable[BenchmarkText]) -> None:
        self._ids: list[str] = []
        self._named: dict[str, list[int]] = {}
        self._name_grams: list[Hashes] = []
        self._pieces: dict[int, list[tuple[str, int]]] = {count: [] for count in PIECE_WORDS}
        words, code = [], []
        pieces: dict[int, list[Hashes]] = {count: [] for count in PIECE_WORDS}
        for number, benchmark in enumerate(benchmarks):
            self._ids.append(benchmark.problem_id)
            self._named.setdefault(benchmark.entry_point, []).append(number)
            tokens = word_tokens(benchmark.text)
            self._name_grams.append(np.unique(grams(tokens.hashes, NAME_NGRAM)))
            words.append(grams(tokens.hashes, NGRAM)[_sums(_has_letter(tokens), NGRAM) >= MIN_LETTER_WORDS])
            code.append(_code_grams(benchmark.text))
            for piece in _pieces(benchmark.text):
                hashes = word_tokens(piece).hashes
                if len(hashes) in pieces:
                    pieces[len(hashes)].append(grams(hashes, len(hashes)))
                    self._pieces[len(hashes)].append((piece, number))
        self._words, self._code = _Index.of(words), _Index.of(code)
        self._by_length = {count: _Index.of(parts) for count, parts in pieces.items()}

    def hit(self, text: str, names: Iterable[str]) -> str:
        """Why the document is contaminated, as "kind: detail"; empty when it is not. names: functions it defines."""
        tokens = word_tokens(text)
        return (
            self._name(tokens, names) or self._run_of_words(tokens) or self._piece(text, tokens) or self._renamed(text)
        )

    def _name(self, tokens: Tokens, names: Iterable[str]) -> str:
        for name in names:
            for number in self._named.get(name, ()):
                if _is_distinctive(name) or np.isin(grams(tokens.hashes, NAME_NGRAM), self._name_grams[number]).any():
                    return f"{ENTRY_POINT}: defines {name!r} of {self._ids[number]}"
        return ""

    def _run_of_words(self, tokens: Tokens) -> str:
        runs = grams(tokens.hashes, NGRAM)
        for place in self._words.found(runs)[:1]:
            shown = tokens.raw[tokens.starts[place] : tokens.ends[place + NGRAM - 1]].decode()
            return f"{WORDS}: shares {' '.join(shown.split())!r} with {self._ids[self._words.owner(runs[place])]}"
        return ""

    def _piece(self, text: str, tokens: Tokens) -> str:
        for count, index in self._by_length.items():
            runs = grams(tokens.hashes, count)
            for place in index.found(runs):
                piece, number = self._pieces[count][index.owner(runs[place])]
                if piece in " ".join(text.split()):
                    return f"{EXACT}: holds {piece!r} of {self._ids[number]}"
        return ""

    def _renamed(self, text: str) -> str:
        runs = _code_grams(text)
        for place in self._code.found(runs)[:1]:
            return f"{RENAMED}: the code of {self._ids[self._code.owner(runs[place])]} under other names"
        return ""


def defined_names(tree: ast.Module) -> list[str]:
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def words(text: str) -> list[str]:
    """What `app.evaluation.contamination` counts overlaps in."""
    return _WORD.findall(text.lower())


def _is_distinctive(name: str) -> bool:
    """Two words or more: has_close_elements, twoSum."""
    return bool(re.search(r"[^_]_+[^_]|[a-z][A-Z]", name))


def _pieces(text: str) -> Iterator[str]:
    """Paragraphs and lines long enough to mean something, white space normalised."""
    for piece in dict.fromkeys((*_PIECES.split(text), *text.splitlines())):
        plain = " ".join(piece.split())
        if len(plain) >= PIECE_CHARS and not _IMPORT.match(piece):
            yield plain


def _code_grams(text: str) -> Hashes:
    """Grams of the code with its names made one; those that say little (few keywords, builtins, attributes, numbers)
    are left out."""
    tokens = code_tokens(_NO_CODE.sub(_short, text))
    if not len(tokens.starts):
        return tokens.hashes
    letters = np.frombuffer(tokens.raw, np.uint8)
    first = letters[tokens.starts]
    before = letters[np.maximum(tokens.starts - 1, 0)]
    is_name = ((first | 0x20) >= ord("a")) & ((first | 0x20) <= ord("z")) | (first == ord("_"))
    kept = _fixed_names()
    places = np.minimum(np.searchsorted(kept, tokens.hashes), len(kept) - 1)
    free = is_name & (before != ord(".")) & (kept[places] != tokens.hashes)
    telling = _sums(is_name & ~free, CODE_NGRAM) >= MIN_TELLING
    return _renaming_grams(tokens.hashes, free)[telling]


def _short(match: re.Match[str]) -> str:
    return match[1] or ""


def _renaming_grams(hashes: Hashes, free: NDArray[np.bool_]) -> Hashes:
    """Grams in which a free name counts as the distance to its last use in the gram, 0 at its first (Baker, "A theory
    of parameterized pattern matching", STOC 1993): equal for code that differs by a renaming."""
    distances = np.zeros(len(hashes), np.int64)
    names = np.flatnonzero(free)
    names = names[np.argsort(hashes[names], kind="stable")]
    again = hashes[names[1:]] == hashes[names[:-1]]
    distances[names[1:][again]] = (names[1:] - names[:-1])[again]
    count = max(0, len(hashes) - CODE_NGRAM + 1)
    total = np.zeros(count, np.uint64)
    fixed = np.where(free, np.uint64(0), hashes)
    for offset, factor in enumerate(_factors()):
        window = slice(offset, offset + count)
        near = np.where(distances[window] <= offset, distances[window], 0).astype(np.uint64)
        total += (fixed[window] + near) * factor
    return mixed(total)


@functools.cache
def _factors() -> Hashes:
    return mixed(np.arange(1, CODE_NGRAM + 1, dtype=np.uint64)) | np.uint64(1)


@functools.cache
def _fixed_names() -> Hashes:
    """Hashes, in order, of the names that a renamed program keeps."""
    names = (*keyword.kwlist, *(name for name in dir(builtins) if not name.startswith("_")))
    return np.unique(code_tokens(" ".join(names)).hashes)


def _has_letter(tokens: Tokens) -> NDArray[np.bool_]:
    letters = np.frombuffer(tokens.raw, np.uint8)
    counts = np.concatenate(([0], np.cumsum((letters >= ord("a")) & (letters <= ord("z")))))
    return counts[tokens.ends] > counts[tokens.starts]


def _sums(flags: NDArray[np.bool_], length: int) -> NDArray[np.int64]:
    """Number of flags set in each window; shape: (len(flags) - length + 1,), empty for fewer flags."""
    counts = np.concatenate(([0], np.cumsum(flags)))
    return counts[length:] - counts[: max(0, len(counts) - length)]
