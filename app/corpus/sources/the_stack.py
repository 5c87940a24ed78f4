"""The Stack v2 (arXiv 2402.19173): permissively licensed files; rows from the Hugging Face Hub, contents from S3.

The data set is gated and holds no code. Its rows, Parquet files on the Hub, are streamed; the content of each file that
passes is fetched by its `blob_id` from Software Heritage's S3 bucket (s3://softwareheritage/content/ID, gzip) and
decoded by `src_encoding`. A file is taken when `license_type` is "permissive" and every detected licence is approved
(the data set also holds unlicensed files), when it is neither vendored nor generated, and below the recipe's limits.
Files are taken in the data set's order.

Its terms ask to drop what authors have taken back, by moving to the newest version: each build asks for the newest
revision, says which it is, keeps it with what it fetched (in each part's metadata), and does not use what an older one
gave. In bulk, contents need an agreement with Software Heritage and INRIA (datasets@softwareheritage.org).

Needs: a Hub token of an account that has accepted the terms, and AWS credentials. Limits: never run against the two
services from here, which it can't reach; the tests run it on tables and blobs of that form on a disk.
"""

import hashlib
import itertools
import os
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

from app.corpus.recipes import TheStackV2
from app.corpus.sources.folders import vendored_in
from app.corpus.sources.tables import NO_REPOSITORY, judge_row, python_bytes, write_table
from app.corpus.sources.untrusted import MAX_FILE_BYTES, odd_path, why
from app.errors import UserError, first_line
from app.progress import progress, say

BUCKET = "softwareheritage/content"
REGION = "us-east-1"
ROWS_PER_PART = 2048
"""Kept files of a part: what a broken-off fetch loses at most."""
BATCH = 256
"""Files whose contents are asked for at a time."""
Pairs: TypeAlias = list[tuple[dict[str, Any], dict[str, Any]]]
"""A file's row in the data set, and the row that is made of it."""
REPOSITORY_FIELDS = ("repo_name", "revision_id", "star_events_count")
FILE_FIELDS = (
    "blob_id",
    "path",
    "language",
    "license_type",
    "detected_licenses",
    "src_encoding",
    "length_bytes",
    "is_vendor",
    "is_generated",
)


def needs(source: TheStackV2) -> str:
    """What a fetch takes, in one sentence."""
    signed = ", AWS credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile in ~/.aws)"
    return (
        f"{source.kind} needs the network, a Hugging Face token (HF_TOKEN) of an account that has accepted the terms "
        f"of {source.dataset}{signed if source.credentials == 'aws' else ''} and Software Heritage's agreement for "
        f"bulk downloads: it fetches {source.max_files:,} files, about {source.max_files * 6e3 / 1e9:.1f} GB, and the "
        "rows that lead to them"
    )


def missing(source: TheStackV2) -> str:
    """What this source needs and is known to be missing, without asking the network; empty where nothing is."""
    from huggingface_hub import get_token

    lacking = []
    if get_token() is None:
        lacking.append("a Hugging Face token (set HF_TOKEN)")
    if source.credentials == "aws" and not _has_aws_credentials():
        lacking.append("AWS credentials (set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)")
    return " and ".join(lacking)


def fetch(source: TheStackV2, allow: frozenset[str], cache: Path) -> list[Path]:
    """Parquet files of `tables.SCHEMA`, fetched into the cache; a fetch that was broken off goes on.

    Raises UserError, before anything is fetched where that can be told: no token, no credentials, no network.
    """
    if lacking := missing(source):
        raise UserError(f"{needs(source)}; missing here: {lacking}")
    from huggingface_hub import HfApi, HfFileSystem
    from huggingface_hub.errors import (
        HTTPError,
    )  # of its HTTP client: the base of its own errors and of lost connections

    try:
        revision = HfApi().dataset_info(source.dataset).sha
        hub = HfFileSystem()
        folder = f"datasets/{source.dataset}@{revision}/data"
        names = sorted(hub.glob(f"{folder}/*.parquet") or hub.glob(f"{folder}/{source.language}/*.parquet"))
    except (HTTPError, OSError) as error:
        raise UserError(f"{needs(source)}; the Hub did not answer ({first_line(error)})") from None
    if not names:
        raise UserError(f"{source.dataset} at revision {revision} has no {source.language} table: its form has changed")
    say(f"  {source.dataset} at its newest revision, {revision}")
    archive = pa.fs.S3FileSystem(region=REGION, anonymous=source.credentials == "anonymous")
    target = cache / source.dataset.partition("/")[2] / f"{revision}-{_fingerprint(source, allow)}"
    try:
        return write_parts(
            source, allow, target, names, lambda name: hub.open(name, "rb"), archive, {"revision": str(revision)}
        )
    except (HTTPError, OSError) as error:
        raise UserError(
            f"{source.kind}: fetching broke off ({first_line(error)}); what was fetched is kept: start again to go on"
        ) from None


def write_parts(
    source: TheStackV2,
    allow: frozenset[str],
    target: Path,
    names: list[str],
    open_table: Callable[[str], BinaryIO],
    archive: pa.fs.FileSystem,
    notes: dict[str, str],
) -> list[Path]:
    """Parts of at most ROWS_PER_PART kept files under `target`, each with the place where the next one begins.

    names: the tables, in order; open_table opens one; archive: holds BUCKET. Raises OSError where one fails.
    """
    parts = sorted(target.glob("part-*.parquet"))
    held = pq.read_schema(parts[-1]).metadata if parts else {}
    done, kept = int(held.get(b"next", 0)), int(held.get(b"kept", 0))
    if held.get(b"last") == b"yes":
        return parts
    files = itertools.islice(_files(source, names, open_table), done, None)
    with (
        ThreadPoolExecutor(source.num_connections) as pool,
        progress(source.kind, source.max_files, "files") as update,
    ):

        def fetch_all(pairs: Pairs) -> Iterator[bytes | str | None]:
            return pool.map(lambda pair: _content(archive, *pair), pairs)

        while True:
            rows, added = _part(source, allow, files, min(ROWS_PER_PART, source.max_files - kept), fetch_all)
            done, kept = done + len(rows), kept + added
            last = kept >= source.max_files or added < ROWS_PER_PART
            place = {"next": str(done), "kept": str(kept), "last": "yes" if last else "no"}
            parts.append(target / f"part-{len(parts):05d}.parquet")
            write_table(parts[-1], rows, notes | place)
            update(kept)
            if last:
                return parts


