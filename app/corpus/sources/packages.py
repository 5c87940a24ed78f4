"""Packaged Python as corpus: the environment, the standard library, wheels and source trees, each licence judged.

A distribution that can't be read is there as rejected, with the reason, and ends nothing; so is each of its files.
Paths inside a distribution keep their package-relative form for the attribution. Vendored code lies under other
licences than its distribution, so it is left out. Read by `app.corpus.sources.find`.
"""

import dataclasses
import functools
import os
import platform
import re
import sys
import sysconfig
import zipfile
from collections.abc import Callable, Iterable, Iterator
from email.parser import HeaderParser
from importlib import metadata
from pathlib import Path
from typing import TypeVar

from app.corpus.recipes import CodeSource, InstalledPython, StandardLibrary, Tree, Wheels
from app.corpus.records import RejectedFileError
from app.corpus.sources.agreement import judge_package
from app.corpus.sources.distributions import Distribution, SourceFile, distribution_of
from app.corpus.sources.folders import FOREIGN, folders_of
from app.corpus.sources.licences import LicenceVerdict, judge_expression, judge_stated
from app.corpus.sources.package_headers import (
    METADATA,
    declared,
    info_header,
    info_text,
    named_by_folder,
    recorded,
)
from app.corpus.sources.rights import Rights, is_licence, is_rights_file
from app.corpus.sources.untrusted import (
    MAX_TEXT_BYTES,
    decoded,
    found_files,
    odd_path,
    python_files,
    python_members,
    read_member,
    read_text,
    why,
)
from app.errors import UserError
from app.files.text import one_line, shown
from app.files.user_files import user_path

NOT_LIBRARY = (
    "test",
    "tests",
    "idlelib",
    "idle_test",
    "turtledemo",
    "lib2to3",
    "ensurepip",
    "pydoc_data",
    "lib-dynload",
)
"""Folders of Lib that teach nothing about the library: its tests and their data, demos, and tables made by programs."""
UNJUDGED = ("duplicate", "unreadable", "empty")
"""Kinds of reasons of distributions whose licence was not looked at."""
ABOUT_PEOPLE = re.compile(r"(?i)(?:AUTHORS|CONTRIBUTORS|CREDITS|MAINTAINERS|NOTICE|README|THANKS)(?:\W|$)")
"""Files that packaging metadata name among the licence files and that hold no terms."""
TREE_MARKS = (*METADATA, "requirements.txt", "Pipfile", "tox.ini", "environment.yml", ".git", "LICENSES", "REUSE.toml")


_Item = TypeVar("_Item")


def local_distributions(source: CodeSource, allow: frozenset[str]) -> Iterator[Distribution]:
    """What a source of packaged Python holds; nothing for one of another kind. Raises UserError for a path without."""
    match source:
        case InstalledPython():
            yield from installed(allow)
        case StandardLibrary():
            yield standard_library(allow)
        case Wheels():
            yield from _each(wheels_in(source.path), wheel, lambda path: path.name.partition("-")[0], allow)
        case Tree():
            tree = functools.partial(source_tree, stated=source.licence)
            yield from _each(trees_in(source.path), tree, lambda path: path.name, allow)


def _each(
    items: Iterable[_Item],
    make: Callable[[_Item, frozenset[str]], Distribution],
    name_of: Callable[[_Item], str],
    allow: frozenset[str],
) -> Iterator[Distribution]:
    """A distribution for each item; one that can't be read has the reason as its verdict."""
    for item in items:
        try:
            yield make(item, allow)
        except Exception as error:  # whatever a package holds is its own matter: it ends no build
            reason = str(error) if isinstance(error, RejectedFileError) else why(error)
            kind, colon, rest = reason.partition(": ")
            reason = reason if kind in UNJUDGED else f"unreadable: {kind}{colon}{rest}"
            verdict = LicenceVerdict(approved=False, licence="", evidence="none", reason=reason)
            name = one_line(shown(name_of(item))) or "(no name)"
            yield Distribution(name=name, version="", author="", homepage="", verdict=verdict, files=())


