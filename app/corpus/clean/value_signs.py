"""Grams of the values that a program holds: the inputs and answers of a benchmark's tests, in whatever form they are
listed.

Values are the tokens that begin with a digit and the first and last words of strings, in the order of the text. Names,
brackets and True, False and None are none, so that assertions, a table, arguments of `parametrize` and JSON have the
same values.
"""

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from app.corpus.clean.tokens import Hashes, Tokens, grams, word_tokens

INPUT_VALUES = (3, 8)
"""Values in a row of one input: few where they are long ones, else more."""
CONSTANT_LETTERS = 6
"""Characters of a value that counts by itself."""
RUN_VALUES = 10
"""Values in a row over several inputs and answers."""
INPUT_DIFFERENT, RUN_DIFFERENT = (3, 4), 5
"""Fewest values of such a gram that differ from each other."""
INPUT_LETTERS, RUN_LETTERS = 8, 14
"""Fewest characters of its values. Small numbers in a row meet by chance."""
MAX_INPUTS, MAX_CHARS = 128, 2000
"""Inputs of a problem that are kept, those of the lowest hashes, and characters of each that are looked at."""


def values_of(tokens: Tokens) -> NDArray[np.int64]:
    """Which of the tokens are values, by their places."""
    raw = np.frombuffer(b" " + tokens.raw + b" ", np.uint8)
    if not len(tokens.starts):
        return np.zeros(0, np.int64)
    first, before, after = (raw[places] for places in (tokens.starts + 1, tokens.starts, tokens.ends + 1))
    is_number = (first >= ord("0")) & (first <= ord("9"))
    return np.flatnonzero(is_number | is_quote(before) | is_quote(after))


def is_quote(letters: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return (letters == ord('"')) | (letters == ord("'"))


def value_grams(tokens: Tokens, values: NDArray[np.int64], length: int) -> Hashes:
    """Grams of values of a text that is looked up."""
    return grams(tokens.hashes[values], length)


def input_evidence(inputs: Sequence[str]) -> tuple[Hashes, Hashes]:
    """A gram of each input that has one, and a constant of each that has one: the least hash of its own, and of many
    inputs the MAX_INPUTS lowest."""
    tokens = word_tokens("\n".join(" ".join(text[:MAX_CHARS].split()) for text in inputs))
    values = values_of(tokens)
    ends = np.flatnonzero(np.frombuffer(tokens.raw, np.uint8) == ord("\n"))
    owners = np.searchsorted(ends, tokens.starts[values])
    found, found_of = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for length, different in zip(INPUT_VALUES, INPUT_DIFFERENT, strict=True):
        last = np.arange(len(values))[length - 1 :]
        is_one = (owners[last - length + 1] == owners[last]) & ~np.isin(owners[last], np.concatenate(found_of))
        telling = np.flatnonzero(_tells(tokens, values, length, different, INPUT_LETTERS) & is_one)
        found.append(value_grams(tokens, values, length)[telling])
        found_of.append(owners[telling])
    long = np.flatnonzero((tokens.ends - tokens.starts)[values] >= CONSTANT_LETTERS)
    constants = _one_each(value_grams(tokens, values, 1)[long], owners[long])
    return _one_each(np.concatenate(found), np.concatenate(found_of)), constants


def _one_each(found: Hashes, owners: NDArray[np.int64]) -> Hashes:
    order = np.lexsort((found, owners))
    _, first = np.unique(owners[order], return_index=True)
    return np.unique(found[order][first])[:MAX_INPUTS]


def run_evidence(text: str) -> Hashes:
    """Runs of values over the inputs and answers of tests, that are more than small numbers."""
    tokens = word_tokens(text)
    values = values_of(tokens)
    telling = _tells(tokens, values, RUN_VALUES, RUN_DIFFERENT, RUN_LETTERS)
    return np.unique(value_grams(tokens, values, RUN_VALUES)[telling])


def _tells(tokens: Tokens, values: NDArray[np.int64], length: int, different: int, letters: int) -> NDArray[np.bool_]:
    """For each gram, whether it can identify a test. It needs `different` different values and `letters` characters;
    rising numbers, and numbers at equal steps, are in too many texts."""
    if len(values) < length:
        return np.zeros(0, bool)
    held = np.sort(sliding_window_view(tokens.hashes[values], length), axis=1)
    words = [tokens.raw[start:end] for start, end in zip(tokens.starts[values], tokens.ends[values], strict=True)]
    numbers = np.array([float(word) if word.isdigit() else np.nan for word in words])
    steps = np.diff(sliding_window_view(numbers, length), axis=1)
    is_row = (steps == steps[:, :1]).all(axis=1) | (steps > 0).all(axis=1)
    sizes = sliding_window_view((tokens.ends - tokens.starts)[values], length).sum(axis=1)
    return (sizes >= letters) & ((np.diff(held, axis=1) != 0).sum(axis=1) >= different - 1) & ~is_row
