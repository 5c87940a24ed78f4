"""What a query may hold: it leaves the machine, so neither keys nor paths of the user go with it."""

import re
import unicodedata

from app.corpus.clean.personal import find_emails
from app.corpus.clean.secrets import find_secrets
from app.docsearch.records import Refused
from app.prompting.tool_schema import MAX_QUERY

_PATH = re.compile(
    r"(?:(?<![\w./])|file:/{1,3})(?:~|/?(?<=/)(?:home|Users|root|mnt|media)|[A-Za-z]:[/\\]+Users)(?:[/\\]+[\w.\- ]+)+"
)
"""A file of a person; /usr/lib/python3 and the like tell nothing of anybody."""
_ASSIGNED = re.compile(
    r"(?i:api[-_]?key|access[-_]?key|secret(?:[-_]?key)?|token|passw(?:or)?d|passphrase|pwd)[\"']?\s*(?P<sign>[=:])\s*"
    r"(?P<value>\S{8,})"
)
_CODE = re.compile(r"[A-Za-z_.]+[(\[].*|[A-Za-z_]+(?:\.[A-Za-z_]+)+[,)]?|[A-Z]+(?:_[A-Z]+)+[,)]?")
"""A value that is a call, an attribute or a constant of a program, as in password=getpass.getpass()."""
_CLASS = re.compile(r"(?:[A-Z]+[a-z]+\d?){2,}[,)]?")
"""A type, as in password: SecretStr."""
_BEARER = re.compile(r"(?i)\b(?:bearer|basic)\s+(?=\S*\d)[\w.~+/=-]{16,}")
_MAX_LENGTH = 16_384
"""The tool's schema allows 256 characters: what is that much longer is no mistake of a sentence."""
_LONG = re.compile(r"[A-Za-z0-9+/_-]{32,}={0,2}")
"""No word of a question: what is this long and mixed is a key of some kind, or data."""


def cleaned_query(query: str) -> str:
    """The query in NFC, on one line, without control and invisible characters, at most 256 characters.

    Raises Refused: `query` where nothing is left of it or it is no text, `secret` where it holds a key, a password, an
    e-mail address or a path below somebody's home directory.
    """
    if not isinstance(query, str) or len(query) > _MAX_LENGTH:
        raise Refused("query", "it is no text, or a far too long one")
    text = unicodedata.normalize("NFC", query)
    kept = "".join(" " if character.isspace() else character for character in text)
    kept = "".join(character for character in kept if unicodedata.category(character)[0] != "C")
    line = " ".join(kept.split())[:MAX_QUERY].strip()
    if not line:
        raise Refused("query", "it is empty")
    if kind := secret_in(kept):  # all of it: what is cut off may be what makes the rest a secret
        raise Refused("secret", f"it holds {kind}")
    return line


def secret_in(text: str) -> str:
    """What kind of secret the text holds; empty for none."""
    is_assigned = any(map(_is_secret_value, _ASSIGNED.finditer(text)))
    is_long = any(_is_mixed(match[0]) for match in _LONG.finditer(text))
    if is_assigned or is_long or find_secrets(text) or _BEARER.search(text):
        return "a key or a password"
    if find_emails(text):
        return "an e-mail address"
    return "the path of a user's file" if _PATH.search(text) else ""


def _is_secret_value(found: re.Match[str]) -> bool:
    is_type = found["sign"] == ":" and _CLASS.fullmatch(found["value"])
    return not (is_type or _CODE.fullmatch(found["value"]))


def _is_mixed(word: str) -> bool:
    digits = sum(map(str.isdigit, word))
    return digits >= 6 and any(map(str.isalpha, word))
