"""Last task of the build, over one shard: documents and problems -> examples -> tokens -> packed rows. Without Ray.

A shard takes the documents that its files gave and nobody's copy is, and its share of the training problems, drawn by
hash: so each shard is a small picture of the whole corpus, and rows within it are in an order drawn by hash.
"""

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from app.corpus.decontamination import Decontaminator
from app.corpus.examples import document_examples, problem_examples
from app.corpus.extract import COPY_FIELDS, DOCUMENT_SCHEMA, REJECTED_SCHEMA
from app.corpus.packing import Ids, pack, packing_stats, too_long
from app.corpus.parts import IDENTITY, is_made, part, write_rows, write_table
from app.corpus.problems import read_problems
from app.corpus.recipes import SPLITS, Recipe
from app.corpus.records import FUNCTION, Document, Example, Origin, SolvedProblem
from app.corpus.render import fills_in, tokenise_all, unrolled
from app.corpus.tool_dialogues import tool_examples
from app.models import ensure_model, load_tokenizer
from app.records import BenchmarkText
from app.settings import ModelSettings

HELD_OUT = "held_out.json"
"""In the work folder: texts of the validation and test problems, which no training document may touch."""
TRAIN_SCHEMA = pa.schema([(name, pa.list_(pa.int32())) for name in ("input_ids", "labels", "position_ids")])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """An example, and whose it is."""

    example: Example
    origin: Origin
    name: str


def assemble_shard(job: dict[str, Any]) -> dict[str, Any]:
    """Kept documents and this shard's problems -> packed rows under the train folder. Returns the shard's counts."""
    target = part(job["train"], ".", job["index"])
    if is_made(target, job["identity"]):
        return json.loads(pq.read_schema(target).metadata[b"counts"])
    tokenizer = _tokenizer(job["model"])
    rejected: list[dict[str, Any]] = []
    sources = [
        _Source(example=example, origin=source.origin, name=source.name)
        for source in _sources(job, fills_in(tokenizer), rejected)
        for example in unrolled(source.example, tokenizer)
    ]
    samples = tokenise_all([source.example for source in sources], tokenizer)
    kept, forms = [], {"tokens_by_form": Counter[str](), "examples_by_form": Counter[str]()}
    tokens: Counter[Origin] = Counter()
    for source, sample in zip(sources, samples, strict=True):
        if reason := too_long(sample, job["seq_len"]):
            rejected.append(_rejection(source.origin, source.name, source.example.form, reason))
            continue
        kept.append(sample)
        forms["tokens_by_form"][source.example.form] += len(sample.input_ids)
        forms["examples_by_form"][source.example.form] += 1
        tokens[source.origin] += len(sample.input_ids)
    rows = pack(kept, job["seq_len"], tokenizer.pad_token_id or 0)
    salt = str(job["seed"]).encode()
    rows.sort(key=lambda row: hashlib.sha256(salt + row.input_ids.tobytes()).digest())  # packing sorts by length
    counts = packing_stats(rows) | forms | {
        "index": job["index"],
        "left_out": Counter(f"{row['what']}: {row['reason'].partition(':')[0]}" for row in rejected),
        "documents": [[o.distribution, o.licence, o.path, count] for o, count in sorted(tokens.items(), key=_place)],
    }  # fmt: skip
    facts = {"counts": json.dumps(counts), IDENTITY: job["identity"]}
    columns = {name: _column([getattr(row, name) for row in rows], job["seq_len"]) for name in TRAIN_SCHEMA.names}
    write_rows(part(job["work"], "left_out", job["index"]), rejected, REJECTED_SCHEMA)
    write_table(target, pa.table(columns, TRAIN_SCHEMA.with_metadata(facts)))
    return json.loads(json.dumps(counts))


def _column(rows: list[Ids], seq_len: int) -> pa.Array:
    """[rows, seq_len] as lists."""
    values = np.concatenate([np.zeros(0, np.int32), *rows])
    return pa.ListArray.from_arrays(np.arange(0, len(values) + 1, seq_len, dtype=np.int32), values)


def _place(item: tuple[Origin, int]) -> tuple[str, str, str]:
    origin = item[0]
    return origin.distribution, origin.path, origin.licence


def _sources(job: dict[str, Any], with_tokens: bool, rejected: list[dict[str, Any]]) -> Iterator[_Source]:
    """All examples of the shard, in the order of its files, then of its problems."""
    forms, seed = Recipe.model_validate_json(job["recipe"]).forms.model_dump(), job["seed"]
    documented: list[tuple[Origin, Document]] = []
    for origin, document in _documents(job, rejected):

        def reject(form: str, why: str, origin: Origin = origin, name: str = document.name) -> None:
            rejected.append(_rejection(origin, name, form, why))

        if document.kind == FUNCTION:
            documented.append((origin, document))
        for example in document_examples(document, forms, seed, fills_in=with_tokens, reject=reject):
            yield _Source(example=example, origin=origin, name=document.name)
    for place, example in tool_examples([(o.distribution, document) for o, document in documented], forms, seed):
        origin, document = documented[place]
        yield _Source(example=example, origin=origin, name=document.name)
    for solved in _problems(job["problems"], job["num_shards"], job["inputs"])[job["index"]]:
        for example in problem_examples(solved, forms, seed, fills_in=with_tokens):
            yield _Source(example=example, origin=solved.origin, name=solved.problem.entry_point)


def _documents(job: dict[str, Any], rejected: list[dict[str, Any]]) -> Iterator[tuple[Origin, Document]]:
    """The shard's documents that are nobody's copy and touch no problem that is measured on."""
    guard = _held_out(job["work"], job["inputs"])
    names = [name for name in DOCUMENT_SCHEMA.names if name not in {field for field, _ in COPY_FIELDS}]
    table = pq.read_table(part(job["work"], "documents", job["index"]), columns=names)
    for row in table.take(pa.array(job["keep"], pa.int64())).to_pylist():
        origin = Origin(**{name: row[name] for name in Origin.__slots__})
        document = Document(**{name: row[name] for name in Document.__slots__})
        if guard and (reason := guard.hit(f"{document.context}\n{document.text}", [])):
            rejected.append(_rejection(origin, document.name, document.kind, f"held-out problem: {reason}"))
        else:
            yield origin, document


def _rejection(origin: Origin, name: str, what: str, reason: str) -> dict[str, Any]:
    return {field: getattr(origin, field) for field in Origin.__slots__} | {
        "name": name,
        "what": what,
        "reason": reason,
    }


@functools.lru_cache(maxsize=1)
def _problems(folder: str, num_shards: int, inputs: str) -> list[list[SolvedProblem]]:
    """The training problems of each shard. inputs: hash of the files, so that a worker never goes by older ones."""
    shards: list[list[SolvedProblem]] = [[] for _ in range(num_shards)]
    for solved in read_problems(Path(folder), SPLITS[0]):
        digest = hashlib.sha256(solved.problem.id.encode()).digest()
        shards[int.from_bytes(digest[:8], "big") % num_shards].append(solved)
    return shards


@functools.lru_cache(maxsize=1)
def _held_out(work: str, inputs: str) -> Decontaminator | None:
    """None where no problem is held out. inputs: as above."""
    held = json.loads((Path(work) / HELD_OUT).read_text())
    return Decontaminator(BenchmarkText(**row) for row in held) if held else None


@functools.cache
def _tokenizer(model: str) -> Any:
    return load_tokenizer(ensure_model(ModelSettings.model_validate_json(model)))
