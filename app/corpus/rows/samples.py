"""Task before the last one, over one shard: documents and problems -> examples -> tokens. Runs without Ray.

A shard takes the documents of its files that are not copies, and its share of the training problems, drawn by
hash: so each shard is a small picture of the whole corpus. Every example that could be shown is made; which of them are
learnt is chosen over all shards (`app.corpus.rows.shares`), by the draw and the number of learnt tokens that each has
here.
"""

import functools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from app.cluster.job_queue import at
from app.corpus.clean.decontamination import Decontaminator
from app.corpus.clean.extract import COPY_FIELDS, DOCUMENT_SCHEMA
from app.corpus.draws import Draws, bits
from app.corpus.examples.forms import document_examples, problem_examples, split_context
from app.corpus.examples.tool_dialogues import near, tool_example
from app.corpus.jobs import Job
from app.corpus.mining.storage import read_problems
from app.corpus.recipes import SPLITS
from app.corpus.records import FUNCTION, PROBLEM, Document, Example, Origin, Rejected, SolvedProblem
from app.corpus.rows.packing import Sample, num_learnt, too_long
from app.corpus.rows.render import fills_in, tokenise_all, unrolled
from app.corpus.shard_files import IDENTITY, ORIGIN_FIELDS, TEXT, is_made, write_rejected, write_table
from app.corpus.sources.admission import not_admitted
from app.corpus.sources.untrusted import failure
from app.files.text import has_surrogates
from app.models.base import ensure_model, load_tokenizer
from app.records import BenchmarkText
from app.settings import ModelSettings

