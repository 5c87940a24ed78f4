"""Which value of a string may be a password or a key, and which is a word, a placeholder or a name.

Passwords are told by the kinds of characters that they mix, keys by digits and letters mixed as no person writes them.
"""

import math
import re
from collections import Counter

_MIN_ENTROPY = 3.7
"""Bits a character; words and identifiers lie below 3.5, base64 of 24 random characters and more above it."""
_HEX = re.compile(r"(?:0x)?[0-9a-fA-F]{16,}")
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_KEY = re.compile(r"[\w+/=.~:!@#$%^&*()|?,-]{16,2000}")
_SHOWN = re.compile(
    r"(?i)example|placeholder|change[-_ ]?(?:me|this|it)|"
    r"redacted|x{4,}|^\*+$|\*{4,}|\.{3}|your|dummy|<|>|…|insert|replace"
)
_SHOWN_WORDS = re.compile(
    r"(?i)passwords?|passwd|passphrase|passcode|pass|pwd|pw|words?|secrets?|token|keys?|auth|api|access|private|public|"
    r"user(?:name)?|admin|root|login|account|name|client|server|default|sample|test(?:ing)?|demo|fake|mock|some|super|"
    r"my|the|new|old|this|that|is|not|a|an|foo|bar|baz|qux|abc|xyz|qwerty|bearer|basic|hash|value|string|field|\d+|[\W_]"
)
"""Words of which a placeholder is made, as in `my_secret_token_2`."""
_TEMPLATE = re.compile(
    r"\{[^}]*\}|%\(|(?<!\w)%[sdr](?!\w)|\$\{|\$\(|^\$[A-Za-z_]+$|^%\w+%$|^[@#][A-Za-z_]+$|\\x|\\u|//"
)
_TECHNICAL = re.compile(
    r"(?i)(?:sha|md|utf|base|oauth|pbkdf|argon|bcrypt|scrypt|x|rsa|aes|hs|rs|es|ps|ed|http|ipv?|v|p|k|f|i|fp|bf|int|uint|float|"
    r"gpt|llama|qwen|win|python|py|mp|h)[-_]?\d{1,4}(?:[-_.+/][a-z\d]{1,8}){0,4}"
)
"""Names of methods and versions, as `pbkdf2_sha256`."""
_WORD = re.compile(r"(?:[A-Z]{2,}|[A-Z]?[a-z]{2,})(?:[A-Z][a-z]+)*(?:\d{1,2}[a-z]{0,4})?|[A-Za-z]|\d+")
_SEPARATORS = re.compile(r"[-._/:=+ ,&|]+")
_RUN = re.compile(r"(.)\1{4,}")
_SERIES = ("0123456789", "1234567890", "abcdefgh", "9876543210", "deadbeef", "qwertyui", "aabbccdd", "11223344")
_SIGNS = frozenset("!@#$%^&*+?=~;§€£")
_TITLE = re.compile(r"[A-Z][a-z]{2,}")
_CAMEL = re.compile(r"[A-Z]?[a-z]{3,}")
_GMAIL = re.compile(r"[a-z]{4}(?: [a-z]{4}){3}")
"""A Google account's password for an application, as Google shows it."""
_PHRASE = re.compile(r"[a-z]{3,10}(?:[ -][a-z]{3,10}){3,7}")
_FUNCTION_WORDS = re.compile(
    r"\b(?:the|your|for|and|from|with|this|that|enter|not|are|was|must|when|used|use|user|users|password|passwords|passwd|"
    r"secret|token|login|value|will|has|have|can|should|please|file|set|get|new|old|key|hash|change|reset|confirm)\b"
)


def _kinds(value: str) -> tuple[int, bool, bool, bool, bool]:
    """How many kinds of characters there are; and whether lower and upper case, digits and signs."""
    lower, upper = any(map(str.islower, value)), any(map(str.isupper, value))
    digit, sign = any(map(str.isdigit, value)), not _SIGNS.isdisjoint(value)
    return lower + upper + digit + sign, lower, upper, digit, sign


