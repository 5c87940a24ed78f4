"""The licence and notice texts that a distribution brings, and the copyright lines in them and in the heads of files:
what has to go with code under MIT, BSD or Apache licences wherever it is passed on.

Limits: AUTHORS files are not read; a copyright line that goes on in the next one keeps only its first line apart from
the text, where the rest stays. Texts are kept whole, so nothing is lost by what is no copyright line.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from email.message import Message
from pathlib import PurePosixPath

from app.corpus.sources.licence_texts import bare_words, cut_texts
from app.corpus.sources.licences import LONGEST_NAME, licensing, parsed
from app.corpus.sources.package_headers import field
from app.corpus.sources.rights import INFO, is_licence, is_notice
from app.files.text import one_line
from app.rights import Holder, Notice

COPYRIGHT = re.compile(
    r"^[^\w\n(©]*((?:(?i:copyright)\b(?:\s+holders?:)?[^\w\n\[{<(]*(?:(?i:\(c\))|©|&copy;|\d{4}|(?i:by)\b)"
    r"|(?i:copyright\s+\(c\))|SPDX-FileCopyrightText:|(?i:\(c\))\s*(?:(?i:copyright)\s*)?\d{4}|©"
    r"|Copyright (?!License|Notice|Law|Owner|Holder|Act\b)[A-Z])[^\n]*)$",
    re.M,
)
MAX_TEXTS = 1 << 21
"""Characters of all texts of a distribution; the longest seen, of PyArrow, has 106,000."""
MAX_LINE, MAX_LINES = 300, 20
"""Characters of a copyright line from a file's head, and lines of one head."""


def copyright_lines(text: str) -> list[str]:
    """The copyright lines of a text, each on one line."""
    return list(dict.fromkeys(one_line(match[1], MAX_LINE) for match in COPYRIGHT.finditer(text)))


def kept_texts(rights: Mapping[str, str], header: Message | None = None) -> tuple[tuple[str, str], ...]:
    """Paths and texts of the licence and notice files; a text in the metadata's own field is one too."""
    names = {path: path.rpartition("/")[2] for path in rights}
    found = [(path, rights[path]) for path, name in names.items() if is_licence(name) or is_notice(name)]
    stated = (field(header, "License") or "").strip() if header is not None else ""
    if "\n" in stated or len(stated) > LONGEST_NAME:
        found.append(("METADATA", stated))
    kept, room = [], MAX_TEXTS
    for path, text in sorted(found):
        if len(text) > room:
            text = f"(The text {path} has {len(text):,} characters, too many to be repeated here: see the source.)"
        room -= len(text)
        kept += [(path, text)] if text.strip() else []
    return tuple(kept)


def notices_of(
    name: str,
    version: str,
    texts: Sequence[tuple[str, str]],
    files: Iterable[str],
    licences: Iterable[str],
    heads: Iterable[str] = (),
) -> list[Notice]:
    """What a distribution's kept files ask for. texts: as `kept_texts` gives them; those of folders without a kept file
    are left out. files: paths that were kept; licences: expressions that they were kept under; heads: copyright lines
    of these files."""
    files, licences, lines = set(files), list(dict.fromkeys(licences)), list(dict.fromkeys(heads))
    ids = {str(key) for one in licences if (node := parsed(one)) is not None for key in licensing().license_keys(node)}
    expression = " AND ".join(f"({one})" if " OR " in one and len(licences) > 1 else one for one in licences if one)
    found: list[Notice] = []
    for path, text in texts:
        if not _applies(path, files, ids):
            continue
        own = copyright_lines(text)
        body = COPYRIGHT.sub("", text).strip() or "(copyright lines alone)"
        known = list(dict.fromkeys(cut_texts(bare_words(text))[0]))
        holder = Holder(who=name, version=version, lines=tuple(own))
        licence = "" if is_notice(path.rpartition("/")[2]) else known[0] if len(known) == 1 else expression
        found.append(Notice(licence=licence, text=body, holders=(holder,)))
    holder = Holder(who=name, version=version, lines=tuple(lines))
    if not any(one.licence for one in found):
        found.append(Notice(licence=expression, text="", holders=(holder,)))
    elif lines:
        first = next(number for number, one in enumerate(found) if one.licence)
        found.append(Notice(licence=found[first].licence, text=found[first].text, holders=(holder,)))
    return found


def _applies(path: str, files: set[str], ids: set[str]) -> bool:
    """Whether a text speaks of the kept files: it lies at the top, or above one of them. REUSE's folder LICENSES has a
    text a licence, under its id."""
    place = INFO.sub("", path) if INFO.match(path) else path
    folder, _, name = place.rpartition("/")
    if folder == "LICENSES":
        return PurePosixPath(name).stem in ids
    if not folder or folder.split("/")[0].endswith((".dist-info", ".egg-info")):
        return True
    return any(file.startswith(f"{folder}/") for file in files)
