"""What betrays a benchmark problem, as hashes: made from its text here, looked up by
`app.corpus.clean.decontamination`.

A hash has 48 bits, which keeps the tables that come with the project small: with half a million of them, one of 100,000
files of 5,000 n-grams each is taken for a benchmark by chance. No text comes back out of them.

Ordinary code shares import lines, signatures and their types with many problems, so these are no evidence: an n-gram
needs enough tokens of other kinds (LETTER_WORDS, BODY_TOKENS), and one that is in more than
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

from app.corpus.clean.tokens import Hashes, Tokens, code_tokens, grams, mixed, word_tokens
from app.records import BenchmarkText

NGRAM = 10
LETTER_WORDS = 5
"""Fewest words of an n-gram that have letters and are neither in an import line nor a type in a signature. Runs of
numbers meet by chance."""
OWN_WORDS = 2
"""Fewest of those, and of the words of a piece, that have two letters or more, are neither keyword nor builtin, and in
none of the suite's forms of words (PHRASE). The alphabet and loops over ranges meet by chance."""
CODE_NGRAM = 22
MIN_TELLING = 2
"""Fewest tokens of an n-gram of code that are keywords, builtins or attributes."""
BODY_TOKENS = 14
"""Fewest tokens of an n-gram of code outside import lines and signatures."""
MIN_MARKS, MAX_QUOTES = 6, 4
"""Tokens of an n-gram of code: fewest that are punctuation, which prose has little of, and most that are quotes, which
tables are full of."""
NAME_NGRAM = 5
NAME_BODY = 2
"""Fewest words of such an n-gram outside import lines and signatures."""
PIECE_WORDS = range(6, NGRAM)
PIECE_CHARS = 32
MAX_PROBLEMS = 8
PHRASE, PHRASE_SHARE = 5, 0.05
"""Words in a row that are a suite's form of words where more than this share of its problems have them, and more than
MAX_PROBLEMS."""
SIGNS = ("names", "name_grams", "words", "pieces", "piece_texts", "code")
BITS = np.uint64((1 << 48) - 1)
TYPES = tuple(
    "def class self cls solution int str float bool bytes bytearray complex object none list dict set frozenset tuple "
    "type any optional union iterable iterator sequence mapping callable generator typing t".split()
)
_PIECES = re.compile(r"\n\s*\n|\"\"\"|'''")
_IMPORT = re.compile(r"\s*(?:from|import)\s")
_IMPORTS = re.compile(rb"^[ \t]*(?:from[ \t]+[\w.]+[ \t]+import[ \t]*(?:\([^)]*\)|[^\n]*)|import[ \t][^\n]*)", re.M)
_SIGNATURES = re.compile(rb"\bdef\s+\w+\s*\((?:[^()]|\([^()]*\))*\)\s*(?:->[^:\n]+)?:|\bclass\s+\w+[^:\n]*:")
# Short strings are kept (group 1); docstrings and comments go.
_SHORT = r"(\"(?!\"\")[^\"\\\n]*(?:\\.[^\"\\\n]*)*\"|'(?!'')[^'\\\n]*(?:\\.[^'\\\n]*)*')"
_NO_CODE = re.compile(_SHORT + r"|\"\"\"[\s\S]*?\"\"\"|'''[\s\S]*?'''|#[^\n]*")
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


def signs_of(benchmarks: Iterable[BenchmarkText]) -> list[Signs]:
    """The signs of each problem of one suite. What many of them share is in none."""
    held = list(benchmarks)
    phrases = [np.unique(grams(word_tokens(benchmark.text).hashes, PHRASE)) for benchmark in held]
    values, counts = np.unique(_joined(phrases), return_counts=True)
    forms_of_words = values[counts > max(MAX_PROBLEMS, PHRASE_SHARE * len(held))]
    made = [_signs(benchmark, forms_of_words) for benchmark in held]
    for kind in ("words", "pieces", "piece_texts", "code"):
        values, counts = np.unique(_joined(signs[kind] for signs in made), return_counts=True)
        common = values[counts > MAX_PROBLEMS]
        for signs in made if len(common) else ():
            signs[kind] = np.setdiff1d(signs[kind], common, assume_unique=True)
    return [Signs(label=benchmark.problem_id, **signs) for benchmark, signs in zip(held, made, strict=True)]


def merged(label: str, signs: Sequence[Signs]) -> Signs:
    """The signs of several problems under one label."""
    return Signs(label=label, **{kind: np.unique(_joined(getattr(each, kind) for each in signs)) for kind in SIGNS})


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


def code_grams(text: str) -> Hashes:
    """Grams of the code with its names made one, without those that say little (few keywords, builtins, attributes,
    numbers)."""
    code = _code(text)
    return code.grams[code.says_enough] & BITS


