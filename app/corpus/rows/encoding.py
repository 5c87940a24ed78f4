"""Token ids of the texts of whole shards: gigatoken where it gives the tokenizer's own ids, else the tokenizer itself.

gigatoken 0.10 (Rust, MIT) encodes byte-level BPE at 20 to 160 MB/s a core where `tokenizers` does 2 to 5; it refuses
other kinds, vocabularies that lack single bytes, and digits that are cut apart first. Such bytes (SmolLM2 lacks 21,
control characters) are added under ids of their own, and a text that comes out with one of them goes to the tokenizer.
Where digits are cut apart and no token has two, that matters only to white space before one, so it is cut off here.
`Encoder` holds the two against each other on a text of its own before it trusts the fast one. Limits: special tokens
that take white space beside them along (`lstrip`, `rstrip`) are left to the tokenizer, and with them every text that
may hold special tokens; so are texts with digits that are not ASCII, where digits are cut apart.
"""

import functools
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

BATCH = 512
"""Texts encoded in one call."""
FEW_LETTERS = 2_000_000
"""The tokenizer encodes as many in the second that it takes to make the fast encoder."""
DIGITS_APART = {"type": "Digits", "individual_digits": True}
"""A first step of a tokenizer, as its file has it: SmolLM's."""
DIGIT = re.compile("[0-9]")
BEFORE_DIGIT = re.compile(r"(?<=\s\s)(?=[0-9])")
ODD = ("Nd", "Nl", "No", "Cn")
"""Unicode's kinds of numerals, and of what has no meaning yet."""
Ids = list[int]


class Encoder:
    """The encoder of distinct texts, each either plain (special tokens in it are text) or not. Made by `encoder_of`."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder
        self._special = {token.content: number for number, token in added.items()}
        longest_first = sorted(self._special, key=lambda text: (-len(text), text))
        self._split = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")") if longest_first else None
        self._strips = any(token.lstrip or token.rstrip or token.single_word for token in added.values())
        self._limit = max(tokenizer.get_vocab().values(), default=0)
        self._fast, self._cuts_digits = _fast_encoder(tokenizer, self._limit)
        if self._fast and not self._agrees():
            self._fast = None

    @property
    def is_fast(self) -> bool:
        return self._fast is not None

    def encode(self, pieces: Iterable[tuple[str, bool]]) -> dict[tuple[str, bool], Ids]:
        """Ids of each distinct (text, is_plain)."""
        wanted = list(dict.fromkeys(pieces))
        slow = [
            piece for piece in wanted if not self._fast or (not piece[1] and self._strips) or self._is_odd(piece[0])
        ]
        found = dict(self._slowly(slow))
        fast = [piece for piece in wanted if piece not in found]
        texts = dict.fromkeys(part for piece in fast for part, is_special in self._parts(piece) if not is_special)
        ids_of = self._quickly(list(texts))
        for piece in fast:
            ids: Ids = []
            for part, is_special in self._parts(piece):
                ids += [self._special[part]] if is_special else ids_of[part]
            found[piece] = ids
        return found

    def _is_odd(self, text: str) -> bool:
        """Whether it has, or may have by a later Unicode, digits that are not cut apart here."""
        if not self._cuts_digits or text.isascii():
            return False
        return any(unicodedata.category(letter) in ODD for letter in set(text) if letter > "\x7f")

    def _parts(self, piece: tuple[str, bool]) -> Iterator[tuple[str, bool]]:
        """What is encoded by itself, and whether it is a special token."""
        text, is_plain = piece
        parts = [text] if is_plain or not self._split else self._split.split(text)
        for place, part in enumerate(parts):
            found = BEFORE_DIGIT.split(part) if self._cuts_digits and not place % 2 else [part]
            yield from ((text, place % 2 == 1) for text in found if text)

    def _quickly(self, texts: list[str]) -> dict[str, Ids]:
        found: dict[str, Ids] = {}
        for start in range(0, len(texts), BATCH):
            batch = texts[start : start + BATCH]
            found |= zip(batch, self._fast.encode_batch_list(batch), strict=True)
        odd = [(text, True) for text, ids in found.items() if ids and max(ids) > self._limit]
        return found | {text: ids for (text, _), ids in self._slowly(odd)}

    def _slowly(self, pieces: Sequence[tuple[str, bool]]) -> Iterable[tuple[tuple[str, bool], Ids]]:
        return _by_tokenizer(self._tokenizer, pieces)

    def _agrees(self) -> bool:
        """Whether both give the same ids for what tokenizers differ in."""
        text = (
            Path(__file__).read_text()
            + " \t\n\n   1234567890 3.14e-10 naïve Straße 你好 🙂🏽 a\u0301 \x04\x00 don't I'LL\r\n"
        )
        specials = f"a{' '.join(self._special)}b \n" if not self._strips else "a"
        pieces = [(text, True), (text[:-1], True), (specials, True), (specials, False), ("", True)]
        return self.encode(pieces) == dict(self._slowly(pieces))


class PatientEncoder:
    """As `Encoder`, which it makes when there is enough to encode. Made by `patient_encoder_of`.

    Limit: the tokenizer, which belongs to everybody in the process, is set anew in each call for what special tokens
    are; nobody else may use it in another thread meanwhile."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, self._num_letters = tokenizer, 0

    def encode(self, pieces: Iterable[tuple[str, bool]]) -> dict[tuple[str, bool], Ids]:
        wanted = list(dict.fromkeys(pieces))
        self._num_letters += sum(len(text) for text, _ in wanted)
        if self._num_letters < FEW_LETTERS:
            return dict(_by_tokenizer(self._tokenizer, wanted))
        return encoder_of(self._tokenizer).encode(wanted)


