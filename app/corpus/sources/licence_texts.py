"""The table of licence names and texts, and which of its texts a licence file is made of.

`datasets/licenses.yaml` has names, classifiers, landmarks of texts and the words that take rights away;
`datasets/osi_approved.yaml` what the OSI approves. Read by `licences`, which judges, and by all that looks for licences
in words.

Limits: texts are told by landmarks and word counts, not compared word by word; a GPL text is taken as "-only", also
where a notice beside it says "or later".
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

TABLE_PATH = Path(__file__).resolve().parents[3] / "datasets" / "licenses.yaml"  # `app.runs` loads pydantic
OSI_PATH = TABLE_PATH.with_name("osi_approved.yaml")
# Words that do not tell one licence name from another.
FILLER = {"the", "license", "licenses", "licence", "licences", "licensed", "under", "version", "ver", "terms", "of"}
FILLER |= {"osi", "approved"}
WORD_CHARS = 16
"""Characters of a licence's words, on average and at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenceText:
    """Landmarks of one licence text, as `bare_words` gives them: from one of `begin` to one of `end`. `words` is the
    range of its word count; it has every phrase of `holds` and none of `lacks`."""

    licence: str
    begin: Sequence[str]
    end: Sequence[str]
    words: Sequence[int]
    holds: Sequence[str] = ()
    lacks: Sequence[str] = ()


@cache
def licence_table() -> dict[str, Any]:
    """The yaml table with its names as word sets (`name_key`) and its texts as `LicenceText`."""
    import yaml

    table: dict[str, Any] = yaml.safe_load(TABLE_PATH.read_text(encoding="utf-8"))
    table["aliases"] = {name_key(alias): spdx for spdx, names in table["aliases"].items() for alias in names}
    table["silent_names"] = frozenset(table["silent_fields"])
    table["silent_fields"] = {name_key(name) for name in table["silent_fields"]}
    table["rest"]["never"] = frozenset(table["rest"]["never"])
    table["permissive"] = frozenset(table["permissive"])
    for key in ("texts", "appendices"):
        table[key] = [_licence_text(**entry) for entry in table[key]]
    return table


def _licence_text(*, licence: str = "", begin: str | list[str], end: str | list[str], **marks: Any) -> LicenceText:
    begins, ends = ([phrases] if isinstance(phrases, str) else phrases for phrases in (begin, end))
    return LicenceText(licence=licence, begin=begins, end=ends, **marks)


def name_key(name: str) -> frozenset[str]:
    """The words that tell a licence name from others: "GNU GPL v3+" and "GNU GPL (version 3.0 or later)" are one."""
    spaced = re.sub(r"(?<=[a-z])v?(?=\d)|\bv\.?\s*(?=\d)", " ", name.lower().replace("non-", "non"))
    spaced = re.sub(r"\+|>=", " or later ", spaced)
    words = re.findall(r"\d+(?:\.\d+)*|[a-z]+", spaced)
    return frozenset(re.sub(r"^(\d+)\.0$", r"\1", word) for word in words) - FILLER


def recognised_text(text: str) -> str | None:
    """The AND of the licences whose texts make up the whole text; None when it holds anything else."""
    rest = licence_table()["rest"]
    found, left = cut_file(text)
    # A condition may hide in a copyright line, so all that is left is searched for one, before those lines go.
    if not found or not rest["never"].isdisjoint(left.split()):
        return None
    for line in re.findall(
        r"^[^\w\n]*(?:\(c\)|©|copyright|all rights reserved).*$", text, re.IGNORECASE | re.MULTILINE
    ):
        left = left.replace(bare_words(line), " ", 1)
    if len(left.split()) > rest["words"]:
        return None
    return " AND ".join(dict.fromkeys(found))


def cut_file(text: str) -> tuple[list[str], str]:
    """The SPDX ids of the licence texts in a licence file, and its bare words without them and their appendices."""
    found, words = cut_texts(bare_words(text))
    for appendix in licence_table()["appendices"] if found else ():
        words = _without(appendix, words)
    return found, words


def cut_texts(words: str) -> tuple[list[str], str]:
    """The SPDX ids of the licence texts in `words` (made by `bare_words`), and the words without them."""
    found = []
    for licence in licence_table()["texts"]:
        shorter = _without(licence, words)
        if shorter != words and licence.licence:
            found.append(licence.licence)
        words = shorter
    return found, words


def _without(licence: LicenceText, words: str) -> str:
    """The words less every span that is this licence."""
    for begin, end in itertools.product(licence.begin, licence.end):
        position, room = 0, WORD_CHARS * licence.words[1]
        while (start := words.find(f" {begin} ", position)) >= 0:
            position, stop = start + 1, words.find(f" {end} ", start, start + room)
            span = words[start : stop + len(end) + 2]
            if stop >= 0 and _is_text_of(licence, span):
                words, position = f"{words[:start]} {words[start + len(span) :]}", max(0, start - room)
    return words


def _is_text_of(licence: LicenceText, span: str) -> bool:
    fits = licence.words[0] <= len(span.split()) <= licence.words[1]
    return fits and all(p in span for p in licence.holds) and not any(f" {p} " in span for p in licence.lacks)


def bare_words(text: str) -> str:
    """The bare words, each between single spaces: layout, bullets, quotes and section numbers fall away."""
    return f" {' '.join(re.findall(r'[a-z]{2,}|[0-9]+[.][0-9]+|[0-9]{4}', text.lower()))} "


def first_phrase(phrases: Sequence[str], text: str) -> str | None:
    """The first of the phrases (bare words) that the text holds."""
    words = bare_words(text)
    return next((phrase for phrase in phrases if f" {phrase} " in words), None)


@cache
def approved_ids() -> tuple[str, ...]:
    """SPDX ids of what the OSI approves."""
    import yaml

    return tuple(yaml.safe_load(OSI_PATH.read_text(encoding="utf-8"))["ids"])
