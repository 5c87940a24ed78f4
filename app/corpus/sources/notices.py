"""What the notices in a file's text name: licences by name ("License: AGPL-3.0", "released under the EUPL"), and terms
that leave no right to use it ("CONFIDENTIAL", "internal use only").

Notices stand in the head, in comments below the imports and further down, and in strings that are statements. Read by
`headers`, which judges what is found. Limits: names are looked for after "License:" and "under", and GPL-like ones with
a version anywhere; what points elsewhere ("License: see LICENSE") says nothing.
"""

import functools
import re

from app.corpus.sources.licence_texts import first_phrase, licence_table
from app.corpus.sources.licences import expression_of, is_spdx

_HINTS = ("licen", "gpl", "confidential", "proprietary", "copyright", "(c) 2")
_LATER = re.compile(
    r"licen[cs]|proprietary|confidential|\b(?:use|purposes) only\b|commercial|personal use|redistribut|\bunder\b"
    r"|\bGNU\b|GPL",
    re.I,
)
_CLAIM = re.compile(
    r"copyright|©|\(c\) ?\d|rights reserved|(?:licen[cs]ed|released|distributed|published) under|licen[cs]e\s*:"
    r"|terms of the|GPL",
    re.I,
)
_COMMENTS = re.compile(r"(?:^[ \t]*#[^\n]*\n)+", re.M)
_STRINGS = re.compile(r"^(\"\"\"|''')[\s\S]*?\1", re.M)
_CODE = re.compile(r"^(?:async def|def|class|@)", re.M)
_FIELD = re.compile(r"^[^\w\n]*(?:\w+ )?licen[cs]e\W*?:+[ \t]*(\S[^\n]*)$", re.I | re.M)
_UNDER = re.compile(
    r"(?:\b(?:licen[cs]ed|(?:re)?distributed|released|available|published|provided|covered|used?|offered|shared)\b"
    r"(?:[ \t]+\w+){0,3}?[ \t]+under|\b(?:governed|covered) by|\bterms(?: and conditions)? of)"
    r"[ \t]+([^\n]+(?:\n[ \t]*#?[ \t]*[^\n]+)?)",
    re.I,
)
_GNU = re.compile(r"\b[AL]?GPL[- ]?v?\d(?:\.\d)?(?:\+|[- ]or[- ]later|[- ]only)?(?![\w.])")
_GNU_OF = re.compile(
    r"\bGNU\s+(?:(Lesser|Library|Affero)\s+)?General\s+Public\s+Licen[cs]e\b(?:(?!\bGNU\b)[\s\S]){0,160}?\bversion\s+(\d(?:\.\d)?)\b([\s\S]{0,60})"
    r"|gnu\.org/licenses/(?:old-licenses/)?(a|l)?gpl-(\d\.\d)",
    re.I,
)
"""A GNU licence and its version, as the notice that the FSF proposes has them, or by the address of the text."""
_TERMS = re.compile(
    r"(?-i:\bCONFIDENTIAL\b|\bPROPRIETARY\b)|\b(?:strictly|company|highly) confidential\b"
    r"|\b(?:internal|academic|research|educational|personal|private|evaluation|non[- ]?commercial|in-house)"
    r"(?:[ ,/]+(?:and |or )?(?:internal|academic|research|educational|personal|private|evaluation|non[- ]?commercial))*"
    r"(?: use| purposes?) only\b"
    r"|\b(?:only for|solely for|only be used for) (?:\w+ ){0,2}?(?:internal|academic|research|educational|personal|"
    r"non[- ]?commercial|evaluation)\b"
    r"|\bnot (?:for|licen[cs]ed for|to be used for) (?:\w+ ){0,2}?"
    r"(?:commercial|production|public|distribution|redistribution)\b"
    r"|\bfree for (?:personal|academic|research|educational|non[- ]?commercial)\b"
    r"|\bcommercial use (?:is )?(?:prohibited|forbidden|not (?:allowed|permitted)|requires)\b"
    r"|\bdo not (?:copy|distribute|redistribute)\b",
    re.M | re.I,
)
_POINTERS = frozenset(
    "contributor see refer same as this the a an file files in at below above attached accompanying included project "
    "package root repository repo directory folder http https www".split()
)
_ENDS = re.compile(
    r"[.;](?:\s|$)|\s[-–—]+\s|\s\(?(?:see|which|that|you may|unless|as published|found|in the)\b|[\"']", re.I
)
_NAMED = re.compile(r"\b(?:licen[cs]e|eula|agreement)$", re.I)
MAX_NAME_WORDS = 8
_LIKE_A_NAME = re.compile(
    r"[A-Z]{2}|[Ll]icen[cs]e|\d|[Aa]greement|[A-Z]\w+ (?:[A-Z]|[Pp]ublic)|[Pp]ropriet|[Cc]ommercial"
)


