"""Judge whether code may enter the corpus: only under licences that the Open Source Initiative (OSI) approves.

What a distribution says about its licence is read in the order of authority that PEP 639 gives: the SPDX
``License-Expression``; the trove classifiers (``License :: ...``), joined with the legacy ``License`` field; that field
alone; the texts of its licence files. Whatever is not approved, or can't be told, is rejected with a reason.

Use::

    verdict = judge_licence(
        expression=metadata.get("License-Expression"),
        classifiers=metadata.get_all("Classifier") or [],
        field=metadata.get("License"),
        licence_texts=[path.read_text(errors="replace") for path in licence_files],
    )
    judge_expression("MIT OR LicenseRef-Proprietary").licence  # "MIT": the branch relied on

Sources: what the OSI approves is in ``datasets/osi_approved.yaml``, made from the flags of the SPDX licence list;
expressions are parsed by ``license-expression``; names, classifiers and texts are looked up in
``datasets/licenses.yaml``. What single files say of themselves is read by `headers`.

Limits: no legal advice. Metadata is believed when it names a licence. A name for several licences ("BSD") is given as
an OR of those it may mean. Texts are told by landmarks and word counts, not compared word by word; a GPL text alone is
taken as "-only". ``licence_texts`` is for licence files proper, all of which count (AND), not for NOTICE, AUTHORS or
README.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from license_expression import LicenseSymbol, LicenseWithExceptionSymbol, Licensing, RenderableFunction

    Node: TypeAlias = RenderableFunction | LicenseSymbol | LicenseWithExceptionSymbol

TABLE_PATH = Path(__file__).resolve().parents[3] / "datasets" / "licenses.yaml"  # `app.runs` loads pydantic
OSI_PATH = TABLE_PATH.with_name("osi_approved.yaml")
# A License field longer than any name, or of several lines, holds the licence itself.
LONGEST_NAME = 200
# Words that do not tell one licence name from another.
FILLER = {"the", "license", "licenses", "licence", "licences", "licensed", "under", "version", "ver", "terms", "of"}
FILLER |= {"osi", "approved"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenceVerdict:
    """`licence`: normalised SPDX expression relied on (or refused), "" when unknown. `evidence`: what decided, one of
    "expression", "classifier", "field", "file", "header", "table", "stated" (by the owner, in the recipe), "none", or
    the path of what names a part's licence. `reason`: "" when approved, else one sentence."""

    approved: bool
    licence: str
    evidence: str
    reason: str


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


def judge_licence(
    *,
    expression: str | None,
    classifiers: Sequence[str],
    field: str | None,
    licence_texts: Sequence[str],
    also_allow: frozenset[str] = frozenset(),
) -> LicenceVerdict:
    """Verdict on a distribution from its metadata; `also_allow`: SPDX ids accepted beside the OSI-approved ones."""
    if expression and expression.strip():
        return judge_expression(expression, also_allow=also_allow)
    table = licence_table()
    field = (field or "").strip()
    texts = [text for text in licence_texts if text.strip()]
    for evidence, text in [("field", field), *(("file", text) for text in texts)]:
        if phrase := first_phrase(table["restrictions"], text):
            return _rejected(evidence, f"The licence terms hold a restriction: '{phrase}'.")
    field_spdx = expression_of(field)
    if not field_spdx and not _is_text(field) and (phrase := first_phrase(table["restricted_fields"], field)):
        return _rejected("field", f"The License field '{_shown(field)}' holds a restriction: '{phrase}'.")
    stated = [name for name in map(str.strip, classifiers) if name.startswith("License ::")]
    stated = [name for name in stated if name not in table["silent_classifiers"]]
    if stated:
        if unlisted := [name for name in stated if name not in table["classifiers"]]:
            return _rejected("classifier", f"The classifier '{unlisted[0]}' names no OSI-approved licence.")
        verdict = _judge([table["classifiers"][name] for name in stated], "classifier", also_allow)
        if not (verdict.approved and field_spdx):
            return verdict
        if not judge_expression(field_spdx, also_allow=also_allow).approved:
            reason = f"The License field '{_shown(field)}' contradicts the classifiers ({verdict.licence})."
            return _rejected("field", reason)
        return _judge([verdict.licence, field_spdx], "classifier", also_allow)
    if field_spdx:
        return _judge([field_spdx], "field", also_allow)
    if texts:
        found = [expression_of(text) for text in texts]
        if None in found:
            shown = _shown(texts[found.index(None)])
            return _rejected("file", f"A licence file is not recognised, or holds further terms: '{shown}'.")
        return _judge([spdx for spdx in found if spdx], "file", also_allow)
    if field and name_key(field) not in table["silent_fields"]:
        return _rejected("field", f"The License field '{_shown(field)}' is not recognised.")
    return _rejected("none", "Neither the metadata nor a licence file names a licence.")


def judge_expression(expression: str, *, also_allow: frozenset[str] = frozenset()) -> LicenceVerdict:
    """Verdict on an SPDX expression, as in `License-Expression` or an `SPDX-License-Identifier` header."""
    return _judge([expression], "expression", also_allow)


def judge_stated(stated: str, *, also_allow: frozenset[str] = frozenset()) -> LicenceVerdict:
    """Verdict on what an owner states for code of their own: an approved licence, or LicenseRef-NAME, which stands for
    rights that the owner has anyway."""
    expression = expression_of(stated) or stated
    node = parsed(expression)
    keys = licensing().license_keys(node) if node is not None else []
    return _judge([expression], "stated", also_allow | {key for key in keys if key.startswith("LicenseRef-")})