def _by_tokenizer(tokenizer: Any, pieces: Sequence[tuple[str, bool]]) -> Iterable[tuple[tuple[str, bool], Ids]]:
    for is_plain in (False, True):
        chosen = [piece for piece in pieces if piece[1] == is_plain]
        for start in range(0, len(chosen), BATCH):
            batch = chosen[start : start + BATCH]
            encoded = tokenizer(
                [text for text, _ in batch],
                add_special_tokens=False,
                split_special_tokens=is_plain,
                return_attention_mask=False,
            ).input_ids
            yield from zip(batch, encoded, strict=True)


def _fast_encoder(tokenizer: Any, limit: int) -> tuple[Any, bool]:
    """The tokenizer as gigatoken has it, and whether it leaves digits together; None where gigatoken can't take it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None, False
    from gigatoken import Tokenizer
    from tokenizers import Tokenizer as Backend
    from tokenizers.pre_tokenizers import ByteLevel

    fields = json.loads(backend.to_str())
    if fields["model"].get("type") != "BPE" or fields.get("normalizer"):
        return None, False
    steps = (fields["pre_tokenizer"] or {}).get("pretokenizers", [])
    if cuts_digits := len(steps) == 2 and steps[0] == DIGITS_APART:
        if any(len(token) > 1 and DIGIT.search(token) for token in fields["model"]["vocab"]):
            return None, False
        fields["pre_tokenizer"] = steps[1]
    vocabulary = fields["model"]["vocab"]
    missing = sorted(letter for letter in ByteLevel.alphabet() if letter not in vocabulary)
    vocabulary |= {letter: limit + 1 + number for number, letter in enumerate(missing)}
    fields["added_tokens"] = []  # their texts are looked for here
    try:
        return Tokenizer(Backend.from_str(json.dumps(fields))), cuts_digits
    except (RuntimeError, ValueError, TypeError):
        return None, False


@functools.lru_cache(maxsize=4)
def encoder_of(tokenizer: Any) -> Encoder:
    return Encoder(tokenizer)


@functools.lru_cache(maxsize=4)
def patient_encoder_of(tokenizer: Any) -> PatientEncoder:
    return PatientEncoder(tokenizer)
