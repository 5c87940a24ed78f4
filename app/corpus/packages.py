"""Packaged Python as corpus: the environment, the standard library, wheels and source trees, each licence judged.

Paths inside a distribution keep their package-relative form for the attribution. Vendored code lies under other
licences than its distribution, so it is left out. Read by `app.corpus.sources`.
"""

import fnmatch
import platform
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from importlib import metadata
from pathlib import Path
from typing import cast

from app.corpus.licences import LicenceVerdict, judge_expression, judge_licence
from app.corpus.recipes import CodeSource, InstalledPython, StandardLibrary, Tree, Wheels
from app.errors import UserError

FOREIGN = ("site-packages", "dist-packages", "node_modules", "venv", "env")
VENDORED = (
    "_vendor",
    "vendor",
    "vendored",
    "_vendored",
    "third_party",
    "thirdparty",
    "thirdparty_files",
    "extern",
    "externals",
)
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
HOMEPAGE_LABELS = ("homepage", "home", "repository", "source", "source code", "github", "documentation")
LICENCE_FILES = ("LICEN[CS]E*", "COPYING*", "UNLICENSE*")
TREE_MARKS = ("pyproject.toml", "setup.py", "setup.cfg", "PKG-INFO")


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
    """Of its source, for `draw_files`."""
    rejected: tuple[tuple[str, str], ...] = ()
    """Path and reason of the files that were refused unread: vendored code, rows of a table."""


def local_distributions(source: CodeSource, allow: frozenset[str]) -> Iterator[Distribution]:
    """What a source of packaged Python holds; nothing for one of another kind. Raises UserError for a path without."""
    match source:
        case InstalledPython():
            yield from installed(allow)
        case StandardLibrary():
            yield standard_library(allow)
        case Wheels():
            yield from (wheel(path, allow) for path in wheels_in(source.path))
        case Tree():
            yield from (source_tree(path, allow) for path in trees_in(source.path))


def installed(allow: frozenset[str]) -> Iterator[Distribution]:
    """Every distribution of the environment that runs this."""
    for item in metadata.distributions():
        files = item.files or []
        texts = [Path(str(item.locate_file(f))) for f in files if _is_own_licence(str(f))]
        python = [SourceFile(path=str(f), location=str(item.locate_file(f))) for f in files if _is_python(str(f))]
        header = cast(Message, item.metadata)  # an email message; the protocol names fewer methods
        yield _distribution(header, [t.read_text(errors="replace") for t in texts if t.is_file()], python, allow)


def standard_library(allow: frozenset[str]) -> Distribution:
    """Lib without site-packages and NOT_LIBRARY; Python is distributed under PSF-2.0."""
    folder = Path(sysconfig.get_path("stdlib"))
    relative = [file.relative_to(folder) for file in sorted(folder.rglob("*.py"))]
    kept = [str(path) for path in relative if not {*path.parts[:-1]} & {*NOT_LIBRARY, *FOREIGN}]
    return Distribution(
        name="python",
        version=platform.python_version(),
        author="Python Software Foundation",
        homepage="https://www.python.org",
        verdict=judge_expression("PSF-2.0", also_allow=allow),
        files=tuple(SourceFile(path=path, location=str(folder / path)) for path in kept),
    )


def wheels_in(path_text: str) -> list[Path]:
    found = sorted(path for path in _folder(path_text).iterdir() if path.suffix == ".whl")
    if not found:
        raise UserError(f"source path {path_text!r} holds no .whl file: give the folder of the wheels")
    return found


def trees_in(path_text: str) -> list[Path]:
    folder = _folder(path_text)
    if is_tree(folder):
        return [folder]
    found = sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    if not found:
        raise UserError(f"source path {path_text!r} holds no Python and no folder: give a source tree")
    return found


def is_tree(folder: Path) -> bool:
    """A source tree has a packaging, licence or Python file at its top; else the folders in it are the trees."""
    return any(
        child.name in TREE_MARKS or child.suffix == ".py" or _is_licence(child.name)
        for child in folder.iterdir()
        if child.is_file()
    )


def _folder(path_text: str) -> Path:
    folder = Path(path_text).expanduser().resolve()  # read later, by processes that run elsewhere
    if not folder.is_dir():
        raise UserError(f"source path {path_text!r} is no folder: give one that exists")
    return folder


