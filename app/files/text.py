"""What text may hold that a file can't."""

import re

_SURROGATE = re.compile("[\ud800-\udfff]")


def has_surrogates(text: str) -> bool:
    """Whether it holds half a surrogate pair, which UTF-8 has no bytes for."""
    return not text.isascii() and _SURROGATE.search(text) is not None
