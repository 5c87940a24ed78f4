"""What a text hides: programs encoded in strings, strings in pieces, letters that only look like others.

`revealed` gives the texts that a reader with the key would see, for the guard to look at. Each is undone once: a string
that was encoded twice is not found, but for what was compressed first. Not undone: base85, ciphers other than rot13,
encryption, what a program computes when it runs.

Each looks for a sign first that is cheap to look for, so that ordinary files cost little.
"""

import base64
import binascii
import bz2
import codecs
import lzma
import re
import unicodedata
import zlib
from collections.abc import Iterator

import numpy as np

from app.corpus.clean.tokens import Tokens
from app.corpus.clean.value_signs import is_quote

MAX_REVEALED = 1 << 20
"""Bytes that are decoded and unpacked of one text, at most."""
MAX_MEMORY = 64 << 20
"""Bytes for an xz file's window, which it may ask for 4 GiB of."""
MIN_ENCODED, MIN_WORD = 40, 32
"""Shortest run of base64 or hexadecimal digits, and of letters and digits in it."""
MIN_PIECES, MIN_ESCAPES, MIN_LINES = 3, 20, 2
"""Fewest pieces of a word apart, escaped letters, and escaped line ends before an indentation, to look at."""
ROOM = 2000
"""Characters that are looked at before and after such places."""
MAX_STRANGE = 0.1
"""Share of bytes of a text that are no ASCII text."""
_TEXT = bytes([*range(32, 127), *b"\t\n\r"])
_RUN = r"[A-Za-z0-9+/_-]"
_BETWEEN = r"(?:[\"'\s\\,()]|b(?=[\"']))*"
_ENCODED = re.compile(
    rf"{_RUN}{{{MIN_ENCODED},}}={{0,2}}(?:{_BETWEEN}{_RUN}{{20,}}={{0,2}})*(?:{_BETWEEN}{_RUN}+={{0,2}}(?=\s*[\"']))?"
)
_NOT_ENCODED = re.compile(r"[^A-Za-z0-9+/_=-]|(?<=[\s(])b(?=[\"'])")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})+")
_ROT13 = ("erghea", "shapgvba", " gur ")
"""return, function, the."""
_PIECE = re.compile(r"(?<=\w)[\"']\s*(?:\+\s*)?(?:\\\n\s*)?[rbufRBUF]?[\"'](?=\w)")
_LISTED = re.compile(r"(?:\"\"|'')\.join\(\s*[\[(]")
_LISTED_PIECE = re.compile(r"(?<=\w)[\"'],\s*[\"'](?=\w)")
_SEAM = re.compile(r"[\"']\s*(?:\+\s*)?(?:\\\n\s*)?[rbufRBUF]?[\"']")
_LISTED_SEAM = re.compile(r"[\"'],\s*[\"']")
_ESCAPE = re.compile(r"\\(?:x|u00)([2-7][0-9a-fA-F]|0[9aAdD])")
_INDENTED = "\\n  "
_LINE_END = re.compile(r"\\n")
_DIGIT = re.compile(rb"[0-9]")
_MAY_FOLLOW = np.zeros(256, bool)
_MAY_FOLLOW[list(b"+ \n\"'\\")] = True
"""Characters after a string that goes on in another one."""
_ZERO_WIDTH = dict.fromkeys(
    map(ord, "\u00ad\u034f\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u2060\u2061\u2062\u2063\ufeff")
)
_LOOK_ALIKES = str.maketrans(
    "асԁеһіјӏорԛѕхуԝАВСЕНІЈКМОРЅТХҮΑΒΕΖΗΙΚΜΝΟΡΤΥΧαινορυχ",
    "acdehijlopqsxywABCEHIJKMOPSTXYABEZHIKMNOPTYXaivopux",
)
"""Cyrillic and Greek letters that look like Latin ones (Unicode's confusables, UTS 39)."""
_STRANGE = re.compile(
    "[\u00ad\u0370-\u052f\u200b-\u200f\u2060-\u2063\ufeff\uff21-\uff5a\U0001d400-\U0001d6a5]"
    "(?:(?<=[A-Za-z].)|(?<=[\uff21-\uff5a\U0001d400-\U0001d6a5]{2})|(?<=[\u0370-\u052f])(?=[A-Za-z]))"
)


