"""Which licence governs each file of a package: what names the file, else the nearest folder above.

A file is named by FILE.license beside it and by REUSE.toml or .reuse/dep5; a folder names a licence by licence files
and by packaging metadata in it (pyproject.toml, setup.cfg, setup.py, PKG-INFO). In a wheel the licence files under
NAME.dist-info/licenses/FOLDER govern FOLDER. A part may be under another permissive licence than its package, which is
then that of its files; one that the package does not declare otherwise (a GPL folder in an MIT package) is left out.

Limits: what a file's own head says is read later (`headers`), and both count. REUSE's `precedence` is not read.
"""

import dataclasses
import fnmatch
import functools
import re
import tomllib
from collections.abc import Mapping
from pathlib import PurePosixPath

from app.corpus.sources.agreement import contradiction, covered, judge_package
from app.corpus.sources.licence_texts import licence_table
from app.corpus.sources.licences import LicenceVerdict, judge_expression
from app.corpus.sources.package_headers import METADATA, declared

SPDX = re.compile(r"SPDX-License-Identifier:\s*([^\r\n#*\"']+)")
LICENCE_FILE = re.compile(
    r"(?:UN)?LICEN[CS]ES?(?:[-_. ].*)?|COPYING.*|COPYRIGHT(?:\..*)?|EULA.*|.+[-_. ]LICEN[CS]E(?:\.\w+)?", re.I
)
NO_TEXT = re.compile(
    r"\.(?:pyi?|pyc|so|pyd|jsx?|tsx?|css|map|json|ya?ml|toml|cfg|ini|xml|csv|html?|h|c|cc|cpp|hpp|rs|go|sh|png|svg|gz|zip)$",
    re.I,
)
NOTICE_FILE = re.compile(r"NOTICES?(?:\.(?:txt|md|rst))?", re.I)
_BESIDE = re.compile(r"\.\w+\.license$")
"""REUSE's FILE.license, which speaks of that file alone."""
REUSE_FILES = ("REUSE.toml", ".reuse/dep5")
INFO = re.compile(r"^[^/]+\.dist-info/licenses/(?:src/|lib/)?(?=[^/]+/)")


def is_licence(name: str) -> bool:
    """Whether a file of that name holds a licence's text."""
    return bool(LICENCE_FILE.fullmatch(name)) and not NO_TEXT.search(name) and not _BESIDE.search(name)


def is_notice(name: str) -> bool:
    """Whether it is a NOTICE file, which Apache-2.0 (section 4d) asks to be passed on. It names no licence."""
    return bool(NOTICE_FILE.fullmatch(name))


def is_rights_file(path: str) -> bool:
    """Whether a file of that path says under what others lie, or what has to be passed on with them."""
    name = path.rpartition("/")[2]
    return name in METADATA or is_licence(name) or is_notice(name) or path.endswith((".py.license", *REUSE_FILES))