def later_notices(text: str, start: int) -> str:
    """The notices beyond the head, which ends at `start`: comments, and strings that are statements before the first
    definition."""
    beyond = text[start:].lower()
    if not any(hint in beyond for hint in _HINTS):
        return ""
    code = _CODE.search(text, start)
    strings = _STRINGS.finditer(text, start, code.start() if code else len(text))
    blocks = [match[0] for found in (_COMMENTS.finditer(text, start), strings) for match in found]
    return "\n".join(block for block in blocks if _LATER.search(block) and _CLAIM.search(block))


@functools.lru_cache(maxsize=4096)
def terms_in(notice: str) -> str:
    """The words of a notice that leave no right to use the file; empty where there are none."""
    table = licence_table()
    words = (*table["header_restrictions"], *table["restrictions"])
    if phrase := first_phrase(words, notice):
        return phrase
    found = _TERMS.search(_unmarked(notice))
    return " ".join(found[0].split()) if found else ""


@functools.lru_cache(maxsize=4096)
def names_in(notice: str) -> tuple[tuple[str, ...], str]:
    """SPDX expressions of the licences that a notice names, and the first name that is none known."""
    text = _unmarked(notice)
    found = [match[0] for match in _GNU.finditer(text)]
    expressions = [spdx for name in found if (spdx := expression_of(name))]
    for pattern, is_field in ((_FIELD, True), (_UNDER, False)):
        for match in pattern.finditer(text):
            if not is_field and not _LIKE_A_NAME.search(match[1]):
                continue
            known, unknown = _named(match[1], is_field=is_field)
            if unknown:
                return tuple(dict.fromkeys(expressions)), unknown
            expressions += [known] if known else []
    return tuple(dict.fromkeys(expressions)), ""


@functools.lru_cache(maxsize=4096)
def gnu_versions(notice: str) -> dict[str, str]:
    """SPDX id by family (GPL, LGPL, AGPL) of the GNU licences whose version a notice names."""
    found: dict[str, str] = {}
    for match in _GNU_OF.finditer(_unmarked(notice)):
        word, version, after, letter, of_address = match.groups()
        family = {"l": "LGPL", "a": "AGPL"}.get((word or letter or "")[:1].lower(), "GPL")
        number = version or of_address
        later = "or-later" if re.search(r"\bany\s+later|\bor\s+(?:newer|later)", after or "", re.I) else "only"
        spdx = f"{family}-{number if '.' in number else f'{number}.0'}-{later}"
        if is_spdx(spdx):
            found.setdefault(family, spdx)
    return found


def _unmarked(notice: str) -> str:
    """The notice without comment signs at the begin of its lines."""
    return re.sub(r"^[ \t]*#+[ \t]?", "", notice, flags=re.M).replace("-like", "-style")


def _named(value: str, *, is_field: bool) -> tuple[str, str]:
    """Expression of the name with which the value begins, or the name where it is none known."""
    name = " ".join(_ENDS.split(value, maxsplit=1)[0].split()).strip(" .,:;*`<>[]")
    words = re.sub(r"^(?:(?:the|an?|terms|of|conditions|and|version|either) )+", "", name + " ", flags=re.I).split()
    words = words[:MAX_NAME_WORDS]
    for length in range(len(words), 0, -1):
        if spdx := expression_of(" ".join(words[:length]).strip(",()")):
            rest = " ".join(words[length:])
            return ("", name) if _is_restricted(rest) or "+" in words[length : length + 1] else (spdx, "")
    if not words or not name:
        return "", ""
    if _is_restricted(name):
        return "", name
    points = not _POINTERS.isdisjoint(re.findall(r"[a-z]+", " ".join(words[:3]).lower()))
    if is_field:
        is_silent = points or len(words) > 6 or name.lower() in licence_table()["silent_names"]
        return "", "" if is_silent else name
    head = re.match(r"(?:[A-Z0-9][\w.+-]* ){1,6}(?:[Ll]icen[cs]e|EULA|Agreement)\b", " ".join(words) + " ")
    known = head and not _POINTERS.isdisjoint(head[0].lower().split())
    return "", head[0].strip() if head and not known and len(head[0].split()) > 1 else ""


def _is_restricted(name: str) -> bool:
    return bool(name) and first_phrase(licence_table()["restricted_fields"], name) is not None
