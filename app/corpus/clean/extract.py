"""First task of the build, over one shard of files: read, clean, decontaminate, cut into documents. Runs without Ray.

Its output is written whole, with the identity of what it was made from, so a task whose output is there has nothing to
do: that is how a killed build goes on.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from app.cluster.job_queue import at
from app.corpus.clean.cleaning import MAX_LITERAL_SHARE, Cleaned, clean, uncollected
from app.corpus.clean.decontamination import Decontaminator, defined_names
from app.corpus.clean.documents import functions
from app.corpus.clean.guard import guard_of_build
from app.corpus.clean.minhash import bands
from app.corpus.clean.tables_in_code import table_share_of
from app.corpus.clean.touched import touched
from app.corpus.jobs import Job
from app.corpus.recipes import CodeSource, Recipe
from app.corpus.records import FILE, Document, Origin, Rejected, RejectedFileError
from app.corpus.shard_files import COPYRIGHT, IDENTITY, ORIGIN_FIELDS, TEXT, is_made, write_rejected, write_rows
from app.corpus.sources.distributions import SourceFile, read_source
from app.corpus.sources.folders import vendored_in
from app.corpus.sources.untrusted import failure, leads_out

OF_FUNCTIONS = ("doc_to_code", "code_to_doc", "fill_in", "multi_file", "tool_use", "completion")
"""The forms in which functions are shown."""
COPY_FIELDS = [("sha256", pa.binary(32)), ("bands", pa.binary()), ("rank", pa.float32())]
"""What `app.corpus.clean.duplicates` looks at, beside `kind`."""
DOCUMENT_SCHEMA = pa.schema([*ORIGIN_FIELDS, *((name, TEXT) for name in Document.__slots__), *COPY_FIELDS])


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardFile:
    """A file to be read. Made by the build's plan."""

    origin: Origin
    """Where the file comes from, under the licence of its distribution."""
    file: SourceFile
    source: int = -1
    """Number of the recipe's source that the file belongs to; -1: unknown."""
    under_others: frozenset[str] = frozenset()
    """Paths of its distribution that are under other licences: their code is not shown beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractJob(Job):
    """Files whose documents become part `index` of "documents", and what is refused of them that of "rejected"."""

    files: tuple[ShardFile, ...]


class Siblings(Mapping[str, str]):
    """Cleaned texts of the other files of a file's distribution, by path, each read when it is asked for.

    Those of a table are not found: its rows are known by their numbers; nor is vendored code, what a link brings in
    from elsewhere, and what the source's patterns leave out. Iterating is not meant.
    """

    def __init__(self, file: SourceFile, read: Callable[[SourceFile], str], takes: Callable[[str], bool]) -> None:
        self._file, self._read, self._takes = file, read, takes

    def __getitem__(self, path: str) -> str:
        location = self._file.location
        if not location.endswith(self._file.path):
            raise KeyError(path)
        root = location.removesuffix(self._file.path)
        there = root + path
        is_plain = not self._file.archive and not leads_out(location, root)  # else the whole environment is of links
        if vendored_in(path) or not self._takes(path) or (is_plain and leads_out(there, root)):
            raise KeyError(path)
        try:
            return self._read(SourceFile(path=path, location=there, archive=self._file.archive))
        except RejectedFileError:
            raise KeyError(path) from None

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 1  # at least it itself


def extract_shard(job: ExtractJob) -> None:
    """Files -> documents and rejections, under the work folder."""
    target = job.part("documents")
    if is_made(target, job.identity):
        return
    kept: list[dict[str, Any]] = []
    rejected: list[Rejected] = []
    notes = _Notes()
    with uncollected():
        for held in job.files:
            for item in _answered(held, job.build.recipe, guard_of_build(job.build), notes):
                if isinstance(item, Rejected):
                    rejected.append(item)
                else:
                    kept.append(item)
    at("")
    write_rejected(job.part("rejected"), rejected)
    facts = {"masked": json.dumps(notes.masked), COPYRIGHT: json.dumps(notes.copyright), IDENTITY: job.identity}
    write_rows(target, kept, DOCUMENT_SCHEMA.with_metadata(facts))


@dataclass(slots=True)
class _Notes:
    """What is told of a shard's files beside their documents."""

    masked: dict[str, int] = field(default_factory=lambda: {"secrets": 0, "personal data": 0})
    copyright: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    """Copyright lines by distribution and path."""

    def note(self, origin: Origin, path: str, cleaned: Cleaned) -> None:
        if cleaned.copyright:
            self.copyright.setdefault(origin.distribution, {})[path] = cleaned.copyright


