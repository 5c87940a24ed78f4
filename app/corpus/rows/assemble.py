"""Last stage of the build: chosen samples -> packed rows, shard by shard through Ray Data.

What is read here are numbers that the build itself wrote, so nothing has to be left out: a stream of trusted data, and
Ray's dashboard shows the statistics of its operators. Packing needs all samples of a shard at once, and a part carries
its identity and counts, which no file format of Ray Data does; so each task of the stream makes and writes a whole part
(`assemble_shard`, which runs without Ray). Rows within a shard are in an order drawn by hash.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from app.cluster.job_queue import TRIES
from app.corpus.draws import by_hash
from app.corpus.jobs import Job
from app.corpus.records import Origin
from app.corpus.rows.packing import Ids, PackingStats, Sample, num_learnt, pack, packing_stats
from app.corpus.rows.samples import load_tokenizer_once
from app.corpus.shard_files import IDENTITY, is_made, part, write_table
from app.errors import UserError
from app.progress import progress

TRAIN_SCHEMA = pa.schema([(name, pa.list_(pa.int32())) for name in ("input_ids", "labels", "position_ids")])


@dataclass(frozen=True, slots=True, kw_only=True)
class AssembleJob(Job):
    """Samples whose packed rows become part `index` of the train folder."""

    take: list[int]
    """Rows of part `index` of "samples", ascending."""
    cuts: dict[int, int]
    """Learnt tokens of the rows that are not learnt to their end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardCounts(PackingStats):
    """The answer of `assemble_shard`, kept in its part's metadata; read by `app.corpus.manifest`."""

    tokens_by_form: dict[str, int]
    learnt_tokens_by_form: dict[str, int]
    examples_by_form: dict[str, int]
    index: int
    left_out: dict[str, int]
    """Examples that became no sample, by form and kind of reason."""
    learnable_tokens_by_form: dict[str, int]
    """Learnable tokens over all samples, chosen or not."""
    documents: list[tuple[str, str, str, int]]
    """Distribution, licence, path and tokens of each file; 0 where it is only shown beside another."""


def assemble_shards(jobs: Sequence[AssembleJob], at_once: int | None) -> list[ShardCounts]:
    """The counts of all shards, in their order. Needs a connected Ray.

    at_once: shards that are packed at a time; None: one a core. Raises UserError for a shard that keeps killing its
    worker.
    """
    import ray.data

    for job in jobs:
        _tries(job).unlink(missing_ok=True)
    rows = ray.data.from_items([{"job": job} for job in jobs], override_num_blocks=len(jobs))
    stream = rows.map(_assembled, num_cpus=1, compute=ray.data.TaskPoolStrategy(size=at_once))
    counts: list[ShardCounts] = []
    with progress("corpus, assemble", len(jobs), "shards") as update:
        for row in stream.iter_rows():
            if isinstance(row["made"], Exception):
                raise row["made"]
            counts.append(row["made"])
            update(len(counts))
    return sorted(counts, key=lambda shard: shard.index)


def _assembled(row: dict[str, AssembleJob]) -> dict[str, ShardCounts | Exception]:
    """Assemble one shard as a task of Ray Data. What it raises is handed over as it is: Ray Data would add advice of
    its own to the words and log a traceback."""
    try:
        return {"made": _packed(row["job"])}
    except Exception as error:
        return {"made": error}


def _packed(job: AssembleJob) -> ShardCounts:
    """Ray Data repeats a task whose worker died without end, so tries are counted in a file."""
    with open(_tries(job), "a") as file:
        file.write(".")
        if file.tell() > TRIES:
            raise UserError(
                f"packing shard {job.index} killed its worker {TRIES} times: give the machine more memory, or run "
                "fewer jobs at once (corpus.num_workers), and start again"
            )
    return assemble_shard(job)


def _tries(job: AssembleJob) -> Path:
    return job.build.work / f"packing-{job.index:05d}.tries"


def assemble_shard(job: AssembleJob) -> ShardCounts:
    """The samples that were chosen -> packed rows under the train folder."""
    target = part(job.build.train, ".", job.index)
    if not is_made(target, job.identity):
        _write(target, job)
    return ShardCounts(**json.loads(pq.read_schema(target).metadata[b"counts"]))


def _write(target: Path, job: AssembleJob) -> None:
    seq_len = job.build.seq_len
    table = pq.read_table(job.part("samples")).take(pa.array(job.take, pa.int64()))
    cuts = {job.take.index(row): learnt for row, learnt in job.cuts.items()}
    samples: list[Sample] = []
    sizes, learned, examples = Counter[str](), Counter[str](), Counter[str]()
    tokens: Counter[Origin] = Counter()
    for number, row in enumerate(table.to_pylist()):
        size = _length(cuts[number], seq_len) if number in cuts else len(row["input_ids"])
        sample = Sample(input_ids=row["input_ids"][:size], labels=row["labels"][:size], is_whole=row["is_whole"])
        samples.append(sample)
        sizes[row["form"]] += len(sample.input_ids)
        learned[row["form"]] += num_learnt(sample.labels, seq_len)
        examples[row["form"]] += 1
        tokens[Origin.of(row)] += len(sample.input_ids)
        tokens.update({Origin.of(beside): 0 for beside in row["beside"]})
    rows = pack(samples, seq_len, load_tokenizer_once(job.build.model).pad_token_id or 0)
    salt = str(job.build.seed).encode()
    rows.sort(key=lambda row: by_hash(salt + row.input_ids.tobytes()))  # packing sorts by length
    counts = ShardCounts(
        **asdict(packing_stats(rows)),
        tokens_by_form=dict(sizes),
        learnt_tokens_by_form=dict(learned),
        examples_by_form=dict(examples),
        index=job.index,
        **json.loads(table.schema.metadata[b"counts"]),
        documents=[(o.distribution, o.licence, o.path, count) for o, count in sorted(tokens.items(), key=_place)],
    )
    facts = {"counts": json.dumps(asdict(counts)), IDENTITY: job.identity}
    columns = {name: _column([getattr(row, name) for row in rows], seq_len) for name in TRAIN_SCHEMA.names}
    write_table(target, pa.table(columns, TRAIN_SCHEMA.with_metadata(facts)))


def _length(num_learnt: int, seq_len: int) -> int:
    """Tokens of a text with this many learnt ones, where all but the first token of each row are learnt."""
    return num_learnt + -(-num_learnt // (seq_len - 1))


def _column(rows: list[Ids], seq_len: int) -> pa.Array:
    """The rows as a column of lists: [rows, seq_len]."""
    values = np.concatenate([np.zeros(0, np.int32), *rows])
    return pa.ListArray.from_arrays(np.arange(0, len(values) + 1, seq_len, dtype=np.int32), values)


def _place(item: tuple[Origin, int]) -> tuple[str, str, str]:
    origin = item[0]
    return origin.distribution, origin.path, origin.licence
