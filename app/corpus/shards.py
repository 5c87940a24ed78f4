"""The two tasks of the corpus build, each over one shard of files. They run without Ray and write their output
atomically.

A task whose output is there returns the numbers kept in that file's Parquet metadata, which is how a killed build
goes on.
"""

import functools
import hashlib
import json
import os
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from app.corpus import documents as docs
from app.corpus.cleaning import RejectedFileError, clean
from app.corpus.decontamination import Decontaminator, defined_names
from app.corpus.packing import Sample, pack
from app.corpus.recipes import Recipe
from app.models import ensure_model, load_tokenizer
from app.prompts import answer, ask, begin_text, chat_texts
from app.records import IGNORE, BenchmarkText
from app.settings import ModelSettings

CHAT, COMPLETION, FILE = "chat", "completion", "file"
BENCHMARKS = "benchmarks.json"
"""In the work folder: the benchmark texts that no document may touch."""
TEXT = pa.string()
DOCUMENT_SCHEMA = pa.schema(
    [(name, TEXT) for name in ("distribution", "version", "licence", "path", "kind", "name", "text", "header")]
    + [("sha256", pa.binary(32))]
)
REJECTED_SCHEMA = pa.schema(
    [(name, TEXT) for name in ("distribution", "version", "licence", "path", "name", "what", "reason")]
)
TRAIN_SCHEMA = pa.schema([(name, pa.list_(pa.int32())) for name in ("input_ids", "labels", "position_ids")])


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

    def __len__(self) -> int:
        return len(self.paths)


def extract_shard(job: dict[str, Any]) -> dict[str, Any]:
    """Files -> cleaned, decontaminated documents and rejections, under the work folder."""
    target = part(job["work"], "documents", job["index"])
    if not target.exists():
        shard = Shard(**{name: job[name] for name in Shard.__slots__})
        recipe = Recipe.model_validate_json(job["recipe"])
        kept: list[dict[str, Any]] = []
        rejected: list[dict[str, Any]] = []
        for number in range(len(shard)):
            origin = {
                "distribution": shard.distributions[number],
                "version": shard.versions[number],
                "licence": shard.licences[number],
                "path": shard.paths[number],
            }
            for item in _documents(shard, number, recipe, _decontaminator(job["work"])):
                (rejected if "reason" in item else kept).append(origin | item)
        _write_table(part(job["work"], "rejected", job["index"]), pa.Table.from_pylist(rejected, REJECTED_SCHEMA))
        _write_table(target, pa.Table.from_pylist(kept, DOCUMENT_SCHEMA))
    return {"index": job["index"]}


def pack_shard(job: dict[str, Any]) -> dict[str, Any]:
    """Kept documents -> packed rows under the train folder. Returns the counts of the shard."""
    target = Path(job["train"]) / f"part-{job['index']:05d}.parquet"
    if target.exists():
        return json.loads(pq.read_schema(target).metadata[b"counts"])
    table = pq.read_table(part(job["work"], "documents", job["index"])).take(pa.array(job["keep"], pa.int64()))
    tokenizer = _tokenizer(job["model"])
    recipe = Recipe.model_validate_json(job["recipe"])
    samples: list[Sample] = []
    too_long: list[dict[str, Any]] = []
    forms, by_distribution, tokens_of = Counter[str](), Counter[str](), Counter[str]()
    for row in table.to_pylist():
        num_before = len(samples)
        for form, sample in _samples(row, recipe, tokenizer, job["seed"]):
            if form != FILE and len(sample.input_ids) > job["seq_len"]:
                origin = {key: row[key] for key in ("distribution", "version", "licence", "path", "name")}
                too_long.append(
                    origin | {"what": f"{form} form", "reason": f"longer than a row: {len(sample.input_ids)} tokens"}
                )
                continue
            samples.append(sample)
            forms[form] += len(sample.input_ids)
            tokens_of[row["distribution"]] += len(sample.input_ids)
        by_distribution[row["distribution"]] += len(samples) > num_before
    rows = pack(samples, job["seq_len"], tokenizer.pad_token_id or 0)
    rows.sort(
        key=lambda row: hashlib.sha256(f"{job['seed']}{row.input_ids}".encode()).digest()
    )  # packing sorts by length
    counts = {
        "index": job["index"],
        "rows": len(rows),
        "tokens_by_form": forms,
        "documents_by_distribution": by_distribution,
        "tokens_by_distribution": tokens_of,
    }
    columns = {name: [getattr(row, name) for row in rows] for name in TRAIN_SCHEMA.names}
    _write_table(part(job["work"], "too_long", job["index"]), pa.Table.from_pylist(too_long, REJECTED_SCHEMA))
    _write_table(target, pa.table(columns, TRAIN_SCHEMA.with_metadata({"counts": json.dumps(counts)})))
    return counts


