"""First task of the build, over one shard of files: read, clean, decontaminate, cut into documents. Runs without Ray.

Its output is written whole, with the identity of what it was made from, so a task whose output is there has nothing to
do: that is how a killed build goes on.
"""

import ast
import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from app.cluster.job_queue import at
from app.corpus.clean.cleaning import MAX_LITERAL_SHARE, clean, uncollected
from app.corpus.clean.decontamination import Decontaminator, defined_names
from app.corpus.clean.documents import functions
from app.corpus.clean.guard import decontaminator
from app.corpus.clean.minhash import bands
from app.corpus.clean.tables_in_code import table_share_of
from app.corpus.recipes import CodeSource, Recipe
from app.corpus.records import FILE, Document, Origin, RejectedFileError
from app.corpus.shard_files import IDENTITY, is_made, part, write_rows
from app.corpus.sources.find import read_source
from app.corpus.sources.folders import vendored_in
from app.corpus.sources.packages import SourceFile
from app.corpus.sources.untrusted import failure, leads_out

OF_FUNCTIONS = ("doc_to_code", "code_to_doc", "fill_in", "multi_file", "tool_use", "completion")
"""Forms that functions are shown in."""
TEXT = pa.string()
ORIGIN_FIELDS = [(name, TEXT) for name in Origin.__slots__]
COPY_FIELDS = [("sha256", pa.binary(32)), ("bands", pa.binary()), ("rank", pa.float32())]
"""What `app.corpus.clean.duplicates` looks at, beside `kind`."""
DOCUMENT_SCHEMA = pa.schema([*ORIGIN_FIELDS, *((name, TEXT) for name in Document.__slots__), *COPY_FIELDS])
REJECTED_SCHEMA = pa.schema([*ORIGIN_FIELDS, *((name, TEXT) for name in ("name", "what", "reason"))])


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Files of one task; parallel lists. Made by the build's plan."""

    index: int
    distributions: list[str]
    versions: list[str]
    licences: list[str]
    paths: list[str]
    locations: list[str]
    archives: list[str]
    sources: list[int] = field(default_factory=list)
    """Numbers of the recipe's sources; empty: unknown."""

    def __len__(self) -> int:
        return len(self.paths)

    def file(self, number: int) -> SourceFile:
        return SourceFile(path=self.paths[number], location=self.locations[number], archive=self.archives[number])


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


def extract_shard(job: dict[str, Any]) -> dict[str, Any]:
    """Files -> documents and rejections, under the work folder."""
    target = part(job["work"], "documents", job["index"])
    if not is_made(target, job["identity"]):
        shard = Shard(**{name: job[name] for name in Shard.__slots__})
        recipe = Recipe.model_validate_json(job["recipe"])
        kept: list[dict[str, Any]] = []
        rejected: list[dict[str, Any]] = []
        masked = {"secrets": 0, "e-mail addresses": 0}
        guard = decontaminator(job["guard"], job["guard_sha256"])
        with uncollected():
            for number in range(len(shard)):
                for item in _answered(shard, number, recipe, guard, masked):
                    (rejected if "reason" in item else kept).append(item)
        at("")
        write_rows(part(job["work"], "rejected", job["index"]), rejected, REJECTED_SCHEMA)
        facts = {"masked": json.dumps(masked), IDENTITY: job["identity"]}
        write_rows(target, kept, DOCUMENT_SCHEMA.with_metadata(facts))
    return {"index": job["index"]}


def _answered(
    shard: Shard, number: int, recipe: Recipe, guard: Decontaminator, masked: dict[str, int]
) -> list[dict[str, Any]]:
    """`_rows` of a file; for one that makes it fail the reason alone."""
    origin = _origin(shard, number)
    reason = at(f"{origin['distribution']}: {origin['path']}")
    if not reason:
        try:
            return list(_rows(shard, number, recipe, guard, masked))
        except Exception as error:  # whatever a file holds is its own matter: it ends no build
            reason = failure(error)
    return [origin | {"name": "", "what": FILE, "reason": reason}]


def _origin(shard: Shard, number: int) -> dict[str, str]:
    return {
        "distribution": shard.distributions[number],
        "version": shard.versions[number],
        "licence": shard.licences[number],
        "path": shard.paths[number],
    }


def _rows(
    shard: Shard, number: int, recipe: Recipe, guard: Decontaminator, masked: dict[str, int]
) -> Iterator[dict[str, Any]]:
    """The documents of one file, and what was rejected of it, as rows."""
    origin = _origin(shard, number)
    try:
        raw = read_source(shard.file(number), recipe.cleaning.max_bytes)
        allow = frozenset(recipe.licences.also_allow)
        cleaned = clean(raw, shard.paths[number], recipe.cleaning, allow, shard.licences[number])
    except RejectedFileError as error:
        yield origin | {"name": "", "what": FILE, "reason": str(error)}
        return
    masked["secrets"] += cleaned.num_secrets
    masked["e-mail addresses"] += cleaned.num_emails
    origin["licence"] = cleaned.licence
    file = Document(kind=FILE, name="", text=cleaned.text, header="")
    reason = guard.hit(file.text, defined_names(cleaned.tree))
    yield origin | (_refused(file, reason) if reason else document_row(file))
    if not any(getattr(recipe.forms, form) for form in OF_FUNCTIONS):
        return
    source = recipe.sources[shard.sources[number]] if shard.sources else None
    takes = source.takes_path if isinstance(source, CodeSource) else lambda path: True
    siblings = Siblings(shard.file(number), functools.partial(_sibling, shard, number, recipe, guard), takes)
    shown = siblings if recipe.forms.multi_file else None
    docstring = recipe.cleaning.min_docstring_chars
    for document in functions(cleaned.text, cleaned.tree, docstring, shard.paths[number], shown):
        # What a function shares with a benchmark its file shares as well, so only those of such files are looked at.
        # Its context may hold a helper of another file, which was looked at as well (`_sibling`).
        own = guard.hit(f"{document.context}\n{document.text}", names_in(document)) if reason else ""
        if not own and (share := table_share_of(document.text)) > MAX_LITERAL_SHARE:
            why = f"generated: a table is {share:.0%} of it"
            yield origin | {"name": document.name, "what": document.kind, "reason": why}
            continue
        yield origin | (_refused(document, own) if own else document_row(document))


def names_in(document: Document) -> list[str]:
    """Names that a function and the code shown with it define."""
    try:
        return [document.name, *defined_names(ast.parse(document.context))]
    except SyntaxError:
        return [document.name]


def _refused(document: Document, reason: str) -> dict[str, Any]:
    return {"name": document.name, "what": document.kind, "reason": f"benchmark {reason}"}


def _sibling(shard: Shard, number: int, recipe: Recipe, guard: Decontaminator, file: SourceFile) -> str:
    """Text of another file of the file `number`'s distribution. Raises RejectedFileError."""
    allow = frozenset(recipe.licences.also_allow)
    cleaned = clean(
        read_source(file, recipe.cleaning.max_bytes), file.path, recipe.cleaning, allow, shard.licences[number]
    )
    if reason := guard.hit(cleaned.text, defined_names(cleaned.tree)):
        raise RejectedFileError(f"benchmark {reason}")
    return cleaned.text


def document_row(document: Document) -> dict[str, Any]:
    """Of copies the longest is the best: it says most."""
    fields = {name: getattr(document, name) for name in Document.__slots__}
    return fields | copy_fields(document.text, len(document.text))


def copy_fields(text: str, rank: float) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(text.encode()).digest(), "bands": bands(text), "rank": rank}