def installed(allow: frozenset[str]) -> Iterator[Distribution]:
    """Every distribution of the environment that runs this."""
    yield from _each(metadata.distributions(), _installed, lambda item: named_by_folder(item)[0], allow)


def _installed(item: metadata.Distribution, allow: frozenset[str]) -> Distribution:
    name, version = named_by_folder(item)
    header = info_header(item)
    paths = recorded(info_text(item, "RECORD")) or [str(file) for file in item.files or ()]
    places = {path: Path(str(item.locate_file(path))) for path in paths if is_rights_file(path) and not odd_path(path)}
    rights = {path: read_text(place) for path, place in places.items() if place.is_file()}
    folder = item.locate_file("")
    python = [
        (SourceFile(path=shown(path), location=f"{folder}/{path}"), reason)
        for path in paths
        if path.endswith(".py") and ((reason := odd_path(path)) or _is_python(path))
    ]
    verdict = judge_package(header, [text for path, text in rights.items() if _is_own_licence(path)], allow)
    return distribution_of(header, verdict, python, Rights(verdict, rights, allow), name, version)


def standard_library(allow: frozenset[str]) -> Distribution:
    """Lib without site-packages and NOT_LIBRARY; Python is distributed under PSF-2.0."""
    folder = Path(sysconfig.get_path("stdlib"))
    found = sorted(python_files(folder, {*NOT_LIBRARY, *FOREIGN}))
    return Distribution(
        name="python",
        version=platform.python_version(),
        author="Python Software Foundation",
        homepage="https://www.python.org",
        verdict=judge_expression("PSF-2.0", also_allow=allow),
        files=tuple(SourceFile(path=path, location=str(folder / path)) for path, reason in found if not reason),
        rejected=tuple((shown(path), reason) for path, reason in found if reason),
        texts=_texts_of_python(folder),
    )


def _texts_of_python(folder: Path) -> tuple[tuple[str, str], ...]:
    """Python's licence, where its installation has it; else its copyright lines."""
    places = [place / name for place in (folder, Path(sys.base_prefix)) for name in ("LICENSE.txt", "LICENSE")]
    there = next((place for place in places if place.is_file()), None)
    return (("LICENSE", read_text(there) if there else sys.copyright),)


def wheels_in(path_text: str) -> list[Path]:
    found = [path for path in _children(_folder(path_text)) if path.suffix == ".whl"]
    if not found:
        raise UserError(f"source path {path_text!r} holds no .whl file: give the folder of the wheels")
    return found


def trees_in(path_text: str) -> list[Path]:
    folder = _folder(path_text)
    if is_tree(folder):
        return [folder]
    found = [
        child
        for child in _children(folder)
        if (child.is_dir() or child.is_symlink()) and not child.name.startswith(".")
    ]
    if not found:
        raise UserError(f"source path {path_text!r} holds no Python and no folder: give a source tree")
    return found


def is_tree(folder: Path) -> bool:
    """Whether a folder is a source tree: it has a packaging, licence or Python file at its top, a folder src, or a
    README and no project in it. Else the folders in it are."""
    if _is_project(folder) or any(c.name == "src" or (c.suffix == ".py" and c.is_file()) for c in _children(folder)):
        return True
    has_readme = any(child.name.upper().startswith("README") for child in _children(folder))
    readable = (c for c in _children(folder) if c.is_dir() and os.access(c, os.R_OK | os.X_OK))
    return has_readme and not any(map(_is_project, readable))


def _is_project(folder: Path) -> bool:
    return any(c.name in TREE_MARKS or (is_licence(c.name) and c.is_file()) for c in _children(folder))


def _folder(path_text: str) -> Path:
    folder = user_path(path_text).resolve()  # read later, by processes that run elsewhere
    if not folder.is_dir():
        raise UserError(f"source path {path_text!r} is no folder: give one that exists")
    return folder


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"source path {shown(str(folder))!r} can't be read ({error.strerror}): allow it") from None


