"""Packaged Python as corpus: the environment, the standard library, wheels and source trees, each licence judged.

A distribution that can't be read is there as rejected, with the reason, and ends nothing; so is each of its files.
Paths inside a distribution keep their package-relative form for the attribution. Vendored code lies under other
licences than its distribution, so it is left out. Read by `app.corpus.sources.find`.
"""

import fnmatch
import platform
import sysconfig
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from importlib import metadata
from pathlib import Path
from typing import TypeVar

from app.corpus.recipes import CodeSource, InstalledPython, StandardLibrary, Tree, Wheels
from app.corpus.records import RejectedFileError
from app.corpus.sources.folders import FOREIGN, folders_of, vendored_in
from app.corpus.sources.licences import LicenceVerdict, judge_expression, judge_licence
from app.corpus.sources.package_headers import (
    field,
    info_header,
    info_text,
    named_by_folder,
    pyproject_header,
    recorded,
)
from app.corpus.sources.untrusted import (
    MAX_TEXT_BYTES,
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
AUTHOR_FIELDS = ("Author", "Author-Email", "Maintainer", "Maintainer-Email")
MAX_FIELD_CHARS = 1000
HOMEPAGE_LABELS = ("homepage", "home", "repository", "source", "source code", "github", "documentation")
LICENCE_FILES = ("LICEN[CS]E*", "COPYING*", "UNLICENSE*")
UNJUDGED = ("duplicate", "unreadable")
"""Kinds of reasons of distributions whose licence was not looked at."""
TREE_MARKS = ("pyproject.toml", "setup.py", "setup.cfg", "PKG-INFO")


_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One file: its path inside the distribution, and where to read it.

    `location` is a path; a member's name when `archive` is a wheel; a row's number when `archive` is a Parquet file.
    """

    path: str
    location: str
    archive: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """A distribution, its licence verdict and its Python files. Made here; read by the corpus build.

    One that is not to be used has a verdict that says why, and no files.
    """

    name: str
    version: str
    author: str
    homepage: str
    verdict: LicenceVerdict
    files: tuple[SourceFile, ...]
    weight: float = 1.0
    """Weight of its source, for `draw_files`."""
    rejected: tuple[tuple[str, str], ...] = ()
    """Path and reason of the files that were refused unread: vendored code, links, pipes, rows of a table."""
    source: int = -1
    """Number of the recipe's source that it is of; -1: of none."""


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
            yield from _each(trees_in(source.path), source_tree, lambda path: path.name, allow)


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
    texts = [Path(str(item.locate_file(path))) for path in paths if _is_own_licence(path)]
    python = [
        (SourceFile(path=shown(path), location=str(item.locate_file(path))), odd_path(path))
        for path in paths
        if _is_python(path) or (path.endswith(".py") and odd_path(path))
    ]
    return _distribution(header, [read_text(t) for t in texts if t.is_file()], python, allow, name, version)


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
    )


def wheels_in(path_text: str) -> list[Path]:
    found = [path for path in _children(_folder(path_text)) if path.suffix == ".whl"]
    if not found:
        raise UserError(f"source path {path_text!r} holds no .whl file: give the folder of the wheels")
    return found


def trees_in(path_text: str) -> list[Path]:
    folder = _folder(path_text)
    if is_tree(folder):
        return [folder]
    found = [child for child in _children(folder) if child.is_dir() and not child.name.startswith(".")]
    if not found:
        raise UserError(f"source path {path_text!r} holds no Python and no folder: give a source tree")
    return found


def is_tree(folder: Path) -> bool:
    """Whether a folder is a source tree: it has a packaging, licence or Python file at its top. Else the folders in it
    are."""
    return any(
        child.name in TREE_MARKS or child.suffix == ".py" or _is_licence(child.name)
        for child in _children(folder)
        if child.is_file()
    )


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
        texts = [_member_text(archive, name) for name in dict.fromkeys(names) if _is_own_licence(name)]
        members = list(python_members(archive.infolist()))
    files = [
        (SourceFile(path=shown(name.replace("\\", "/").rstrip("/")), location=name, archive=str(path)), reason)
        for name, reason in members
        if reason or _is_python(name)
    ]
    return _distribution(header, texts, files, allow, *path.name.split("-")[:2])


def _member_text(archive: zipfile.ZipFile, name: str) -> str:
    return read_member(archive, name, MAX_TEXT_BYTES).decode("utf-8-sig", "replace")


def source_tree(path: Path, allow: frozenset[str]) -> Distribution:
    """The distribution in a source tree. Raises RejectedFileError and OSError for one whose metadata or licence can't
    be read."""
    header = Message()
    if (path / "PKG-INFO").is_file():
        header = HeaderParser().parsestr(read_text(path / "PKG-INFO"))
    elif (path / "pyproject.toml").is_file():
        header = pyproject_header(path / "pyproject.toml")
    texts = [read_text(file) for file in sorted(path.iterdir()) if file.is_file() and _is_licence(file.name)]
    found = [
        (SourceFile(path=shown(relative), location=str(path / relative)), reason)
        for relative, reason in python_files(path, FOREIGN)
    ]
    return _distribution(header, texts, found, allow, shown(path.name))


def _distribution(
    header: Message,
    texts: list[str],
    files: list[tuple[SourceFile, str]],
    allow: frozenset[str],
    name: str,
    version: str = "",
) -> Distribution:
    """A distribution, its licence judged. files: each with the reason why it can't be used, if any. name, version:
    where the header has none."""
    verdict = judge_licence(
        expression=field(header, "License-Expression"),
        classifiers=[str(c) for c in header.get_all("Classifier", [])],
        field=field(header, "License"),
        licence_texts=texts,
        also_allow=allow,
    )
    labelled = [str(url).partition(",") for url in header.get_all("Project-URL", [])]
    urls = {label.strip().lower(): url.strip() for label, _, url in labelled}
    best = next((urls[label] for label in HOMEPAGE_LABELS if label in urls), next(iter(urls.values()), ""))
    files = sorted(files, key=lambda file: file[0].path)
    judged = [(file, reason or _vendored(file.path)) for file, reason in files]
    return Distribution(
        name=one_line(field(header, "Name") or "") or one_line(name) or "(no name)",
        version=one_line(field(header, "Version") or version),
        author=one_line(next(filter(None, (field(header, name) for name in AUTHOR_FIELDS)), ""), MAX_FIELD_CHARS),
        homepage=one_line(field(header, "Home-Page") or best, MAX_FIELD_CHARS),
        verdict=verdict,
        files=tuple(file for file, reason in judged if not reason),
        rejected=tuple((file.path, reason) for file, reason in judged if reason),
    )


def _vendored(path: str) -> str:
    return f"vendored: in {folder}" if (folder := vendored_in(path)) else ""


def _is_licence(name: str) -> bool:
    return any(fnmatch.fnmatch(name.upper(), pattern) for pattern in LICENCE_FILES)


def _is_own_licence(path: str) -> bool:
    """Whether it is NAME.dist-info/LICENSE or NAME.dist-info/licenses/LICENSE (PEP 639); deeper ones belong to bundled
    code."""
    parts = Path(path).parts
    folder = parts[:-1]
    return (
        bool(folder)
        and _is_licence(parts[-1])
        and folder[0].endswith(".dist-info")
        and folder[1:] in ((), ("licenses",))
    )


def _is_python(path: str) -> bool:
    """Whether a Python file belongs to the tree: not inside an environment or a hidden folder of it."""
    return path.endswith(".py") and not any(part in FOREIGN or part.startswith(".") for part in folders_of(path))