def _judge(expressions: Sequence[str], evidence: str, also_allow: frozenset[str]) -> LicenceVerdict:
    """Verdict on the AND of `expressions`."""
    shown = _shown(" AND ".join(expressions))
    nodes = [node for node in map(parsed, expressions) if node is not None]
    if len(nodes) < len(expressions):
        return _rejected(evidence, f"'{shown}' can't be parsed as an SPDX expression.")
    node = nodes[0] if len(nodes) == 1 else licensing().AND(*nodes)
    kept, refused = _approved_part(node, _approved_ids() | {spdx.lower() for spdx in also_allow})
    if kept is None:
        reason = f"The OSI does not approve {', '.join(dict.fromkeys(refused))} (read from the {evidence}: '{shown}')."
        return _rejected(evidence, reason, str(node.simplify()))
    return LicenceVerdict(approved=True, licence=str(kept.simplify()), evidence=evidence, reason="")


def _approved_part(node: "Node", approved: frozenset[str]) -> tuple["Node | None", list[str]]:
    """The part of the expression that may be relied on, if any, and the symbols that were refused."""
    from license_expression import LicenseWithExceptionSymbol

    if isinstance(node, LicenseWithExceptionSymbol):
        # SPDX exceptions only add permissions, so the base licence decides; an unknown one may do anything.
        known = node.exception_symbol.is_exception
        kept = known and _approved_part(node.license_symbol, approved)[0]
        return (node, []) if kept else (None, [str(node)])
    if not node.args:
        # "Apache-2.0+" (or any later version) has no id of its own in the SPDX list.
        return (node, []) if str(node).lower().removesuffix("+") in approved else (None, [str(node)])
    parts = [_approved_part(arg, approved) for arg in node.args]
    kept = [part for part, _ in parts if part is not None]
    refused = [symbol for _, symbols in parts for symbol in symbols]
    if not kept or (isinstance(node, licensing().AND) and len(kept) < len(parts)):
        return None, refused
    return (kept[0] if len(kept) == 1 else type(node)(*kept)), refused


def expression_of(value: str) -> str | None:
    """SPDX expression that a name, an expression or a licence text means."""
    value = value.strip()
    if _is_text(value):
        return _recognised_text(value)
    if alias := licence_table()["aliases"].get(name_key(value)):
        return alias
    if is_spdx(value):
        return value
    # "MIT / Apache-2.0" leaves open whether it means AND or OR: all of them have to hold.
    parts = re.split(r"\s*[/,;|&]\s*|\s+(?:and|or)\s+", value, flags=re.IGNORECASE)
    if len(parts) > 1 and all(parts):
        found = [licence_table()["aliases"].get(name_key(part)) or (part if is_spdx(part) else None) for part in parts]
        return None if None in found else " AND ".join(f"({spdx})" for spdx in found)
    return None


def _is_text(value: str) -> bool:
    return len(value) > LONGEST_NAME or "\n" in value


def is_spdx(value: str) -> bool:
    """Whether the value is an SPDX expression of known ids or LicenseRef-* only, rather than a free-text name."""
    node = parsed(value)
    keys = [] if node is None else licensing().license_keys(node)
    return bool(keys) and all(key.startswith("LicenseRef-") or key in licensing().known_symbols for key in keys)


def _recognised_text(text: str) -> str | None:
    """The AND of the licences whose texts make up the whole text; None when it holds anything else."""
    rest = licence_table()["rest"]
    found, left = cut_file(text)
    # A condition may hide in a copyright line, so all that is left is searched for one, before those lines go.
    if not found or not rest["never"].isdisjoint(left.split()):
        return None
    for line in re.findall(r"^\W*(?:\(c\)|©|copyright|all rights reserved).*$", text, re.IGNORECASE | re.MULTILINE):
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
        position = 0
        while (start := words.find(f" {begin} ", position)) >= 0 and (stop := words.find(f" {end} ", start)) >= 0:
            span = words[start : stop + len(end) + 2]
            position = start + 1
            if _is_text_of(licence, span):
                words, position = f"{words[:start]} {words[start + len(span) :]}", 0
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


def _rejected(evidence: str, reason: str, licence: str = "") -> LicenceVerdict:
    return LicenceVerdict(approved=False, licence=licence, evidence=evidence, reason=reason)


def _shown(value: str) -> str:
    line = " ".join(value.split())
    return line if len(line) <= 80 else f"{line[:76]} ..."


def parsed(expression: str) -> "Node | None":
    """The expression's tree; None for a text that is not an expression."""
    from license_expression import ExpressionError

    try:
        return licensing().parse(expression)
    except (ExpressionError, IndexError, AssertionError):  # the parser's own slips on texts such as "()" and "( OR"
        return None


@cache
def licensing() -> "Licensing":
    """The SPDX ids, exceptions and their aliases."""

    from license_expression import get_spdx_licensing

    return get_spdx_licensing()


@cache
def _approved_ids() -> frozenset[str]:
    import yaml

    held = yaml.safe_load(OSI_PATH.read_text(encoding="utf-8"))
    return frozenset(spdx.lower() for spdx in held["ids"])