def revealed(text: str, tokens: Tokens) -> Iterator[tuple[str, str]]:
    """How each was hidden, and the text. tokens: the words of the text."""
    if not text.isascii() and _STRANGE.search(text):
        yield "under other characters", plain(text)
    if decoded := "\n".join(_decoded(_around_digits(text, tokens))):
        yield "encoded", decoded
    if any(sign in text for sign in _ROT13):
        yield "in rot13", codecs.encode(_unescaped(text), "rot13")
    if _in_pieces(tokens) >= MIN_PIECES and (held := _around(_PIECE, text, MIN_PIECES)):
        yield "in pieces", _unescaped(_SEAM.sub("", held))
    if (".join([" in text or ".join((" in text) and _LISTED.search(text):
        yield "in pieces", _unescaped(_SEAM.sub("", _LISTED_SEAM.sub("", _around(_LISTED_PIECE, text, MIN_PIECES))))
    if text.count("\\x") + text.count("\\u00") >= MIN_ESCAPES and (held := _around(_ESCAPE, text, MIN_ESCAPES)):
        yield "escaped", _SEAM.sub("", _ESCAPE.sub(lambda found: chr(int(found[1], 16)), held))
    elif text.count(_INDENTED) >= MIN_LINES:
        yield "in one string", _unescaped(_around(_LINE_END, text, MIN_LINES))


def plain(text: str) -> str:
    """The text in the letters that a reader takes it for."""
    return unicodedata.normalize("NFKC", text.translate(_ZERO_WIDTH)).translate(_LOOK_ALIKES)


def _around_digits(text: str, tokens: Tokens) -> str:
    """What lies from the first to the last long word that looks like digits of base64 or of hexadecimal numbers, and
    some more; empty where there is none."""
    found = []
    for place in np.flatnonzero(tokens.ends - tokens.starts >= MIN_WORD).tolist():
        word = tokens.raw[tokens.starts[place] : tokens.ends[place]]
        if word.count(b"_") * 8 < len(word) and _DIGIT.search(word):
            found.append(int(tokens.starts[place]))
    if not found or not text.isascii():  # else the words lie elsewhere in the text than among the tokens
        return text if found else ""
    return text[max(0, found[0] - ROOM) : found[-1] + ROOM]


def _in_pieces(tokens: Tokens) -> int:
    """How many words are followed by another in a string beside theirs, with no comma between."""
    raw = np.frombuffer(b" " + tokens.raw + b"  ", np.uint8)
    ends, starts = tokens.ends[:-1] + 1, tokens.starts[1:]
    apart = np.flatnonzero(is_quote(raw[ends]) & is_quote(raw[starts]) & (starts > ends))
    return int(_MAY_FOLLOW[raw[ends[apart] + 1]].sum())


def _around(pattern: re.Pattern[str], text: str, least: int) -> str:
    """What lies from the first to the last match, and some more; empty for fewer than `least`."""
    found = [match.start() for match in pattern.finditer(text)]
    return text[max(0, found[0] - ROOM) : found[-1] + ROOM] if len(found) >= least else ""


def _unescaped(text: str) -> str:
    return text.replace("\\n", "\n").replace("\\t", "\t").replace('\\"', '"').replace("\\'", "'")


def _decoded(text: str) -> Iterator[str]:
    """What strings of base64 and hexadecimal digits hold, if it is text."""
    room = MAX_REVEALED
    for found in _ENCODED.finditer(text):
        if room <= 0:
            return
        run = _NOT_ENCODED.sub("", found[0]).partition("=")[0]
        try:
            raw = _unpacked(bytes.fromhex(run) if _HEX.fullmatch(run) else _of_base64(run), room)[:room]
        except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):
            continue
        room -= len(raw)
        if len(raw.translate(None, _TEXT)) <= MAX_STRANGE * len(raw) and b" " in raw:
            yield raw.decode("ascii", "replace")


def _of_base64(run: str) -> bytes:
    run = run.replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(run[: len(run) - (len(run) % 4 == 1)] + "=" * (-len(run) % 4))
    except binascii.Error:
        return b""


def _unpacked(raw: bytes, room: int) -> bytes:
    """What was compressed, at most `room` bytes of it; bytes that were not compressed as they are."""
    if raw[:2] == b"\x1f\x8b":
        return zlib.decompressobj(31).decompress(raw, room)
    if raw[:1] == b"\x78":
        return zlib.decompressobj().decompress(raw, room)
    if raw[:3] == b"BZh":
        return bz2.BZ2Decompressor().decompress(raw, room)
    if raw[:6] == b"\xfd7zXZ\x00":
        return lzma.LZMADecompressor(memlimit=MAX_MEMORY).decompress(raw, room)
    return raw
