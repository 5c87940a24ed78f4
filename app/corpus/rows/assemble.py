"""Last task of the build, over one shard: chosen samples -> packed rows. Runs without Ray.

Rows within a shard are in an order drawn by hash.
"""

import hashlib
import json
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from app.corpus.records import Origin
from app.corpus.rows.packing import Ids, Sample, num_learnt, pack, packing_stats
from app.corpus.rows.samples import load_tokenizer_once
from app.corpus.shard_files import IDENTITY, is_made, part, write_table

TRAIN_SCHEMA = pa.schema([(name, pa.list_(pa.int32())) for name in ("input_ids", "labels", "position_ids")])


def assemble_shard(job: dict[str, Any]) -> dict[str, Any]:
    """The samples that were chosen -> packed rows under the train folder. Returns the shard's counts."""
    target = part(job["train"], ".", job["index"])
    if is_made(target, job["identity"]):
        return json.loads(pq.read_schema(target).metadata[b"counts"])
    place = part(job["work"], "samples", job["index"])
    table = pq.read_table(place).take(pa.array(job["take"], pa.int64()))
    cuts = {job["take"].index(int(row)): learnt for row, learnt in job["cuts"].items()}
    samples: list[Sample] = []
    forms = {name: Counter[str]() for name in ("tokens_by_form", "learnt_tokens_by_form", "examples_by_form")}
    tokens: Counter[Origin] = Counter()
    for number, row in enumerate(table.to_pylist()):
        size = _length(cuts[number], job["seq_len"]) if number in cuts else len(row["input_ids"])
        sample = Sample(input_ids=row["input_ids"][:size], labels=row["labels"][:size], is_whole=row["is_whole"])
        samples.append(sample)
        counted = (len(sample.input_ids), num_learnt(sample.labels, job["seq_len"]), 1)
        for counter, count in zip(forms.values(), counted, strict=True):
            counter[row["form"]] += count
        tokens[Origin(**{name: row[name] for name in Origin.__slots__})] += len(sample.input_ids)
    rows = pack(samples, job["seq_len"], load_tokenizer_once(job["model"]).pad_token_id or 0)
    salt = str(job["seed"]).encode()
    rows.sort(key=lambda row: hashlib.sha256(salt + row.input_ids.tobytes()).digest())  # packing sorts by length
    counts = packing_stats(rows) | forms | {
        "index": job["index"],
        **json.loads(table.schema.metadata[b"counts"]),
        "documents": [[o.distribution, o.licence, o.path, count] for o, count in sorted(tokens.items(), key=_place)],
    }  # fmt: skip
    facts = {"counts": json.dumps(counts), IDENTITY: job["identity"]}
    columns = {name: _column([getattr(row, name) for row in rows], job["seq_len"]) for name in TRAIN_SCHEMA.names}
    write_table(target, pa.table(columns, TRAIN_SCHEMA.with_metadata(facts)))
    return json.loads(json.dumps(counts))


def _length(num_learnt: int, seq_len: int) -> int:
    """Tokens of a text all of which is learnt, but for the first of each row, that has this many learnt ones."""
    return num_learnt + -(-num_learnt // (seq_len - 1))


def _column(rows: list[Ids], seq_len: int) -> pa.Array:
    """[rows, seq_len] as lists."""
    values = np.concatenate([np.zeros(0, np.int32), *rows])
    return pa.ListArray.from_arrays(np.arange(0, len(values) + 1, seq_len, dtype=np.int32), values)


def _place(item: tuple[Origin, int]) -> tuple[str, str, str]:
    origin = item[0]
    return origin.distribution, origin.path, origin.licence
