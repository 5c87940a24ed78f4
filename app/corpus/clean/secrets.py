"""Keys, tokens, passwords and private keys that a model must not learn by heart, found wherever they stand in a text.

Each is masked by a placeholder of its kind (`<API_KEY>`); a file is not lost for one secret in it. After StarCoder
(arXiv 2305.06161, section 4), which masks as well. Three ways to tell one:

* a form of its own, as `ghp_` and 36 characters: `datasets/secret_forms.yaml`, most of it gitleaks' rules as data,
* its place in an address: `scheme://user:password@host`,
* a telling name beside a value that nobody writes as a placeholder: `named_secrets`.

One pass of Aho-Corasick finds all anchors and names in a text; patterns are tried where one was found. detect-secrets
1.5.0 ran at 0.09 MB/s and finds lines, not spans; gitleaks itself is a program in Go.

Limits: docs/corpus.md says what stays. Personal data is found by `personal`.
"""

import functools
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import ahocorasick_rs

from app.corpus.clean.masks import API_KEY, PASSWORD, PRIVATE_KEY, TOKEN, Span, apart, lowered
from app.corpus.clean.named_secrets import NAMES, secrets_named
from app.corpus.clean.secret_values import is_key, is_shown

FORMS_PATH = Path(__file__).resolve().parents[3] / "datasets" / "secret_forms.yaml"
_AROUND = 200
"""Characters on both sides of an anchor in which a pattern is searched that begins before it."""
_URL = re.compile(
    r"(?<!github)://(?:((?:[^\s:/@\"'<>{}%$|\\]|%[0-9A-Fa-f]{2}){0,60}):)?([^\s/\"'<>{}|\\]{3,120})@(?=[\w\[{-])"
)
"""User and password of an address; what has no colon is a token, as in Sentry's. fsspec's github://OWNER:REPOSITORY@REF
holds none."""
_SHOWN = re.compile(
    r"(?i)[x*.#]+|redacted|\[?(?:my|your|the|some|a|db)?[-_]?(?:pass|passwd|password|pwd|secret|token|key|pw)_?\d*\]{0,2}|\$\{?\w+\}?|%\w+%?"
)
_AWS_SECRET = re.compile(r"(?<![\w/+=-])[A-Za-z0-9/+]{40}(?![\w/+=-])")
_AWS_NEAR = 200
"""Characters after an AWS key id in which the 40 of its secret are looked for: no form and often no name tells them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How secrets of one kind look. Made from a row of `datasets/secret_forms.yaml`, which explains the fields."""

    id: str
    anchors: tuple[str, ...]
    pattern: re.Pattern[str]
    entropy: float
    placeholder: str
    inside: bool
    """The anchor stands further in; otherwise the pattern is tried at its anchor alone, and not within a word."""


@functools.cache
def forms() -> tuple[Form, ...]:
    """The table of forms."""
    import yaml

    table = yaml.safe_load(FORMS_PATH.read_text(encoding="utf-8"))
    return tuple(_form(**row) for rows in table.values() for row in rows)


def _form(id: str, anchors: list[str], pattern: str, entropy: float = 0.0, inside: bool = False) -> Form:
    kinds = (("private-key", PRIVATE_KEY), ("password", PASSWORD), ("token", TOKEN), ("-pat", TOKEN), ("jwt", TOKEN))
    return Form(
        id=id,
        anchors=tuple(anchors),
        pattern=re.compile(pattern, re.ASCII),
        entropy=entropy,
        inside=inside,
        placeholder=next((placeholder for word, placeholder in kinds if word in id), API_KEY),
    )


@functools.cache
def _anchors() -> tuple[ahocorasick_rs.AhoCorasick, list[Form | None]]:
    """The automaton of all anchors and telling names, and by number the form of an anchor; None for a name."""
    words: list[str] = []
    owners: list[Form | None] = []
    for form in forms():
        words += form.anchors
        owners += [form] * len(form.anchors)
    return ahocorasick_rs.AhoCorasick([*words, *NAMES]), [*owners, *[None] * len(NAMES)]


def find_secrets(text: str) -> list[Span]:
    """Spans of secrets, in order, none inside another."""
    automaton, owners = _anchors()
    low = lowered(text)
    spans: list[Span] = []
    named: list[tuple[str, int, int]] = []
    searched: dict[str, int] = {}  # by form, up to where: anchors may stand close together
    for number, start, end in automaton.find_matches_as_indexes(low, overlapping=True):
        form = owners[number]
        if form is None:
            named.append((low[start:end], start, end))
        elif not form.inside or end > searched.get(form.id, 0):
            spans += (found := list(_formed(text, form, start, end)))
            searched[form.id] = found[0][1] if found else end + _AROUND // 2
    if "://" in text and "@" in text:
        spans += _in_addresses(text)
    return apart([*spans, *secrets_named(text, low, named, spans)])


def _formed(text: str, form: Form, start: int, end: int) -> Iterator[Span]:
    if form.inside:
        found = form.pattern.search(text, max(0, start - _AROUND), end + _AROUND)
    else:
        is_in_word = start and is_word(text[start]) and is_word(text[start - 1])
        found = None if is_in_word and not _is_escape(text, start) else form.pattern.match(text, start)
    if found is None:
        return
    group = 1 if found.re.groups and found[1] else 0
    if form.entropy and entropy(found[group]) < form.entropy or "x" * 8 in found[group].lower():
        return
    yield found.start(group), found.end(group), form.placeholder
    if found[group].startswith(("AKIA", "ASIA")):
        for secret in _AWS_SECRET.finditer(text, found.end(), found.end() + _AWS_NEAR):
            if is_key(secret[0]):
                yield secret.start(), secret.end(), API_KEY


def is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _is_escape(text: str, position: int) -> bool:
    r"""Whether a line end, written as \n, comes before the position."""
    return position >= 2 and text[position - 1] in "nrt" and text[position - 2] == "\\"


def _in_addresses(text: str) -> Iterator[Span]:
    for match in _URL.finditer(text):
        user, password = match[1], match[2]
        if user is None:
            if is_key(password):
                yield match.start(2), match.end(2), TOKEN
            continue
        plain = unquote(password)
        is_template = password[0] in "$%" or "%s" in password or plain != password and is_shown(plain)
        if plain != user and not is_template and not _SHOWN.fullmatch(password):
            yield match.start(2), match.end(2), PASSWORD


def entropy(value: str) -> float:
    """Bits a character."""
    return -sum(count / len(value) * math.log2(count / len(value)) for count in Counter(value).values())
