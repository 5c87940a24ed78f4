"""Token ids of the texts of whole shards: gigatoken where it gives the tokenizer's own ids, else the tokenizer itself.

gigatoken 0.10 (Rust, MIT) encodes byte-level BPE at 20 to 160 MB/s a core where `tokenizers` does 2 to 5; it refuses
other kinds, and vocabularies that lack single bytes. Such bytes (SmolLM2 lacks 21, control characters) are added under
ids of their own, and a text that comes out with one of them goes to the tokenizer. `Encoder` holds the two against each
other on a text of its own before it trusts the fast one. Limits: special tokens that take white space beside them along
(`lstrip`, `rstrip`) are left to the tokenizer, and with them every text that may hold special tokens.
"""

import functools
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

BATCH = 512
"""Texts encoded in one call."""
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
        self._fast = _fast_encoder(tokenizer, self._limit)
        if self._fast and not self._agrees():
            self._fast = None

    @property
    def is_fast(self) -> bool:
        return self._fast is not None

    def encode(self, pieces: Iterable[tuple[str, bool]]) -> dict[tuple[str, bool], Ids]:
        """Ids of each distinct (text, is_plain)."""
        wanted = list(dict.fromkeys(pieces))
        slow = [piece for piece in wanted if not self._fast or (not piece[1] and self._strips)]
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

    def _parts(self, piece: tuple[str, bool]) -> list[tuple[str, bool]]:
        text, is_plain = piece
        if is_plain or not self._split:
            return [(text, False)] if text else []
        return [(part, place % 2 == 1) for place, part in enumerate(self._split.split(text)) if part]

    def _quickly(self, texts: list[str]) -> dict[str, Ids]:
        found: dict[str, Ids] = {}
        for start in range(0, len(texts), BATCH):
            batch = texts[start : start + BATCH]
            found |= zip(batch, self._fast.encode_batch_list(batch), strict=True)
        odd = [(text, True) for text, ids in found.items() if ids and max(ids) > self._limit]
        return found | {text: ids for (text, _), ids in self._slowly(odd)}

    def _slowly(self, pieces: Sequence[tuple[str, bool]]) -> Iterable[tuple[tuple[str, bool], Ids]]:
        for is_plain in (False, True):
            chosen = [piece for piece in pieces if piece[1] == is_plain]
            for start in range(0, len(chosen), BATCH):
                batch = chosen[start : start + BATCH]
                encoded = self._tokenizer(
                    [text for text, _ in batch],
                    add_special_tokens=False,
                    split_special_tokens=is_plain,
                    return_attention_mask=False,
                ).input_ids
                yield from zip(batch, encoded, strict=True)

    def _agrees(self) -> bool:
        """Whether both give the same ids for what tokenizers differ in."""
        text = (
            Path(__file__).read_text()
            + " \t\n\n   1234567890 3.14e-10 naïve Straße 你好 🙂🏽 a\u0301 \x04\x00 don't I'LL\r\n"
        )
        specials = f"a{' '.join(self._special)}b \n" if not self._strips else "a"
        pieces = [(text, True), (text[:-1], True), (specials, True), (specials, False), ("", True)]
        return self.encode(pieces) == dict(self._slowly(pieces))


def _fast_encoder(tokenizer: Any, limit: int) -> Any:
    """The tokenizer as gigatoken has it; None where gigatoken can't take it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    from gigatoken import Tokenizer
    from tokenizers import Tokenizer as Backend
    from tokenizers.pre_tokenizers import ByteLevel

    fields = json.loads(backend.to_str())
    if fields["model"].get("type") != "BPE" or fields.get("normalizer"):
        return None
    vocabulary = fields["model"]["vocab"]
    missing = sorted(letter for letter in ByteLevel.alphabet() if letter not in vocabulary)
    vocabulary |= {letter: limit + 1 + number for number, letter in enumerate(missing)}
    fields["added_tokens"] = []  # their texts are looked for here
    try:
        return Tokenizer(Backend.from_str(json.dumps(fields)))
    except (RuntimeError, ValueError, TypeError):
        return None


@functools.lru_cache(maxsize=4)
def encoder_of(tokenizer: Any) -> Encoder:
    return Encoder(tokenizer)
