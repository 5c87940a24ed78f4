"""The guard that keeps benchmark problems out of the training data: the union of four signs, each found by hashed
n-grams.

- "exact": a paragraph or line of a problem, of 6 to 9 words and 32 characters or more, white space and case normalised
  (StarCoder, arXiv 2305.06161, searched for docstrings and solutions; longer ones are found by the next sign);
- "10-gram": ten words in a row (Qwen2.5-Coder, OpenCoder);
- "renamed": 22 tokens of code in a row that differ by a consistent renaming only, comments and docstrings left out: a
  solution with renamed variables;
- "entry point": a function of the same name (OpenCoder). A name of one word ("add", "solve", "encode") is anybody's: it
  counts only with five words in a row of its problem.

Measured with nine suites (5,400 problems). False alarms: 48 of 4,000 files of installed packages, 38 of them renamed;
20 of their 6,916 documented functions, 15 renamed and 5 entry points. Found with every name changed and the docstring
gone: 128 of 164 HumanEval solutions, 291 of 500 of MBPP, 173 of 200 of LeetCode; the others are mostly shorter than 22
tokens. Prompts of MBPP in a docstring: all. Speed: 10 MB/s of files on one core.

`app.corpus.clean.signs` makes the hashes and says which n-grams are evidence.

Use: a clean file holds no contaminated function, so `hit` is asked of the file with all its names first, and of the
functions only where the file is hit.
"""

import ast
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.corpus.clean.signs import (
    NGRAM,
    PIECE_WORDS,
    SIGNS,
    Signs,
    code_grams,
    is_distinctive,
    name_grams,
    name_hash,
    piece_hash,
    signs_of,
    word_grams,
)
from app.corpus.clean.tokens import Hashes, Tokens, word_tokens
from app.records import BenchmarkText

ENTRY_POINT, EXACT, WORDS, RENAMED = "entry point", "exact", "10-gram", "renamed"
_WORD = re.compile(r"\w+")


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
        likely = np.flatnonzero(self.sieve[(hashes & np.uint64(len(self.sieve) - 1)).astype(np.int64)])
        if not len(likely):
            return likely
        places = np.minimum(np.searchsorted(self.hashes, hashes[likely]), len(self.hashes) - 1)
        return likely[self.hashes[places] == hashes[likely]]

    def owner(self, value: np.uint64) -> int:
        return int(self.owners[np.searchsorted(self.hashes, value)])


class Decontaminator:
    """The benchmarks, of which `hit` tells whether a document touches one. Made for each worker; thread-safe."""

    def __init__(self, benchmarks: Iterable[BenchmarkText] = (), signs: Sequence[Signs] = ()) -> None:
        """Take the problems of one suite, and signs of others that were made before."""
        held = [*signs_of(benchmarks), *signs]
        self._labels = [signs.label for signs in held]
        self._names, self._name_grams, self._words, self._pieces, self._piece_texts, self._code = (
            _Index.of([getattr(signs, kind) for signs in held]) for kind in SIGNS
        )

    def hit(self, text: str, names: Iterable[str], *, renamed: bool = True) -> str:
        """Why the document is contaminated, as "kind: detail"; empty when it is not. names: functions it defines.
        renamed: look for that sign too, which most solutions of short exercises have in common."""
        tokens = word_tokens(text)
        found = self._name(tokens, names) or self._run_of_words(tokens) or self._piece(tokens)
        return found or (self._renamed(text) if renamed else "")

    def repeats(self, text: str, code: str, name: str) -> bool:
        """Whether a problem that was written for the same readers as these is one of them: its function's name is one
        of theirs, or half of its runs of words or of its code's is. One sign, which `hit` goes by, says little here:
        problems of one source share forms of words and the beginnings of solutions. text: statement and solution."""
        tokens = word_tokens(text)
        shares = [(self._words, word_grams(tokens)), (self._code, code_grams(code))]
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

    def _run_of_words(self, tokens: Tokens) -> str:
        runs = word_grams(tokens)
        for place in self._words.found(runs)[:1]:
            shown = _shown(tokens, place, NGRAM)
            return f"{WORDS}: shares {shown!r} with {self._label(self._words, runs[place])}"
        return ""

    def _piece(self, tokens: Tokens) -> str:
        for count in PIECE_WORDS:
            for place in self._pieces.found(word_grams(tokens, count)):
                value = piece_hash(tokens, place, count)
                if len(self._piece_texts.found(np.array([value]))):
                    shown = _shown(tokens, place, count)
                    return f"{EXACT}: holds {shown!r} of {self._label(self._piece_texts, value)}"
        return ""

    def _renamed(self, text: str) -> str:
        runs = code_grams(text)
        for place in self._code.found(runs)[:1]:
            return f"{RENAMED}: the code of {self._label(self._code, runs[place])} under other names"
        return ""

    def _label(self, index: _Index, value: np.uint64) -> str:
        return self._labels[index.owner(value)]


def defined_names(tree: ast.Module) -> list[str]:
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def words(text: str) -> list[str]:
    """The words in which `app.evaluation.contamination` counts overlaps."""
    return _WORD.findall(text.lower())


def _shown(tokens: Tokens, place: int, count: int) -> str:
    return " ".join(tokens.raw[tokens.starts[place] : tokens.ends[place + count - 1]].decode().split())