def _documents(shard: Shard, number: int, recipe: Recipe, guard: Decontaminator) -> Iterator[dict[str, Any]]:
    """The documents of one file, or its rejection."""
    try:
        text, tree = clean(
            _read(shard, number), shard.paths[number], recipe.cleaning, frozenset(recipe.licences.also_allow)
        )
    except RejectedFileError as error:
        yield {"name": "", "what": "file", "reason": str(error)}
        return
    found = list(docs.functions(text, tree, recipe.cleaning.min_docstring_chars))
    for document in (docs.Document(kind=docs.FILE, name="", text=text, header=""), *found):
        names = defined_names(tree) if document.kind == docs.FILE else [document.name]
        if reason := guard.hit(document.text, names):
            yield {"name": document.name, "what": document.kind, "reason": f"benchmark: {reason}"}
        else:
            digest = hashlib.sha256(document.text.encode()).digest()
            yield {
                "kind": document.kind,
                "name": document.name,
                "text": document.text,
                "header": document.header,
                "sha256": digest,
            }


def _samples(row: dict[str, Any], recipe: Recipe, tokenizer: Any, seed: int) -> Iterator[tuple[str, Sample]]:
    """The document in each form that it is drawn for. Chat learns its completion only, the others every token."""
    start, end = begin_text(tokenizer), tokenizer.eos_token
    if row["kind"] == docs.FILE:
        if _drawn(seed, FILE, row["sha256"], recipe.forms.file):
            ids = _encode(tokenizer, start + row["text"] + end)
            yield FILE, Sample(input_ids=ids, labels=ids)
        return
    if _drawn(seed, CHAT, row["sha256"], recipe.forms.doc_to_code):
        prompt, completion = (
            _encode(tokenizer, text) for text in chat_texts(tokenizer, ask(row["header"]), answer(row["text"]))
        )
        yield CHAT, Sample(input_ids=prompt + completion, labels=[IGNORE] * len(prompt) + completion)
    if _drawn(seed, COMPLETION, row["sha256"], recipe.forms.completion):
        ids = _encode(tokenizer, start + row["text"] + end)
        yield COMPLETION, Sample(input_ids=ids, labels=ids)


def _encode(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False).input_ids


def _drawn(seed: int, form: str, digest: bytes, share: float) -> bool:
    draw = hashlib.sha256(f"{seed}:{form}:".encode() + digest).digest()
    return int.from_bytes(draw[:4], "big") < share * 2**32


@functools.lru_cache(maxsize=1)
def _decontaminator(work: str) -> Decontaminator:
    return Decontaminator(BenchmarkText(**row) for row in json.loads((Path(work) / BENCHMARKS).read_text()))


@functools.cache
def _tokenizer(model: str) -> Any:
    return load_tokenizer(ensure_model(ModelSettings.model_validate_json(model)))


@functools.lru_cache(maxsize=4)
def _archive(path: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def _read(shard: Shard, number: int) -> bytes:
    try:
        if shard.archives[number]:
            return _archive(shard.archives[number]).read(shard.locations[number])
        return Path(shard.locations[number]).read_bytes()
    except (OSError, zipfile.BadZipFile) as error:  # listed in RECORD but gone, a broken link, a folder named *.py
        raise RejectedFileError(f"unreadable: {type(error).__name__}") from None


def part(work: str | Path, folder: str, index: int) -> Path:
    return Path(work) / folder / f"part-{index:05d}.parquet"


def _write_table(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    pq.write_table(table, temporary)
    os.replace(temporary, path)