class Rights:
    """The licences of a package's files."""

    def __init__(self, top: LicenceVerdict, texts: Mapping[str, str], also_allow: frozenset[str]) -> None:
        """Take what rights files hold. top: of the whole; texts: by path, those of the top may be among them."""
        self._top, self._allow, self.texts = top, also_allow, texts
        self._of_file = {path: text for path, text in texts.items() if path.endswith(".py.license")}
        self._folders: dict[str, dict[str, str]] = {}
        self._annotated: list[tuple[str, re.Pattern[str], str]] = []
        for path, text in texts.items():
            place = INFO.sub("", path) if INFO.match(path) else path
            folder, _, name = place.rpartition("/")
            if path.endswith(REUSE_FILES):
                self._annotated += _annotations(path, text)
            elif _governs(folder) and (name in METADATA or is_licence(name)):
                self._folders.setdefault(folder, {})[name] = text
        self._judged: dict[str, LicenceVerdict | None] = {}

    @property
    def is_plain(self) -> bool:
        """Whether the whole is under one licence."""
        return not (self._of_file or self._folders or self._annotated)

    def of(self, path: str) -> LicenceVerdict:
        """Verdict on a file; `evidence` names what says so."""
        if text := self._of_file.get(f"{path}.license"):
            found = [match[1].strip() for match in SPDX.finditer(text)]
            return self._checked(_all_of(found, self._allow), f"{path}.license")
        for source, pattern, expression in reversed(self._annotated):
            if pattern.fullmatch(path):
                return self._checked(judge_expression(expression, also_allow=self._allow), source)
        for folder in _above(path.rpartition("/")[0]):
            if folder in self._folders and (verdict := self._of_folder(folder)):
                return verdict
        return self._top

    def tagged(self, text: str) -> LicenceVerdict | None:
        """Verdict on the SPDX tags in a file's text; None where there are none."""
        found = [match[1].strip() for match in SPDX.finditer(text)]
        return dataclasses.replace(_all_of(found, self._allow), evidence="SPDX tag in the file") if found else None

    def _of_folder(self, folder: str) -> LicenceVerdict | None:
        """Verdict on what lies in a folder; None where its files name no licence."""
        if folder not in self._judged:
            held = self._folders[folder]
            header, named = declared(held)
            texts = [text for name, text in held.items() if is_licence(name)]
            texts += [held[name] for name in named if name in held and not is_licence(name)]
            verdict = judge_package(header, texts, self._allow)
            source = f"{folder}/{next((name for name in held if is_licence(name)), next(iter(held)))}"
            if not verdict.approved and verdict.evidence == "file" and self._top.approved and self._top.licence:
                # A text that is not known word for word belongs to the whole where it names the same licence.
                reason = contradiction(tuple(texts), self._top.licence)
                verdict = dataclasses.replace(verdict, reason=reason, evidence="file" if reason else "none")
            self._judged[folder] = None if verdict.evidence == "none" else self._checked(verdict, source)
        return self._judged[folder]

    def _checked(self, verdict: LicenceVerdict, source: str) -> LicenceVerdict:
        """The verdict on a part, held against the whole."""
        reason = verdict.reason and f"{source}: {verdict.reason}"
        package = self._top.licence if self._top.approved else ""
        if verdict.approved and package and not covered(verdict.licence, package, licence_table()["permissive"]):
            reason = f"{source}: {verdict.licence} in a package under {package}."
        return dataclasses.replace(verdict, approved=not reason, evidence=source, reason=reason)


@functools.lru_cache(maxsize=4096)  # a folder's files come one after the other
def _above(folder: str) -> tuple[str, ...]:
    """The folder and those above it, the innermost first."""
    path = PurePosixPath(folder)
    return str(path), *map(str, path.parents)


def _governs(folder: str) -> bool:
    """Whether what names a licence in the folder speaks of what lies in it; LICENSES holds texts alone (REUSE)."""
    return bool(folder) and folder != "LICENSES" and not folder.split("/")[0].endswith((".dist-info", ".egg-info"))


def _all_of(expressions: list[str], allow: frozenset[str]) -> LicenceVerdict:
    return judge_expression(" AND ".join(f"({one})" for one in dict.fromkeys(expressions)), also_allow=allow)


def _annotations(path: str, text: str) -> list[tuple[str, re.Pattern[str], str]]:
    """What REUSE.toml or .reuse/dep5 says: source, pattern of paths and expression, the last that matches counts."""
    if path.endswith("dep5"):
        paragraphs = re.split(r"\n\s*\n", text)
        found = [(_field(part, "Files"), _field(part, "License")) for part in paragraphs]
        base = path.removesuffix(".reuse/dep5")
        return [
            (path, re.compile(fnmatch.translate(base + glob)), licence)
            for globs, licence in found
            for glob in globs.split()
            if licence
        ]
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return []
    base, made = path.removesuffix("REUSE.toml"), []
    held = data.get("annotations")
    for one in held if isinstance(held, list) else []:
        if not isinstance(one, dict):
            continue
        licence = " AND ".join(f"({name})" for name in _texts(one.get("SPDX-License-Identifier")))
        made += [(path, _toml_glob(base, glob), licence) for glob in _texts(one.get("path")) if licence]
    return made


def _field(paragraph: str, name: str) -> str:
    """A field of a Debian copyright file: its first line, with lines that go on where it is one of several words."""
    match = re.search(rf"^{name}:[ \t]*([^\n]*(?:\n[ \t]+[^\n]+)*)", paragraph, re.M)
    value = match[1] if match else ""
    return value if name == "Files" else value.partition("\n")[0].strip()


def _texts(value: object) -> list[str]:
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str) and one.strip()]


@functools.cache
def _toml_glob(base: str, glob: str) -> re.Pattern[str]:
    """REUSE.toml's patterns: `*` stays in a folder, `**` does not."""
    parts = re.split(r"(\*\*|\*)", glob)
    return re.compile(
        re.escape(base) + "".join({"**": ".*", "*": "[^/]*"}.get(part, re.escape(part)) for part in parts)
    )