def _answered(held: ShardFile, recipe: Recipe, guard: Decontaminator, notes: _Notes) -> list[dict[str, Any] | Rejected]:
    """The `_documents` of a file; the reason alone for one that makes it fail."""
    reason = at(f"{held.origin.distribution}: {held.origin.path}")
    if not reason:
        try:
            return list(_documents(held, recipe, guard, notes))
        except Exception as error:  # whatever a file holds is its own matter: it ends no build
            reason = failure(error)
    return [Rejected(origin=held.origin, name="", what=FILE, reason=reason)]


def _documents(
    held: ShardFile, recipe: Recipe, guard: Decontaminator, notes: _Notes
) -> Iterator[dict[str, Any] | Rejected]:
    """The documents of one file, as rows, and what was rejected of it."""
    try:
        cleaned = _cleaned(held.file, held.origin, recipe)
    except RejectedFileError as error:
        yield Rejected(origin=held.origin, name="", what=FILE, reason=str(error))
        return
    notes.masked["secrets"] += cleaned.num_secrets
    notes.masked["personal data"] += cleaned.num_personal
    notes.note(held.origin, held.origin.path, cleaned)
    origin = replace(held.origin, licence=cleaned.licence)

    def refused(document: Document, reason: str) -> Rejected:
        return Rejected(origin=origin, name=document.name, what=document.kind, reason=reason)

    file = Document(kind=FILE, name="", text=cleaned.text, header="")
    reason = guard.hit(file.text, defined_names(cleaned.tree))
    yield refused(file, f"benchmark {reason}") if reason else document_row(origin, file)
    if not any(getattr(recipe.forms, form) for form in OF_FUNCTIONS):
        return
    source = recipe.sources[held.source] if held.source >= 0 else None

    def takes(path: str) -> bool:
        return path not in held.under_others and (not isinstance(source, CodeSource) or source.takes_path(path))

    read = functools.partial(_sibling, held.origin, origin.licence, recipe, guard, notes)
    siblings = Siblings(held.file, read, takes)
    shown = siblings if recipe.forms.multi_file else None
    docstring = recipe.cleaning.min_docstring_chars
    documents = list(functions(cleaned.text, cleaned.tree, docstring, held.origin.path, shown))
    # What a function shares with a benchmark its file shares as well, so only those of such files are looked at.
    # Its context may hold a helper of another file, which was looked at as well (`_sibling`).
    reasons = touched(guard, cleaned.text, cleaned.tree, documents, reason) if reason else [""] * len(documents)
    for document, own in zip(documents, reasons, strict=True):
        if own:
            yield refused(document, f"benchmark {own}")
        elif (share := table_share_of(document.text)) > MAX_LITERAL_SHARE:
            yield refused(document, f"generated: a table is {share:.0%} of it")
        else:
            yield document_row(origin, document)


def _sibling(
    origin: Origin, licence: str, recipe: Recipe, guard: Decontaminator, notes: _Notes, file: SourceFile
) -> str:
    """Text of another file of the distribution. origin: of the file beside it, which is not charged with what reading
    this one does; licence: under which that file is learnt. Raises RejectedFileError, for one under another too."""
    try:
        if reason := at(f"{origin.distribution}: {file.path}"):
            raise RejectedFileError(reason)
        cleaned = _cleaned(file, origin, recipe)
        if cleaned.licence != licence:
            raise RejectedFileError(f"licence: {cleaned.licence}, beside a file under {licence}")
        if reason := guard.hit(cleaned.text, defined_names(cleaned.tree)):
            raise RejectedFileError(f"benchmark {reason}")
        notes.note(origin, file.path, cleaned)
        return cleaned.text
    finally:
        at(f"{origin.distribution}: {origin.path}")


def _cleaned(file: SourceFile, origin: Origin, recipe: Recipe) -> Cleaned:
    """The file as it is learnt. Raises RejectedFileError with the reason for one that is not."""
    raw = read_source(file, recipe.cleaning.max_bytes)
    return clean(raw, file.path, recipe.cleaning, frozenset(recipe.licences.also_allow), origin.licence)


def document_row(origin: Origin, document: Document) -> dict[str, Any]:
    """A document as a row. Among copies the longest ranks first: it says most."""
    fields = {name: getattr(document, name) for name in Document.__slots__}
    return origin.row | fields | copy_fields(document.text, len(document.text))


def copy_fields(text: str, rank: float) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(text.encode()).digest(), "bands": bands(text), "rank": rank}
