"""Keeps benchmark problems out of the training data: shared 10-grams of words, and functions that bear an entry
point's name.

After Qwen2.5-Coder (10-gram word overlap) and OpenCoder (entry-point names): the union of both. A 10-gram counts only
with five or more words that hold letters, because runs of numbers meet by chance.
"""

import ast
import re
from collections.abc import Iterable, Iterator

from app.records import BenchmarkText

NGRAM = 10
MIN_LETTER_WORDS = 5
_WORD = re.compile(r"\w+")


class Decontaminator:
    """Holds the 10-grams and entry points of the benchmarks; `hit` tells whether a document touches one."""

    def __init__(self, benchmarks: Iterable[BenchmarkText]) -> None:
        self._owner: dict[tuple[str, ...], str] = {}
        self.entry_points: dict[str, str] = {}
        for benchmark in benchmarks:
            self.entry_points.setdefault(benchmark.entry_point, benchmark.problem_id)
            for gram in _grams(words(benchmark.text)):
                self._owner.setdefault(gram, benchmark.problem_id)
        self._vocabulary = {word for gram in self._owner for word in gram}

    def hit(self, text: str, names: Iterable[str]) -> str:
        """Why the document is contaminated; empty when it is not. names: functions it defines at module level."""
        for name in names:
            if name in self.entry_points:
                return f"defines the entry point {name!r} of {self.entry_points[name]}"
        found = words(text)
        # Only a run of 10 words that all occur in a benchmark can hold a shared 10-gram; such runs are rare.
        run = 0
        for end, word in enumerate(found, start=1):
            run = run + 1 if word in self._vocabulary else 0
            if run >= NGRAM and (owner := self._owner.get(tuple(found[end - NGRAM : end]))):
                return f"shares a 10-gram with {owner}: {' '.join(found[end - NGRAM : end])!r}"
        return ""


def defined_names(tree: ast.Module) -> list[str]:
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def words(text: str) -> list[str]:
    """What overlaps are counted in, here and in `app.evaluation.contamination`."""
    return _WORD.findall(text.lower())


def _grams(found: list[str]) -> Iterator[tuple[str, ...]]:
    for start in range(len(found) - NGRAM + 1):
        gram = tuple(found[start : start + NGRAM])
        if sum(any(map(str.isalpha, word)) for word in gram) >= MIN_LETTER_WORDS:
            yield gram