def _signs(benchmark: BenchmarkText, phrases: Hashes) -> dict[str, Hashes]:
    """The signs of one problem. phrases: the suite's forms of words ("complete the following code")."""
    tokens, text, name = word_tokens(benchmark.text), benchmark.text, benchmark.entry_point
    imports, signatures = (_within(pattern, tokens) for pattern in (_IMPORTS, _SIGNATURES))
    types = np.isin(tokens.hashes, _hashes_of(TYPES))
    telling = _has_letters(tokens, 1) & ~imports & ~(signatures & types)
    own = telling & _own(tokens, phrases)
    says_enough = (_sums(telling, NGRAM) >= LETTER_WORDS) & (_sums(own, NGRAM) >= OWN_WORDS)
    words = word_grams(tokens)[says_enough]
    beside = np.zeros(0, np.uint64)
    if name and not is_distinctive(name):
        inside = _sums(~imports & ~signatures, NAME_NGRAM) >= NAME_BODY
        beside = name_grams(tokens, name_hash(name))[inside]
    pieces, piece_texts = [], []
    for piece in _pieces(text):
        found = word_tokens(piece)
        if len(found.hashes) in PIECE_WORDS and _own(found, phrases).sum() >= OWN_WORDS:
            pieces.append(word_grams(found, len(found.hashes))[0])
            piece_texts.append(piece_hash(found, 0, len(found.hashes)))
    return {
        "names": np.array([name_hash(name)] if name else [], np.uint64),
        "name_grams": np.unique(beside),
        "words": np.unique(words),
        "pieces": np.unique(np.array(pieces, np.uint64)),
        "piece_texts": np.unique(np.array(piece_texts, np.uint64)),
        "code": np.unique(_evidence(_code(text))),
    }


def _joined(parts: Iterable[Hashes]) -> Hashes:
    return np.concatenate([np.zeros(0, np.uint64), *parts])


def _pieces(text: str) -> Iterator[str]:
    """Paragraphs and lines long enough to mean something, white space normalised."""
    for piece in dict.fromkeys((*_PIECES.split(text), *text.splitlines())):
        plain = " ".join(piece.split())
        if len(plain) >= PIECE_CHARS and not _IMPORT.match(piece) and not _SIGNATURES.fullmatch(plain.encode()):
            yield plain


def _within(pattern: re.Pattern[bytes], tokens: Tokens) -> NDArray[np.bool_]:
    """Which tokens lie in a match."""
    edges = np.zeros(len(tokens.raw) + 1, np.int64)
    for match in pattern.finditer(tokens.raw):
        edges[match.start()] += 1
        edges[match.end()] -= 1
    return np.cumsum(edges)[tokens.starts] > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Code:
    """The grams of a code's tokens."""

    tokens: Tokens
    grams: Hashes
    says_enough: NDArray[np.bool_]
    """Whether enough of each gram are keywords, builtins or attributes."""


def _code(text: str) -> _Code:
    tokens = code_tokens(_NO_CODE.sub(_short, text))
    if not len(tokens.starts):
        return _Code(tokens=tokens, grams=tokens.hashes, says_enough=np.zeros(0, bool))
    letters = np.frombuffer(tokens.raw, np.uint8)
    before = letters[np.maximum(tokens.starts - 1, 0)]
    is_name = _is_name(letters[tokens.starts])
    kept = _fixed_names()
    places = np.minimum(np.searchsorted(kept, tokens.hashes), len(kept) - 1)
    free = is_name & (before != ord(".")) & (kept[places] != tokens.hashes)
    says_enough = _sums(is_name & ~free, CODE_NGRAM) >= MIN_TELLING
    return _Code(tokens=tokens, grams=_renaming_grams(tokens.hashes, free), says_enough=says_enough)


def _evidence(code: _Code) -> Hashes:
    """The grams that are more than headers and prose."""
    tokens = code.tokens
    if len(tokens.starts) < CODE_NGRAM:
        return np.zeros(0, np.uint64)
    body = _sums(~_within(_IMPORTS, tokens) & ~_within(_SIGNATURES, tokens), CODE_NGRAM)
    first = np.frombuffer(tokens.raw, np.uint8)[tokens.starts]
    is_digit = (first >= ord("0")) & (first <= ord("9"))
    marks = _sums(~_is_name(first) & ~is_digit, CODE_NGRAM)
    quotes = _sums((first == ord('"')) | (first == ord("'")), CODE_NGRAM)
    is_code = (marks >= MIN_MARKS) & (quotes <= MAX_QUOTES)
    return code.grams[code.says_enough & (body >= BODY_TOKENS) & is_code] & BITS


def _is_name(first: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return ((first | 0x20) >= ord("a")) & ((first | 0x20) <= ord("z")) | (first == ord("_"))


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
    return _hashes_of((*keyword.kwlist, *(name for name in dir(builtins) if not name.startswith("_"))))


@functools.cache
def _fixed_words() -> Hashes:
    return _hashes_of(tuple(name.lower() for name in (*keyword.kwlist, *dir(builtins))))


@functools.cache
def _hashes_of(names: tuple[str, ...]) -> Hashes:
    return np.unique(code_tokens(" ".join(names)).hashes)


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


def _sums(flags: NDArray[np.bool_], length: int) -> NDArray[np.int64]:
    """Number of flags set in each window; shape: (len(flags) - length + 1,), empty for fewer flags."""
    counts = np.concatenate(([0], np.cumsum(flags)))
    return counts[length:] - counts[: max(0, len(counts) - length)]
