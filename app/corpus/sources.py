"""Where corpus files come from: installed distributions, wheels and source trees, each with its licence judged.

A recipe (datasets/recipes/*.yaml) names the sources. Paths inside a distribution keep their package-relative form for
the attribution. Vendored code lies under other licences than its distribution, so it is left out; so are files whose
own SPDX header names a licence that is not approved (see `cleaning`).
"""

import fnmatch
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal, cast

import yaml
from pydantic import Field

from app.corpus.licences import LicenceVerdict, judge_licence
from app.errors import UserError
from app.runs import REPOSITORY
from app.settings import Settings, parse_settings

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
HOMEPAGE_LABELS = ("homepage", "home", "repository", "source", "source code", "github", "documentation")
LICENCE_FILES = ("LICEN[CS]E*", "COPYING*", "UNLICENSE*")


class InstalledSource(Settings):
    """Every distribution in the environment that runs this."""

    kind: Literal["installed"]
    exclude: tuple[str, ...] = ()
    """Distribution names, shell patterns."""


class DirectorySource(Settings):
    """Wheels and unpacked source trees, the direct children of a folder."""

    kind: Literal["directory"]
    path: str


class Cleaning(Settings):
    """Thresholds after StarCoder (arXiv 2305.06161, section 3.1)."""

    max_bytes: int = Field(default=400_000, ge=100)
    min_chars: int = Field(default=100, ge=0)
    max_line_chars: int = Field(default=1000, ge=80)
    max_mean_line_chars: int = Field(default=100, ge=20)
    min_alphanumeric: float = Field(default=0.25, ge=0, le=1)
    min_docstring_chars: int = Field(default=20, ge=0)


class Forms(Settings):
    """Share of the documents that appear in each form, drawn by hash."""

    chat: float = Field(default=1.0, ge=0, le=1)
    completion: float = Field(default=1.0, ge=0, le=1)
    file: float = Field(default=0.05, ge=0, le=1)


class Recipe(Settings):
    """A corpus: its sources, thresholds and forms. Read from YAML by `load_recipe`."""

    name: str = Field(min_length=1)
    sources: tuple[Annotated[InstalledSource | DirectorySource, Field(discriminator="kind")], ...] = Field(min_length=1)
    also_allow: tuple[str, ...] = ()
    """SPDX ids to accept although the OSI has not approved them, for example CC0-1.0."""
    cleaning: Cleaning = Cleaning()
    forms: Forms = Forms()


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One file: its path inside the distribution, and where to read it (a member when `archive` is a wheel)."""

    path: str
    location: str
    archive: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """A distribution, its licence verdict and its Python files. Made here; read by the corpus build."""

    name: str
    version: str
    author: str
    homepage: str
    verdict: LicenceVerdict
    files: tuple[SourceFile, ...]


def load_recipe(path_text: str) -> Recipe:
    path = Path(path_text) if Path(path_text).is_absolute() else REPOSITORY / path_text
    try:
        data = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        known = ", ".join(
            sorted(str(p.relative_to(REPOSITORY)) for p in (REPOSITORY / "datasets/recipes").glob("*.yaml"))
        )
        raise UserError(
            f"recipe {path_text!r} does not exist: set corpus.recipe to one of {known}, or to a file of yours"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"recipe {path_text!r} can't be read ({' '.join(str(error).split())}): mend the file") from None
    return parse_settings(Recipe, data, f"recipe {path_text!r}")


def find_distributions(recipe: Recipe) -> list[Distribution]:
    """All distributions of the recipe's sources, by name; of two with one name the first source wins."""
    found: dict[str, Distribution] = {}
    for source in recipe.sources:
        allow = frozenset(recipe.also_allow)
        items = _installed(source, allow) if isinstance(source, InstalledSource) else _directory(source, allow)
        for distribution in items:
            found.setdefault(distribution.name.lower().replace("_", "-"), distribution)
    return [found[name] for name in sorted(found)]


def _installed(source: InstalledSource, allow: frozenset[str]) -> Iterator[Distribution]:
    for item in metadata.distributions():
        if any(fnmatch.fnmatch(item.name, pattern) for pattern in source.exclude):
            continue
        files = item.files or []
        texts = [Path(str(item.locate_file(f))) for f in files if _is_own_licence(str(f))]
        python = [SourceFile(path=str(f), location=str(item.locate_file(f))) for f in files if _is_source(str(f))]
        header = cast(Message, item.metadata)  # an email message; the protocol names fewer methods
        yield _distribution(header, [t.read_text(errors="replace") for t in texts if t.is_file()], python, allow)


def _directory(source: DirectorySource, allow: frozenset[str]) -> Iterator[Distribution]:
    folder = Path(source.path).expanduser()
    if not folder.is_dir():
        raise UserError(f"source path {source.path!r} is no folder: give a folder that holds wheels or source trees")
    for child in sorted(folder.iterdir()):
        if child.suffix == ".whl":
            yield _wheel(child, allow)
        elif child.is_dir() and not child.name.startswith("."):
            yield _source_tree(child, allow)


def _wheel(path: Path, allow: frozenset[str]) -> Distribution:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            info = next(name for name in names if name.endswith(".dist-info/METADATA"))
            header = HeaderParser().parsestr(archive.read(info).decode("utf-8", "replace"))
            texts = [archive.read(n).decode("utf-8", "replace") for n in names if _is_own_licence(n)]
    except (zipfile.BadZipFile, StopIteration):
        raise UserError(f"{path} is no readable wheel: remove it from the source folder or fetch it again") from None
    files = [SourceFile(path=name, location=name, archive=str(path)) for name in names if _is_source(name)]
    return _distribution(header, texts, files, allow)


def _source_tree(path: Path, allow: frozenset[str]) -> Distribution:
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
        header, texts, [SourceFile(path=r, location=str(path / r)) for r in relative if _is_source(r)], allow
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
    return header


def _distribution(header: Message, texts: list[str], files: list[SourceFile], allow: frozenset[str]) -> Distribution:
    verdict = judge_licence(
        expression=header["License-Expression"],
        classifiers=[str(c) for c in header.get_all("Classifier", [])],
        field=header["License"],
        licence_texts=texts,
        also_allow=allow,
    )
    labelled = [str(url).partition(",") for url in header.get_all("Project-URL", [])]
    urls = {label.strip().lower(): url.strip() for label, _, url in labelled}
    best = next((urls[label] for label in HOMEPAGE_LABELS if label in urls), next(iter(urls.values()), ""))
    return Distribution(
        name=str(header["Name"]),
        version=str(header["Version"] or ""),
        author=str(
            header["Author"] or header["Author-Email"] or header["Maintainer"] or header["Maintainer-Email"] or ""
        ),
        homepage=str(header["Home-Page"] or best),
        verdict=verdict,
        files=tuple(sorted(files, key=lambda file: file.path)),
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


def _is_source(path: str) -> bool:
    parts = Path(path).parts
    folders = parts[:-1]
    return path.endswith(".py") and not any(part in VENDORED + FOREIGN or part.startswith(".") for part in folders)
