"""A distribution and its files, as every kind of source gives them: each file with its licence, or why it is refused.

Read by `app.corpus.sources.find` and all that comes after it.
"""

import dataclasses
import functools
import zipfile
from dataclasses import dataclass
from email.message import Message

from app.corpus.records import RejectedFileError
from app.corpus.sources import tables
from app.corpus.sources.folders import vendored_in
from app.corpus.sources.licences import LicenceVerdict
from app.corpus.sources.package_headers import field
from app.corpus.sources.rights import Rights
from app.corpus.sources.texts import kept_texts
from app.corpus.sources.untrusted import MAX_FILE_BYTES, read_member, read_regular, why
from app.files.text import one_line

AUTHOR_FIELDS = ("Author", "Author-Email", "Maintainer", "Maintainer-Email")
MAX_FIELD_CHARS = 1000
HOMEPAGE_LABELS = ("homepage", "home", "repository", "source", "source code", "github", "documentation")
FILE_BY_FILE = "file by file"
"""Evidence of a distribution that names no licence and holds files that do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One file: its path inside the distribution, and where to read it.

    `location` is a path; a member's name when `archive` is a wheel; a row's number when `archive` is a Parquet file.
    """

    path: str
    location: str
    archive: str = ""
    licence: str = ""
    """Its own, where that is another than its distribution's: SPDX expression."""
    evidence: str = ""
    """What says that this is its own."""


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
    texts: tuple[tuple[str, str], ...] = ()
    """Paths and texts of its licence and notice files (`sources.texts`)."""
    folder: str = ""
    """Where a source tree lies; empty for anything else."""
    source: int = -1
    """Number of the recipe's source that it is of; -1: of none."""


def under_others(held: Distribution) -> dict[str, frozenset[str]]:
    """For each own licence of its files the paths that are under others, or were refused for theirs; empty where there
    are none."""
    refused = {path for path, reason in held.rejected if reason.startswith("licence:")}
    licences = {file.licence for file in held.files}
    if not refused and len(licences) < 2:
        return {}
    return {one: frozenset(refused | {f.path for f in held.files if f.licence != one}) for one in licences}


def read_source(file: SourceFile, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """The file's bytes. Raises RejectedFileError with the reason for one that can't be read, isn't a regular file, or
    is larger."""
    if not file.archive:
        return read_regular(file.location, max_bytes)
    try:
        if file.archive.endswith(".parquet"):
            return tables.read_row(file.archive, int(file.location))
        return read_member(_archive(file.archive), file.location, max_bytes)
    except RejectedFileError:
        raise
    except Exception as error:  # an archive can be damaged in as many ways as its readers have errors
        raise RejectedFileError(why(error)) from None


@functools.lru_cache(maxsize=8)
def _archive(path: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def distribution_of(
    header: Message,
    verdict: LicenceVerdict,
    files: list[tuple[SourceFile, str]],
    rights: Rights,
    name: str,
    version: str = "",
) -> Distribution:
    """A distribution. files: each with the reason why it can't be used, if any. rights: which licence governs each.
    name, version: where the header has none."""
    labelled = [str(url).partition(",") for url in header.get_all("Project-URL", [])]
    urls = {label.strip().lower(): url.strip() for label, _, url in labelled}
    best = next((urls[label] for label in HOMEPAGE_LABELS if label in urls), next(iter(urls.values()), ""))
    files = sorted(files, key=lambda file: file[0].path)
    judged = [(file, reason or _vendored(file.path)) for file, reason in files]
    verdict, judged = governed(verdict, judged, rights)
    return Distribution(
        name=one_line(field(header, "Name") or "") or one_line(name) or "(no name)",
        version=one_line(field(header, "Version") or version),
        author=one_line(next(filter(None, (field(header, name) for name in AUTHOR_FIELDS)), ""), MAX_FIELD_CHARS),
        homepage=one_line(field(header, "Home-Page") or best, MAX_FIELD_CHARS),
        verdict=verdict,
        files=tuple(file for file, reason in judged if not reason),
        rejected=tuple((file.path, reason) for file, reason in judged if reason),
        texts=kept_texts(rights.texts, header),
    )


def governed(
    verdict: LicenceVerdict, files: list[tuple[SourceFile, str]], rights: Rights
) -> tuple[LicenceVerdict, list[tuple[SourceFile, str]]]:
    """The files with their own licences, and with the reason where that can't be taken. A package that names no licence
    is judged file by file; where some have one the verdict on the whole is approved, under no licence."""
    is_silent = not verdict.approved and verdict.evidence == "none"
    if rights.is_plain and not is_silent:
        return verdict, files
    made = []
    for file, reason in files:
        own = verdict if reason else rights.of(file.path)
        if is_silent and own is verdict and not reason:
            own = _tagged(file, rights) or verdict
        if own is verdict:
            made.append((file, reason))
        elif own.approved:
            made.append((dataclasses.replace(file, licence=own.licence, evidence=own.evidence), ""))
        else:
            made.append((file, f"licence: {own.reason}"))
    if not is_silent or not any(file.licence for file, _ in made):
        return verdict, made
    whole = LicenceVerdict(approved=True, licence="", evidence=FILE_BY_FILE, reason="")
    lacking = f"licence: {verdict.reason}"
    return whole, [(file, reason or ("" if file.licence else lacking)) for file, reason in made]


def _tagged(file: SourceFile, rights: Rights) -> LicenceVerdict | None:
    try:
        return rights.tagged(read_source(file).decode("utf-8", "replace"))
    except RejectedFileError:
        return None


def _vendored(path: str) -> str:
    return f"vendored: in {folder}" if (folder := vendored_in(path)) else ""