def _part(
    source: TheStackV2,
    allow: frozenset[str],
    files: Iterator[dict[str, Any]],
    wanted: int,
    fetch_all: Callable[[Pairs], Iterator[bytes | str | None]],
) -> tuple[list[dict[str, Any]], int]:
    """The rows of one part, one for each file, and how many are kept: fewer than wanted where the tables end."""
    rows: list[dict[str, Any]] = []
    kept = 0
    while kept < wanted and (batch := list(itertools.islice(files, min(BATCH, wanted - kept)))):
        judged = [_answered(source, file, allow) for file in batch]
        for row, content in zip(judged, fetch_all(list(zip(batch, judged, strict=True))), strict=True):
            if isinstance(content, str):
                row["reason"] = content
            else:
                row["content"] = content
                kept += content is not None
            rows.append(row)
    return rows, kept


def _files(source: TheStackV2, names: list[str], open_table: Callable[[str], BinaryIO]) -> Iterator[dict[str, Any]]:
    """The files of the language, in order. train-smol-ids has a row for each repository, with a list of files."""
    for name in names:
        with open_table(name) as opened:
            table = pq.ParquetFile(opened)
            if "files" not in table.schema_arrow.names and (lacking := {*FILE_FIELDS} - {*table.schema_arrow.names}):
                raise UserError(f"{name} has no field {', '.join(sorted(lacking))}: the data set's form has changed")
            columns = [c for c in (*REPOSITORY_FIELDS, *FILE_FIELDS, "files") if c in table.schema_arrow.names]
            for batch in table.iter_batches(batch_size=1024, columns=columns):
                for row in batch.to_pylist():
                    for file in row.pop("files", None) or [{}]:
                        merged = row | (file or {})
                        if merged.get("language") == source.language:
                            yield merged


def _answered(source: TheStackV2, file: dict[str, Any], allow: frozenset[str]) -> dict[str, Any]:
    """`_judged`; a row that the data set's form does not fit is refused, and ends no fetch."""
    try:
        return _judged(source, file, allow)
    except Exception as error:
        place = {"path": str(file.get("path")), "repository": str(file.get("repo_name") or NO_REPOSITORY)}
        return place | {"reason": why(error)}


def _judged(source: TheStackV2, file: dict[str, Any], allow: frozenset[str]) -> dict[str, Any]:
    """The row of `tables.SCHEMA` without its content; with a reason if the file is not to be used."""
    repository = file["repo_name"]
    verdict = judge_row(file["detected_licenses"], allow)
    path = str(file["path"]).lstrip("/")
    row = {
        "path": path,
        "licence": verdict.licence,
        "repository": repository,
        "revision": file.get("revision_id") or "",
        "author": repository.partition("/")[0],
        "homepage": f"https://github.com/{repository}",
    }
    reason = ""
    if file["license_type"] != "permissive":
        reason = f"licence: {file['license_type']}, not permissive"
    elif not verdict.approved:
        reason = f"licence: {verdict.reason}"
    elif file.get("is_vendor") or vendored_in(path):
        reason = "vendored: as the data set or the path says"
    elif file.get("is_generated"):
        reason = "generated: as the data set says"
    elif odd := odd_path(path):
        reason = odd
    elif not path.endswith(".py"):
        reason = f"not Python: {path[-60:]}"
    elif (file.get("length_bytes") or 0) > source.max_bytes:
        reason = f"too large: {file['length_bytes']} bytes"
    elif (file.get("star_events_count") or 0) < source.min_stars:
        reason = f"too few stars: {file.get('star_events_count') or 0}"
    return row | {"reason": reason}


def _content(archive: pa.fs.FileSystem, file: dict[str, Any], row: dict[str, Any]) -> bytes | str | None:
    """The bytes of a file that is not refused yet (else None), or why it has none that can be used."""
    if row["reason"]:
        return None
    try:
        with archive.open_input_stream(f"{BUCKET}/{file['blob_id']}", compression=None) as stream:
            packed = stream.read()
    except FileNotFoundError:
        return "unreadable: the archive lacks it"
    try:
        unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        raw = unpacker.decompress(packed, MAX_FILE_BYTES)
    except zlib.error as error:  # it would be the same the next time: not a lost connection
        return why(error)
    if not unpacker.eof:
        return "unreadable: cut off, or too large"
    try:
        content = python_bytes(raw.decode(file.get("src_encoding") or "utf-8"))
    except (UnicodeError, LookupError):
        content = None
    return "encoding: not the one that the data set names" if content is None else content


def _has_aws_credentials() -> bool:
    """Whether credentials are set. A machine's own role in the cloud is not seen: name a profile for it."""
    names = (
        "AWS_ACCESS_KEY_ID",
        "AWS_PROFILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    )
    return any(os.environ.get(name) for name in names) or (Path.home() / ".aws/credentials").is_file()


def _fingerprint(source: TheStackV2, allow: frozenset[str]) -> str:
    text = source.model_dump_json(include={"language", "max_files", "max_bytes", "min_stars"}) + repr(sorted(allow))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
