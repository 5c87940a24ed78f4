"""What the head of a source file says: its own licence, that it was copied, who wrote it. The notices are cut off.

The head is all comments before the first line of code, and the module's docstring. A file's licence is read from SPDX
tags (anywhere in it), from licence texts and names in its head (`datasets/licenses.yaml`), and from `__license__`.

Limits: no legal advice. A head that names several licences is taken for all of them ("either BSD or, alternatively, the
GPL" is refused in a package that declares BSD). Names count wherever the head holds them, so a module whose docstring
talks about the GPL is refused too. A copyright line of somebody else without a licence is not noticed: packages have
many authors. Notices are told by words, paragraph by paragraph.
"""

import functools
import re

from app.corpus.sources.agreement import covered
from app.corpus.sources.licence_texts import bare_words, cut_texts, first_phrase, licence_table
from app.corpus.sources.licences import LicenceVerdict, expression_of, judge_expression, licensing, parsed
from app.corpus.sources.notices import gnu_versions, later_notices, names_in, terms_in
from app.corpus.sources.texts import MAX_LINES, copyright_lines

MAX_HEAD_CHARS = 12_000
_BLOCK = r"(?:[ \t]*(?:#[^\n]*)?\n)*"
_STRING = r"[rRuU]?(?:\"\"\"[\s\S]*?\"\"\"|'''[\s\S]*?'''|\"[^\"\n]*\"|'[^'\n]*')"
_HEAD = re.compile(rf"({_BLOCK})((?:{_STRING}[ \t]*(?:#[^\n]*)?\n)?)({_BLOCK})")
_TELLING = re.compile(
    r"licen[cs]|copyright|\bl?gpl\b|proprietary|confidential|permission|redistribut|prohibited|unauthori|vendored"
    r"|use only|purposes only|personal use|commercial|released|under|A?GPL|Elastic"
    r"|copied|taken (?:from|verbatim)|borrowed|creative ?commons|secret|distribut|mozilla",
    re.I,
)
_SPDX = re.compile(r"SPDX-License-Identifier:\s*([^\r\n#*\"']+)")
_DUNDER = re.compile(r"^__licen[cs]e__\s*=\s*[\"']([^\"'\n]{2,100})[\"']", re.M)
_NOTICE = re.compile(
    r"copyright|\(c\)\s*\d{4}|©|licen[cs]e|spdx-|all rights reserved|warrant(?:y|ies)|redistribut"
    r"|permission (?:is|to|notice)|[\"']as[- ]is[\"']|liab(?:le|ility)|damages|\bauthors?\s*:|@author"
    r"|^[^\w\n]*(?:-\*-.*)?(?:en)?coding[:=]|vim?:\s*set",
    re.I | re.M,
)
_CLAIM = re.compile(r"copyright|©|\(c\)", re.I)
_RULE = re.compile(r"[\s#*=~_+/-]*")


def judge_header(text: str, package_licence: str, also_allow: frozenset[str] = frozenset()) -> LicenceVerdict:
    """Whether the file's own words allow its use; `licence` is then that of the file: the package's, and its own beside
    it where that is another permissive one. Without `package_licence` any approved licence will do."""
    own = _own_rights(package_licence)
    also_allow |= own
    stated = [match[1].strip() for match in _SPDX.finditer(text)]
    if "__licen" in text:
        stated += [spdx for match in _DUNDER.finditer(text) if (spdx := expression_of(match[1]))]
    for expression in stated:
        if not (verdict := judge_expression(expression, also_allow=also_allow)).approved:
            return _header(False, verdict.licence, verdict.reason)
    head = _head_of(text)
    notice = (head if _TELLING.search(head) else "") + later_notices(text, len(head))
    if not own and (terms := terms_in(notice)):
        return _header(False, "", f"The head holds a restriction: '{terms}'.")
    named, unknown = names_in(notice)
    if unknown and not own:
        return _header(False, "", f"The licence '{unknown}' is not known.")
    told = (*_named_licences(bare_words(notice)), *named)
    if versions := gnu_versions(notice):
        told = tuple(spdx if " " in spdx else versions.get(spdx.partition("-")[0], spdx) for spdx in told)
    return _judge_stated((*stated, *told), package_licence, also_allow)