def wheel(path: Path, allow: frozenset[str]) -> Distribution:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            info = next(name for name in names if name.endswith(".dist-info/METADATA"))
            header = HeaderParser().parsestr(archive.read(info).decode("utf-8", "replace"))
            texts = [archive.read(n).decode("utf-8", "replace") for n in names if _is_own_licence(n)]
    except (zipfile.BadZipFile, StopIteration):
        raise UserError(f"{path} is no readable wheel: remove it from the source folder or fetch it again") from None
    files = [SourceFile(path=name, location=name, archive=str(path)) for name in names if _is_python(name)]
    return _distribution(header, texts, files, allow)


def source_tree(path: Path, allow: frozenset[str]) -> Distribution:
    header = Message()
    if (path / "PKG-INFO").is_file():
        header = HeaderParser().parsestr((path / "PKG-INFO").read_text(errors="replace"))
    elif (path / "pyproject.toml").is_file():
        header = _pyproject_header(path / "pyproject.toml")
    if not header["Name"]:
        header["Name"] = path.name
    texts = [
        file.read_text(errors="replace") for file in sorted(path.iterdir()) if file.is_file() and _is_licence(file.name)
    ]
    relative = [str(file.relative_to(path)) for file in sorted(path.rglob("*.py"))]
    return _distribution(
        header, texts, [SourceFile(path=r, location=str(path / r)) for r in relative if _is_python(r)], allow
    )


def _pyproject_header(path: Path) -> Message:
    """The core metadata that a pyproject.toml declares (PEP 621, PEP 639), as the header of a METADATA file."""
    header = Message()
    try:
        project = tomllib.loads(path.read_text(errors="replace")).get("project", {})
    except tomllib.TOMLDecodeError:
        return header
    licence = project.get("license")
    for key, value in (("Name", project.get("name")), ("Version", project.get("version"))):
        if value:
            header[key] = value
    if isinstance(licence, str):
        header["License-Expression"] = licence
    elif isinstance(licence, dict) and licence.get("text"):
        header["License"] = licence["text"]
    for classifier in project.get("classifiers", ()):
        header["Classifier"] = classifier
    if names := [author["name"] for author in project.get("authors", ()) if author.get("name")]:
        header["Author"] = ", ".join(names)
    for label, url in project.get("urls", {}).items():
        header["Project-URL"] = f"{label}, {url}"
    return header


def _distribution(header: Message, texts: list[str], files: list[SourceFile], allow: frozenset[str]) -> Distribution:
    files = sorted(files, key=lambda file: file.path)
    verdict = judge_licence(
        expression=header.get("License-Expression"),
        classifiers=[str(c) for c in header.get_all("Classifier", [])],
        field=header.get("License"),
        licence_texts=texts,
        also_allow=allow,
    )
    labelled = [str(url).partition(",") for url in header.get_all("Project-URL", [])]
    urls = {label.strip().lower(): url.strip() for label, _, url in labelled}
    best = next((urls[label] for label in HOMEPAGE_LABELS if label in urls), next(iter(urls.values()), ""))
    return Distribution(
        name=str(header.get("Name")),
        version=str(header.get("Version") or ""),
        author=str(next(filter(None, map(header.get, AUTHOR_FIELDS)), "")),
        homepage=str(header.get("Home-Page") or best),
        verdict=verdict,
        files=tuple(file for file in files if not vendored_in(file.path)),
        rejected=tuple((f.path, f"vendored: in {vendored_in(f.path)}") for f in files if vendored_in(f.path)),
    )


def _is_licence(name: str) -> bool:
    return any(fnmatch.fnmatch(name.upper(), pattern) for pattern in LICENCE_FILES)


def _is_own_licence(path: str) -> bool:
    """NAME.dist-info/LICENSE or NAME.dist-info/licenses/LICENSE (PEP 639); deeper ones are those of bundled code."""
    parts = Path(path).parts
    folder = parts[:-1]
    return (
        _is_licence(parts[-1])
        and bool(folder)
        and folder[0].endswith(".dist-info")
        and folder[1:] in ((), ("licenses",))
    )


def _is_python(path: str) -> bool:
    """A Python file that belongs to the tree: not inside an environment or a hidden folder of it."""
    return path.endswith(".py") and not any(part in FOREIGN or part.startswith(".") for part in Path(path).parts[:-1])


def vendored_in(path: str) -> str:
    """The folder that says that the file is a copy of other people's; empty where there is none."""
    return next((part for part in Path(path).parts[:-1] if part in VENDORED + FOREIGN), "")