HELD_OUT = "held_out.json"
"""In the work folder: texts of the validation and test problems, which no training document may touch."""
SAMPLE_SCHEMA = pa.schema(
    [*ORIGIN_FIELDS, ("form", TEXT), ("draw", pa.int64()), ("learnt", pa.int32()), ("is_whole", pa.bool_())]
    + [(name, pa.list_(pa.int32())) for name in ("input_ids", "labels")]
    + [("beside", pa.list_(pa.struct(ORIGIN_FIELDS)))]
)
BATCH = 256
"""Examples whose tokens are lists of Python's at a time."""
Reject = Callable[[str, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """An example, and whose it is. `draw` says how early it is chosen."""

    example: Example
    origin: Origin
    name: str
    draw: int
    beside: tuple[Origin, ...] = ()
    """Of others whose words it shows too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderJob(Job):
    """Documents and problems whose examples become part `index` of "samples", or of "left_out"."""

    keep: list[int]
    """Rows of part `index` of "documents" that stay once copies are gone."""
    num_shards: int
    """Number of all shards of the build, among which the problems are dealt out."""
    inputs: str
    """Hash of the files of problems, which all shards read."""


def render_shard(job: RenderJob) -> None:
    """Kept documents and this shard's problems -> samples, and what was left out, under the work folder."""
    target = job.part("samples")
    if is_made(target, job.identity):
        return
    tokenizer, seq_len = load_tokenizer_once(job.build.model), job.build.seq_len
    rejected: list[Rejected] = []
    sources = [
        replace(source, example=example)
        for source in _sources(job, fills_in(tokenizer), rejected)
        for example in unrolled(source.example, tokenizer)
    ]
    at("")
    rows: list[dict[str, Any]] = []
    for source, sample in zip(sources, _samples(sources, tokenizer), strict=True):
        reason = sample if isinstance(sample, str) else too_long(sample, seq_len)
        if isinstance(sample, str) or reason:
            rejected.append(Rejected(origin=source.origin, name=source.name, what=source.example.form, reason=reason))
        else:
            rows.append(_row(source, sample, seq_len))
    left_out = Counter(f"{one.what}: {one.reason.partition(':')[0]}" for one in rejected)
    write_rejected(job.part("left_out"), rejected)
    material = Counter[str]()
    for row in rows:
        material[row["form"]] += row["learnt"]
    notes = {"left_out": left_out, "learnable_tokens_by_form": material}
    schema = SAMPLE_SCHEMA.with_metadata({"counts": json.dumps(notes), IDENTITY: job.identity})
    write_table(target, pa.Table.from_pylist(rows, schema))


def _row(source: _Source, sample: Sample, seq_len: int) -> dict[str, Any]:
    own = {"form": source.example.form, "draw": source.draw, "learnt": num_learnt(sample.labels, seq_len)}
    tokens: dict[str, Any] = {name: np.array(getattr(sample, name), np.int32) for name in ("input_ids", "labels")}
    tokens |= {"is_whole": sample.is_whole, "beside": [origin.row for origin in source.beside]}
    return source.origin.row | own | tokens


def _samples(sources: Sequence[_Source], tokenizer: Any) -> Iterator[Sample | str]:
    """The sample of each example, or why it can't be tokenised."""
    for start in range(0, len(sources), BATCH):
        batch = [source.example for source in sources[start : start + BATCH]]
        reasons = [_unwritable(example) for example in batch]
        good = [example for example, reason in zip(batch, reasons, strict=True) if not reason]
        samples = iter(tokenise_all(good, tokenizer))
        yield from (reason or next(samples) for reason in reasons)


def _unwritable(example: Example) -> str:
    """Why the example's texts can't be tokenised: what a docstring evaluates to may hold half surrogate pairs."""
    text = "".join((example.prompt, example.completion, *(str(turn["content"]) for turn in example.turns)))
    return "encoding: half a surrogate pair" if has_surrogates(text) else ""


def _sources(job: RenderJob, with_tokens: bool, rejected: list[Rejected]) -> Iterator[_Source]:
    """All examples of the shard, in the order of its files, then of its problems."""
    seed = job.build.seed
    forms = {form: 1.0 for form, share in job.build.recipe.forms.model_dump().items() if share > 0}

    def source(example: Example, origin: Origin, name: str, key: str) -> _Source:
        draw = Draws(f"{seed}:{example.form}:{key}").below(2**32)
        return _Source(example=example, origin=origin, name=name, draw=draw)

    documented: list[tuple[Origin, Document]] = []
    for origin, document in _documents(job, rejected):

        def reject(form: str, why: str, origin: Origin = origin, name: str = document.name) -> None:
            rejected.append(Rejected(origin=origin, name=name, what=form, reason=why))

        if document.kind == FUNCTION:
            documented.append((origin, document))
        made = functools.partial(document_examples, document, forms, seed, fills_in=with_tokens, reject=reject)
        for example in _answered(f"{origin.distribution}: {origin.path}: {document.name}", document.kind, made, reject):
            made_of = source(example, origin, document.name, document.text)
            files = split_context(document.context)[1] if example.form == "multi_file" else ()
            yield replace(made_of, beside=tuple(replace(origin, path=path) for path in files if path != origin.path))
    told = [(origin.distribution, document) for origin, document in documented]
    for place, (origin, document) in enumerate(documented):

        def leave(form: str, why: str, origin: Origin = origin, name: str = document.name) -> None:
            rejected.append(Rejected(origin=origin, name=name, what=form, reason=why))

        made = functools.partial(tool_example, told, place, forms, seed, leave)
        name = f"{origin.distribution}: {origin.path}: {document.name}: tool_use"
        for example in _answered(name, "tool_use", made, leave):
            made_of = source(example, origin, document.name, document.text)
            yield replace(made_of, beside=_beside(example, near(documented, place), origin))
    for solved in _problems(job.build.problems, job.num_shards, job.inputs)[job.index]:
        if reason := not_admitted(solved.origin, job.build.recipe):
            rejected.append(Rejected(origin=solved.origin, name=solved.problem.id, what=PROBLEM, reason=reason))
            continue

        def refuse(form: str, why: str, solved: SolvedProblem = solved) -> None:
            rejected.append(Rejected(origin=solved.origin, name=solved.problem.id, what=form, reason=why))

        made = functools.partial(problem_examples, solved, forms, seed, fills_in=with_tokens, reject=refuse)
        for example in _answered(solved.problem.id, "problem", made, refuse):
            yield source(example, solved.origin, solved.problem.entry_point, solved.problem.id)


def _beside(example: Example, others: Sequence[tuple[Origin, Document]], own: Origin) -> tuple[Origin, ...]:
    """The origins of the other functions whose documentation a dialogue shows."""
    shown = "\n".join(str(turn["content"]) for turn in example.turns if turn["role"] == "tool")
    return tuple(dict.fromkeys(o for o, document in others if o != own and f" {document.name}(" in shown))


def _answered(name: str, kind: str, make: Callable[[], Iterator[Example]], reject: Reject) -> list[Example]:
    """The examples; none, with the reason, for a document or problem that makes them fail."""
    reason = at(name)
    if not reason:
        try:
            return list(make())
        except Exception as error:  # whatever a document holds is its own matter: it ends no build
            reason = failure(error)
    reject(kind, reason)
    return []


def _documents(job: RenderJob, rejected: list[Rejected]) -> Iterator[tuple[Origin, Document]]:
    """The shard's documents that are not copies, touch no problem that is measured on, and are under a licence that is
    taken."""
    guard = _held_out(job.build.work, job.inputs)
    names = [name for name in DOCUMENT_SCHEMA.names if name not in {field for field, _ in COPY_FIELDS}]
    table = pq.read_table(job.part("documents"), columns=names)
    for row in table.take(pa.array(job.keep, pa.int64())).to_pylist():
        origin = Origin.of(row)
        document = Document(**{name: row[name] for name in Document.__slots__})
        if reason := not_admitted(origin, job.build.recipe):
            rejected.append(Rejected(origin=origin, name=document.name, what=document.kind, reason=reason))
        elif guard and (reason := guard.hit(f"{document.context}\n{document.text}", [])):
            why = f"held-out problem: {reason}"
            rejected.append(Rejected(origin=origin, name=document.name, what=document.kind, reason=why))
        else:
            yield origin, document


@functools.lru_cache(maxsize=1)
def _problems(folder: Path, num_shards: int, inputs: str) -> list[list[SolvedProblem]]:
    """The training problems of each shard. inputs: hash of the files, so that a worker never goes by older ones."""
    shards: list[list[SolvedProblem]] = [[] for _ in range(num_shards)]
    for solved in read_problems(folder, SPLITS[0]):
        shards[bits(solved.problem.id) % num_shards].append(solved)
    return shards


@functools.lru_cache(maxsize=1)
def _held_out(work: Path, inputs: str) -> Decontaminator | None:
    """The problems that are measured on; None where there are none. inputs: as for `_problems`."""
    held = json.loads((work / HELD_OUT).read_text())
    texts = [BenchmarkText(**(row | {"inputs": tuple(row["inputs"])})) for row in held]
    return Decontaminator(texts) if held else None


@functools.cache
def load_tokenizer_once(model: ModelSettings) -> Any:
    return load_tokenizer(ensure_model(model))