@functools.lru_cache(maxsize=64)
def _own_rights(package: str) -> frozenset[str]:
    """LicenseRef-* of a package that its owner has stated: "confidential" in its files is the owner's own word then."""
    if "LicenseRef-" not in package or (node := parsed(package)) is None:
        return frozenset()
    return frozenset(key for key in licensing().license_keys(node) if key.startswith("LicenseRef-"))


def copied_from(text: str) -> str:
    """The words by which the head says that the file is another project's; empty where it doesn't."""
    head = _head_of(text)
    return first_phrase(licence_table()["copied_phrases"], head) or "" if _TELLING.search(head) else ""


def copyright_in(text: str) -> tuple[str, ...]:
    """The copyright lines of the head."""
    head = _head_of(text)
    return tuple(copyright_lines(head)[:MAX_LINES]) if _CLAIM.search(head) else ()


def without_notices(text: str) -> str:
    """The text without the paragraphs of its head that are licence, copyright or author notices, or editor settings."""
    match = _HEAD.match(text)
    assert match is not None, "every part of the pattern is optional"
    before, docstring, after = match.groups()
    if not _NOTICE.search(match[0]):
        return text
    before, after = _without_comments(before), _without_comments(after)
    return (before + _without_paragraphs(docstring) + after + text[match.end() :]).lstrip("\n")


def _head_of(text: str) -> str:
    match = _HEAD.match(text)
    assert match is not None, "every part of the pattern is optional"
    return match[0][:MAX_HEAD_CHARS]


@functools.lru_cache(maxsize=4096)
def _named_licences(words: str) -> tuple[str, ...]:
    """SPDX expressions of the texts and names in the words of a head. Cached: a package repeats its head."""
    if not words.strip():
        return ()
    found, left = cut_texts(words)
    for spdx, phrases in licence_table()["header_phrases"].items():
        for phrase in phrases:
            if f" {phrase} " in left:
                found.append(spdx)
                left = left.replace(f" {phrase} ", " ")
    return tuple(dict.fromkeys(found))


@functools.lru_cache(maxsize=4096)
def _judge_stated(stated: tuple[str, ...], package: str, also_allow: frozenset[str]) -> LicenceVerdict:
    """The verdict on all that a file states; cached, because a package's files state the same."""
    further = []
    for expression in dict.fromkeys(stated):
        verdict = judge_expression(expression, also_allow=also_allow)
        if not verdict.approved:
            return _header(False, verdict.licence, verdict.reason)
        if not covered(verdict.licence, package):
            if package and not covered(verdict.licence, package, licence_table()["permissive"]):
                return _header(False, verdict.licence, f"{verdict.licence} in a package under {package}.")
            further.append(verdict.licence)
    if not further:
        return _header(True, package, "")
    both = licensing().parse(" AND ".join(f"({part})" for part in (package, *further) if part))
    return _header(True, str(both.simplify()), "")


def _without_comments(block: str) -> str:
    """The comment lines without their notice paragraphs; rules and empty comments between them go too."""
    if not _NOTICE.search(block):
        return block
    shebang = re.match(r"#![^\n]*\n", block)
    first = shebang[0] if shebang else ""
    paragraphs = re.split(r"((?:^[ \t]*#?[\s#*=~_+/-]*\n)+)", block[len(first) :], flags=re.M)
    text = "".join(paragraph for paragraph in paragraphs if not _NOTICE.search(paragraph))
    return first + ("" if _RULE.fullmatch(text) else re.sub(r"^(?:[ \t]*#?[ \t]*\n)+", "", text))


def _without_paragraphs(docstring: str) -> str:
    """The docstring without its notice paragraphs; nothing where all of it is one."""
    match = re.match(r"([rRuU]?(\"\"\"|'''|\"|'))([\s\S]*)\2([^\"']*)$", docstring)
    if match is None or not _NOTICE.search(docstring):
        return docstring
    paragraphs = [part for part in re.split(r"\n[ \t]*\n", match[3]) if not _NOTICE.search(part)]
    inner = "\n\n".join(paragraphs)
    if not inner.strip(" \n\t=-~*"):
        return ""
    return (
        match[1]
        + inner.lstrip("\n")
        + ("\n" if match[3].endswith("\n") and not inner.endswith("\n") else "")
        + match[2]
        + match[4]
    )


def _header(approved: bool, licence: str, reason: str) -> LicenceVerdict:
    return LicenceVerdict(approved=approved, licence=licence, evidence="header", reason=reason)
