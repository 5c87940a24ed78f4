"""Text that files can hold and that a sentence can show, made of text that may be anything."""

import os
import re

MAX_NAME_CHARS = 200
_SURROGATE = re.compile("[\ud800-\udfff]")


def has_surrogates(text: str) -> bool:
    """Whether it holds half a surrogate pair, which UTF-8 has no bytes for."""
    return not text.isascii() and _SURROGATE.search(text) is not None


def shown(name: str) -> str:
    """The name as text that can be written: what isn't UTF-8 becomes replacement characters."""
    return os.fsencode(name).decode("utf-8", "replace") if has_surrogates(name) else name


def one_line(text: object, limit: int = MAX_NAME_CHARS) -> str:
    """A text of others as a name: on one line, writable, cut."""
    line = " ".join(str(text).split())
    kept = "".join(character for character in line if character.isprintable())
    return kept.encode(errors="replace").decode()[:limit]
