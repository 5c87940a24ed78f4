"""What betrays a benchmark problem, as hashes: made from its text here, looked up by
`app.corpus.clean.decontamination`.

A hash has 48 bits, which keeps the tables that come with the project small: with half a million of them, one of 100,000
files of 5,000 n-grams each is taken for a benchmark by chance. The grams of OWNED, of which one says nothing, have 32
bits. No text comes back out of them.

Ordinary code shares import lines, signatures and their types with many problems, so these are no evidence: an n-gram
needs enough tokens of other kinds (LETTER_WORDS, `code_signs.BODY_TOKENS`), and one that is in more than
MAX_PROBLEMS problems of a suite is left out. This is decided here alone: a document is looked up with all its n-grams.
"""

import builtins
import functools
import hashlib
import keyword
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.corpus.clean.code_signs import (
    IMPORTS,
    SIGNATURES,
    code_evidence,
    code_of,
    hashes_of,
    part_evidence,
    sums,
    within,
)
from app.corpus.clean.tokens import Hashes, Tokens, grams, mixed, word_tokens
from app.corpus.clean.value_signs import input_evidence, run_evidence
from app.records import BenchmarkText

NGRAM = 10
LETTER_WORDS = 5
"""Fewest words of an n-gram that have letters and are neither in an import line nor a type in a signature. Runs of
numbers meet by chance."""
OWN_WORDS = 2
"""Fewest of those, and of the words of a piece, that have two letters or more, are neither keyword nor builtin, and in
none of the suite's forms of words (PHRASE). The alphabet and loops over ranges meet by chance."""
NAME_NGRAM = 5
NAME_BODY = 2
"""Fewest words of such an n-gram outside import lines and signatures."""
PIECE_WORDS = range(6, NGRAM)
PIECE_CHARS = 32
MAX_PROBLEMS, MAX_OF_PARTS = 8, 5
PHRASE, PHRASE_SHARE = 5, 0.05
"""Words in a row that are a suite's form of words where more than this share of its problems have them, and more than
MAX_PROBLEMS."""
OWNED = ("parts", "inputs", "constants")
"""Signs that count together: each hash carries the number of its problem in the suite, above its own 32 bits."""
SIGNS = ("names", "name_grams", "words", "pieces", "piece_texts", "code", "value_runs", *OWNED)
BITS, OWNED_BITS, OWNER_SHIFT = np.uint64((1 << 48) - 1), np.uint64((1 << 32) - 1), np.uint64(32)
TYPES = tuple(
    "def class self cls solution int str float bool bytes bytearray complex object none list dict set frozenset tuple "
    "type any optional union iterable iterator sequence mapping callable generator typing t".split()
)
_PIECES = re.compile(r"\n\s*\n|\"\"\"|'''")
_IMPORT = re.compile(r"\s*(?:from|import)\s")
_DISTINCTIVE = re.compile(r"[^_]_+[^_]|[a-z][A-Z]")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Signs:
    """The hashes of one problem, or of a whole suite; each array in order, without doubles. Made by `signs_of` and read
    from files by `app.corpus.clean.guard`; looked up by the decontaminator."""

    label: str
    """The problem's id, or the suite's name."""
    names: Hashes
    """Hashes of entry points."""
    name_grams: Hashes
    """`NAME_NGRAM` words in a row, each mixed with the name that it goes with; of names of one word only."""
    words: Hashes
    """`NGRAM` words in a row."""
    pieces: Hashes
    """All words of a short paragraph or line."""
    piece_texts: Hashes
    """Hashes of the text of such a piece, punctuation included (`piece_hash`)."""
    code: Hashes
    """`CODE_NGRAM` tokens of code in a row, names made one."""
    value_runs: Hashes
    """`RUN_VALUES` values of the tests in a row (`app.corpus.clean.value_signs`)."""
    parts: Hashes
    """`PART_NGRAM` tokens of the solution in a row, names made one, with the problem's number."""
    inputs: Hashes
    """Values in a row of an input (INPUT_VALUES), one gram for each input, with the problem's number."""
    constants: Hashes
    """Single values of the inputs, one for each input, with the problem's number."""


def signs_of(benchmarks: Iterable[BenchmarkText]) -> list[Signs]:
    """The signs of each problem of one suite, made once in a process. What many of them share is in none."""
    return list(_signs_of(tuple(benchmarks)))


@functools.lru_cache(maxsize=16)
def _signs_of(held: tuple[BenchmarkText, ...]) -> tuple[Signs, ...]:
    phrases = [np.unique(grams(word_tokens(benchmark.text).hashes, PHRASE)) for benchmark in held]
    values, counts = np.unique(_joined(phrases), return_counts=True)
    forms_of_words = values[counts > max(MAX_PROBLEMS, PHRASE_SHARE * len(held))]
    made = [_signs(benchmark, forms_of_words) for benchmark in held]
    for kind in SIGNS[2:]:
        values, counts = np.unique(_joined(signs[kind] for signs in made), return_counts=True)
        common = values[counts > (MAX_OF_PARTS if kind == "parts" else MAX_PROBLEMS)]
        for signs in made if len(common) else ():
            signs[kind] = np.setdiff1d(signs[kind], common, assume_unique=True)
    for array in (array for signs in made for array in signs.values()):
        array.flags.writeable = False  # everybody has the same
    return tuple(Signs(label=benchmark.problem_id, **signs) for benchmark, signs in zip(held, made, strict=True))