def wheel(path: Path, allow: frozenset[str]) -> Distribution:
    """The distribution in a wheel. Raises RejectedFileError, zipfile's and zlib's errors for one that can't be read."""
    if not path.is_file():
        raise RejectedFileError("unreadable: no regular file")
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        infos = [name for name in names if name.endswith(".dist-info/METADATA") and name.count("/") == 1]
        if not infos:
            raise RejectedFileError("unreadable: no METADATA")
        header = HeaderParser().parsestr(_member_text(archive, infos[0]))
        rights = {name: _member_text(archive, name) for name in dict.fromkeys(names) if is_rights_file(name)}
        members = list(python_members(archive.infolist()))
    files = [
        (SourceFile(path=shown(name.replace("\\", "/").rstrip("/")), location=name, archive=str(path)), reason)
        for name, reason in members
        if reason or _is_python(name)
    ]
    verdict = judge_package(header, [text for name, text in rights.items() if _is_own_licence(name)], allow)
    return distribution_of(header, verdict, files, Rights(verdict, rights, allow), *path.name.split("-")[:2])


def _member_text(archive: zipfile.ZipFile, name: str) -> str:
    return decoded(read_member(archive, name, MAX_TEXT_BYTES))


def source_tree(path: Path, allow: frozenset[str], stated: str = "") -> Distribution:
    """The distribution in a source tree. stated: what its owner says of the licence (`Tree.licence`). Raises
    RejectedFileError and OSError for one whose metadata or licence can't be read."""
    rights = {name: read_text(path / name) for name in found_files(path, FOREIGN, is_rights_file)}
    header, named = declared({name: text for name, text in rights.items() if "/" not in name})
    texts = {name: text for name, text in rights.items() if "/" not in name and is_licence(name)}
    for pattern in named:
        if not odd_path(pattern):
            files = [
                file for file in sorted(path.glob(pattern)) if file.is_file() and not ABOUT_PEOPLE.match(file.name)
            ]
            texts |= {str(file): read_text(file) for file in files}
    found = [
        (SourceFile(path=shown(relative), location=str(path / relative)), reason)
        for relative, reason in python_files(path, FOREIGN)
    ]
    if not found:
        raise RejectedFileError("empty: no Python file")
    verdict = judge_package(header, _once(texts.values()), allow)
    if stated and not verdict.approved:
        verdict = _stated(stated, verdict, allow)
    made = distribution_of(header, verdict, found, Rights(verdict, rights, allow), shown(path.name))
    named_texts = [(Path(name).name, text) for name, text in texts.items() if name not in rights and text.strip()]
    return dataclasses.replace(made, folder=str(path), texts=(*made.texts, *named_texts))


def _once(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _stated(stated: str, found: LicenceVerdict, allow: frozenset[str]) -> LicenceVerdict:
    """What an owner states, for a tree that names no licence or keeps all rights. An open licence is not believed where
    the tree's own words say otherwise."""
    verdict = judge_stated(stated, also_allow=allow)
    if verdict.approved and "LicenseRef-" not in verdict.licence and found.evidence != "none":
        return dataclasses.replace(found, reason=f"The recipe states {verdict.licence}, but: {found.reason}")
    return verdict


def _is_own_licence(path: str) -> bool:
    """Whether it is NAME.dist-info/LICENSE or NAME.dist-info/licenses/LICENSE (PEP 639); deeper ones belong to bundled
    code."""
    *folders, name = path.replace("\\", "/").split("/")
    return (
        bool(folders) and folders[0].endswith(".dist-info") and folders[1:] in ([], ["licenses"]) and is_licence(name)
    )


def _is_python(path: str) -> bool:
    """Whether a Python file belongs to the tree: not inside an environment or a hidden folder of it."""
    return path.endswith(".py") and not any(part in FOREIGN or part.startswith(".") for part in folders_of(path))