def is_shown(value: str) -> bool:
    """Whether the value is a placeholder, a template or a series, which shows where a secret would stand."""
    if _TEMPLATE.search(value) or _SHOWN.search(value) or _RUN.search(value):
        return True
    return is_series(value) or not _SHOWN_WORDS.sub("", value)


def is_series(value: str) -> bool:
    """Whether it holds keys of a keyboard or digits one after the other."""
    low = value.lower()
    return any(series in low for series in _SERIES)


def _is_words(value: str) -> bool:
    """Whether words or numbers are joined, as in an identifier, a path or a version."""
    titles = _TITLE.findall(value)
    if len(titles) > 1 and sum(map(len, titles)) >= 0.75 * len(value):
        return True
    pieces = [piece for piece in _SEPARATORS.split(value) if piece]
    plain = sum(len(piece) for piece in pieces if _WORD.fullmatch(piece) or _TECHNICAL.fullmatch(piece))
    return len(pieces) > 1 and plain >= 0.6 * sum(map(len, pieces))


def is_password(value: str, kinds: int = 2) -> bool:
    """Whether a person or a generator made it up as a password. kinds: how many of lower case, upper case, digits and
    signs it mixes at least."""
    if not 7 <= len(value) <= 100 or "://" in value or value[0] in "/.":
        return False
    if " " in value:
        is_phrase = _PHRASE.fullmatch(value) and not _FUNCTION_WORDS.search(value)
        return kinds == 2 and bool(_GMAIL.fullmatch(value) or is_phrase)
    found, lower, upper, digit, sign = _kinds(value)
    if _TEMPLATE.search(value) or _SHOWN.search(value) or _RUN.search(value):
        return False
    if value.isdigit():
        return kinds == 2 and len(value) <= 20 and len(set(value)) > 3 and not is_series(value)
    if _PHRASE.fullmatch(value):
        return kinds == 2 and value.count("-") >= 3 and not _FUNCTION_WORDS.search(value)
    if found < max(2, kinds) or (found < 4 and is_shown(value)) or _TECHNICAL.fullmatch(value):
        return False
    if not sign and _is_words(value):
        return False
    if digit and (lower or upper):
        return not re.fullmatch(r"[A-Za-z]+\d{1,2}", value) or len(value) <= 12 and not value[:1].isupper()
    if sign and (lower or upper):
        inner = _SIGNS.intersection(value[1:-1])
        return len(value) >= 8 and bool(inner) and not _is_words(re.sub(r"[@&?=;]", " ", value))
    return is_jumbled(value)


def is_key(value: str) -> bool:
    """Whether it is random: hexadecimal digits, a UUID, or digits and letters mixed as no person writes them."""
    if not _KEY.fullmatch(value) or is_shown(value):
        return False
    if _HEX.fullmatch(value) or _UUID.fullmatch(value):
        return any(map(str.isdigit, value)) and any(map(str.isalpha, value)) and len(set(value.lower())) >= 7
    if _is_words(value) or _TECHNICAL.fullmatch(value):
        return False
    if not any(map(str.isdigit, value)):
        return len(value) >= 20 and is_jumbled(value)
    if not any(map(str.isalpha, value)):
        return False
    counts = Counter(value).values()
    bits = -sum(count / len(value) * math.log2(count / len(value)) for count in counts)
    return bits >= min(_MIN_ENTROPY, 0.8 * math.log2(len(value)))


def is_jumbled(value: str) -> bool:
    """Whether upper and lower case change as in no word or name of words."""
    if len(value) < 10 or not value.isalpha() or not value.isascii():
        return False
    changes = sum(a.islower() != b.islower() for a, b in zip(value, value[1:], strict=False))
    words = sum(map(len, _CAMEL.findall(value)))
    return changes >= 0.35 * len(value) and words < 0.5 * len(value)
