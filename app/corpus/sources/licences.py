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
``datasets/licenses.yaml`` (`licence_texts`). What single files say of themselves is read by `headers`.

Limits: no legal advice. Metadata is believed when it names a licence. A name for several licences ("BSD") is given as
an OR of those it may mean. ``licence_texts`` is for licence files proper, all of which count (AND), not for NOTICE,
AUTHORS or README.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

from app.corpus.sources.licence_texts import approved_ids, first_phrase, licence_table, name_key, recognised_text

if TYPE_CHECKING:
    from license_expression import LicenseSymbol, LicenseWithExceptionSymbol, Licensing, RenderableFunction

    Node: TypeAlias = RenderableFunction | LicenseSymbol | LicenseWithExceptionSymbol

# A License field longer than any name, or of several lines, holds the licence itself.
LONGEST_NAME = 200
MAX_EXPRESSION = 2000
"""Characters of an SPDX expression: to simplify one takes more than the square of its length."""
OWN_RIGHTS = re.compile(r"LicenseRef-[A-Za-z0-9.-]*[A-Za-z0-9]")


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenceVerdict:
    """`licence`: normalised SPDX expression relied on (or refused), "" when unknown. `evidence`: what decided, one of
    "expression", "classifier", "field", "file", "header", "table", "stated" (by the owner, in the recipe), "none", or
    the path of what names a part's licence. `reason`: "" when approved, else one sentence."""

    approved: bool
    licence: str
    evidence: str
    reason: str


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
    own = {key for key in keys if OWN_RIGHTS.fullmatch(key) and key.lower() in stated.lower()}  # no name for "closed"
    return _judge([expression], "stated", also_allow | own)


def _judge(expressions: Sequence[str], evidence: str, also_allow: frozenset[str]) -> LicenceVerdict:
    """Verdict on the AND of `expressions`."""
    shown = _shown(" AND ".join(expressions))
    nodes = [node for node in map(parsed, expressions) if node is not None]
    if len(nodes) < len(expressions):
        return _rejected(evidence, f"'{shown}' can't be parsed as an SPDX expression.")
    node = nodes[0] if len(nodes) == 1 else licensing().AND(*nodes)
    kept, refused = _approved_part(node, _approved_lower() | {spdx.lower() for spdx in also_allow})
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
        return recognised_text(value)
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


def _rejected(evidence: str, reason: str, licence: str = "") -> LicenceVerdict:
    return LicenceVerdict(approved=False, licence=licence, evidence=evidence, reason=reason)


def _shown(value: str) -> str:
    line = " ".join(value.split())
    return line if len(line) <= 80 else f"{line[:76]} ..."


def parsed(expression: str) -> "Node | None":
    """The expression's tree; None for a text that is not an expression, or too long for one."""
    from license_expression import ExpressionError

    if len(expression) > MAX_EXPRESSION:
        return None
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
def _approved_lower() -> frozenset[str]:
    return frozenset(map(str.lower, approved_ids()))
