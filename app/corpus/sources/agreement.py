"""Whether what a package says of its licence agrees: its metadata with its texts, a part with the whole.

A text that contradicts the metadata wins over them, and the package is left out: the text of another licence, terms
beyond an open licence (end user licences, the Commons Clause, one more condition), a text that is nowhere near the
licence that the metadata name. `datasets/licenses.yaml` has the words.

Limits: a long list of notices for bundled code beside the package's own text is read for known licences and for
unmistakable terms only; GPL and AGPL texts count as contradictions there too, other approved ones don't.
"""

import functools
import re
from collections.abc import Sequence
from email.message import Message

from app.corpus.sources.licence_texts import cut_file, first_phrase, licence_table
from app.corpus.sources.licences import LicenceVerdict, expression_of, judge_licence, licensing, parsed
from app.corpus.sources.package_headers import field

SHORT, LONG = 12, 300
"""Words: fewer that name no licence point somewhere else ("see ..."); more, beside a known text, are a list of
notices."""
_GNU = re.compile(r"(A|L)?GPL-")
_USE = r"(?:use|used|copy|copied|modify|modified|distribute|distributed|redistributed?|sell|sold|sublicense)"
_LIMIT = re.compile(
    rf" (?:(?:(?:may|must|shall|can|do|does|will) not|cannot|never) (?:be |to |otherwise )*"
    rf"|(?:are|is) not (?:to|permitted|allowed|authori[sz]ed|licen[cs]ed) (?:to |be )*){_USE}"
    r"(?! (?:\w+ ){0,4}?(?:endorse|advertising|promote|compliance))(?: \w+){0,4}"
    r"| (?:used|use|licensed|available|provided|granted) (?:only|solely|exclusively)(?: \w+){0,4}"
    r"| (?:only|solely|exclusively) be used(?: \w+){0,4}| no (?:other )?(?:rights?|permission|licen[cs]e) (?:is|are) "
)


def judge_package(header: Message, texts: Sequence[str], also_allow: frozenset[str]) -> LicenceVerdict:
    """Verdict on core metadata and the licence texts beside them."""
    verdict = judge_licence(
        expression=field(header, "License-Expression"),
        classifiers=[str(c) for c in header.get_all("Classifier", [])],
        field=field(header, "License"),
        licence_texts=texts,
        also_allow=also_allow,
    )
    if not verdict.approved or verdict.evidence == "file":
        return verdict
    reason = contradiction(tuple(text for text in texts if text.strip()), verdict.licence)
    if not reason:
        return verdict
    return LicenceVerdict(approved=False, licence=verdict.licence, evidence="file", reason=reason)


@functools.lru_cache(maxsize=512)
def contradiction(texts: tuple[str, ...], licence: str) -> str:
    """Why the licence texts do not fit the expression that the metadata name; empty where they do."""
    table, permissive = licence_table(), licence_table()["permissive"]
    looked = [(text, *cut_file(text)) for text in texts]
    is_there = any(covered(spdx, licence) for _, found, _ in looked for spdx in found)
    for text, found, left in looked:
        for spdx in found:
            is_list = is_there and not re.match("A?GPL-", spdx)
            if not (is_list or covered(spdx, licence, permissive)):
                return f"The metadata name {licence}, a licence text is that of {spdx}."
        is_short = not found or len(left.split()) <= LONG
        if phrase := first_phrase((*table["restrictions"], *(table["text_restrictions"] if is_short else ())), left):
            return f"The metadata name {licence}, a licence text holds a restriction: '{phrase}'."
        if is_short and (limit := _LIMIT.search(left)):
            return f"The metadata name {licence}, a licence text holds a further condition: '{limit[0].strip()}'."
        named, is_long = [] if found else _named(text, left), len(left.split()) + _foreign(text) > SHORT
        beside = frozenset() if is_long else permissive
        if not found and (is_long or named) and not any(covered(spdx, licence, beside) for spdx in named):
            return f"The metadata name {licence}, a licence text is another: '{' '.join(text.split())[:76]}'."
    return ""


def _foreign(text: str) -> int:
    """About how many words a text has in other letters than those by which licences are told."""
    return 0 if text.isascii() else sum(c.isalpha() and not c.isascii() for c in text) // 4


def _named(text: str, words: str) -> list[str]:
    """What a text that is not known names as its licence, or begins with as texts of it do."""
    named = [
        expression_of(" ".join(text.split())),
        *(spdx for spdx, phrases in licence_table()["header_phrases"].items() if first_phrase(phrases, text)),
    ]
    known = [text for text in licence_table()["texts"] if text.licence]
    begins = [one.licence for one in known if any(f" {phrase} " in words for phrase in one.begin)]
    return [spdx for spdx in (*named, *begins) if spdx]


def covered(licence: str, package: str, permissive: frozenset[str] = frozenset()) -> bool:
    """Whether the package declares what the expression asks for, or it is permissive. A GNU licence named without its
    version counts as the package's version, and the GPL's text goes with the LGPL's, which is made of it."""
    node, declared = parsed(licence), parsed(package) if package else None
    keys = frozenset() if declared is None else frozenset(licensing().license_keys(declared))
    families = {match[0] for key in keys if (match := _GNU.match(key))}
    families |= {"GPL-"} if "LGPL-" in families else set()

    def is_covered(part: object) -> bool:
        if arguments := getattr(part, "args", ()):
            return (all if isinstance(part, licensing().AND) else any)(map(is_covered, arguments))
        key = str(part).split(" WITH ")[0].removesuffix("+")
        family = _GNU.match(key)
        return key in keys or key in permissive or (family is not None and family[0] in families)

    return is_covered(node)