def merged(label: str, signs: Sequence[Signs]) -> Signs:
    """The signs of several problems under one label."""
    held = {kind: [getattr(each, kind) for each in signs] for kind in SIGNS}
    for kind in OWNED:
        held[kind] = [part | np.uint64(number) << OWNER_SHIFT for number, part in enumerate(held[kind])]
    return Signs(label=label, **{kind: np.unique(_joined(parts)) for kind, parts in held.items()})


def is_distinctive(name: str) -> bool:
    """Whether a name has two words or more: has_close_elements, twoSum."""
    return bool(_DISTINCTIVE.search(name))


def name_hash(name: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.sha256(name.encode("utf-8", "replace")).digest()[:6], "big"))


def name_grams(tokens: Tokens, name: np.uint64) -> Hashes:
    """Hashes of `NAME_NGRAM` words in a row, each mixed with the hash of a name."""
    return mixed(grams(tokens.hashes, NAME_NGRAM) + name) & BITS


def word_grams(tokens: Tokens, length: int = NGRAM) -> Hashes:
    return grams(tokens.hashes, length) & BITS


def piece_hash(tokens: Tokens, place: int, words: int) -> np.uint64:
    """Hash of the text from the first to the last of these words: lower case, white space normalised."""
    text = b" ".join(tokens.raw[tokens.starts[place] : tokens.ends[place + words - 1]].split())
    return np.uint64(int.from_bytes(hashlib.sha256(text).digest()[:6], "big"))


def _signs(benchmark: BenchmarkText, phrases: Hashes) -> dict[str, Hashes]:
    """The signs of one problem. phrases: the suite's forms of words ("complete the following code")."""
    tokens, text, name = word_tokens(benchmark.text), benchmark.text, benchmark.entry_point
    imports, signatures = (within(pattern, tokens) for pattern in (IMPORTS, SIGNATURES))
    types = np.isin(tokens.hashes, hashes_of(TYPES))
    telling = _has_letters(tokens, 1) & ~imports & ~(signatures & types)
    own = telling & _own(tokens, phrases)
    says_enough = (sums(telling, NGRAM) >= LETTER_WORDS) & (sums(own, NGRAM) >= OWN_WORDS)
    words = word_grams(tokens)[says_enough]
    beside = np.zeros(0, np.uint64)
    if name and not is_distinctive(name):
        inside = sums(~imports & ~signatures, NAME_NGRAM) >= NAME_BODY
        beside = name_grams(tokens, name_hash(name))[inside]
    pieces, piece_texts = [], []
    for piece in _pieces(text):
        found = word_tokens(piece)
        if len(found.hashes) in PIECE_WORDS and _own(found, phrases).sum() >= OWN_WORDS:
            pieces.append(word_grams(found, len(found.hashes))[0])
            piece_texts.append(piece_hash(found, 0, len(found.hashes)))
    inputs, constants = input_evidence([*benchmark.tests.splitlines(), *benchmark.inputs])
    return {
        "names": np.array([name_hash(name)] if name else [], np.uint64),
        "name_grams": np.unique(beside),
        "words": np.unique(words),
        "pieces": np.unique(np.array(pieces, np.uint64)),
        "piece_texts": np.unique(np.array(piece_texts, np.uint64)),
        "code": np.unique(code_evidence(code_of(text)) & BITS),
        "value_runs": run_evidence(benchmark.tests) & BITS,
        "parts": np.unique(part_evidence(code_of(benchmark.solution)) & OWNED_BITS),
        "inputs": np.unique(inputs & OWNED_BITS),
        "constants": np.unique(constants & OWNED_BITS),
    }


def _joined(parts: Iterable[Hashes]) -> Hashes:
    return np.concatenate([np.zeros(0, np.uint64), *parts])


def _pieces(text: str) -> Iterator[str]:
    """Paragraphs and lines long enough to mean something, white space normalised."""
    for piece in dict.fromkeys((*_PIECES.split(text), *text.splitlines())):
        plain = " ".join(piece.split())
        if len(plain) >= PIECE_CHARS and not _IMPORT.match(piece) and not SIGNATURES.fullmatch(plain.encode()):
            yield plain


@functools.cache
def _fixed_words() -> Hashes:
    return hashes_of(tuple(name.lower() for name in (*keyword.kwlist, *dir(builtins))))


def _own(tokens: Tokens, phrases: Hashes) -> NDArray[np.bool_]:
    """Which words say something of the problem: long enough, neither Python's nor in one of the phrases."""
    covered = np.zeros(len(tokens.hashes), bool)
    for place in np.flatnonzero(np.isin(grams(tokens.hashes, PHRASE), phrases)):
        covered[place : place + PHRASE] = True
    return _has_letters(tokens, 2) & ~np.isin(tokens.hashes, _fixed_words()) & ~covered


def _has_letters(tokens: Tokens, least: int) -> NDArray[np.bool_]:
    letters = np.frombuffer(tokens.raw, np.uint8)
    counts = np.concatenate(([0], np.cumsum((letters >= ord("a")) & (letters <= ord("z")))))
    return counts[tokens.ends] > counts[tokens.starts] + least - 1
