"""Problems with tests: the tasks that mine and prove them, and the files that hold them. Runs without Ray.

    candidates   one distribution's functions that could become problems, held against the benchmarks
    checked      candidates that are not copies, run in the sandbox, as are the problems of training splits
    problems/{train,validation,test}.parquet   what passed, with solution, bugs and origin; read by `read_problems`

A function that two distributions hold is one problem. Limits: see `app.corpus.mining`.
"""

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from app.cluster.job_queue import LEFT_OUT, at
from app.corpus.clean.extract import COPY_FIELDS, copy_fields
from app.corpus.clean.guard import guard_of_build
from app.corpus.jobs import Job
from app.corpus.mining import Call, Candidate, Mined, check_candidates, find_candidates
from app.corpus.mining.find import refused
from app.corpus.mining.validation import UnprovedError, prove, short
from app.corpus.recipes import SPLITS
from app.corpus.records import PROBLEM, Bug, Origin, Rejected, SolvedProblem
from app.corpus.shard_files import COPYRIGHT, IDENTITY, ORIGIN_FIELDS, TEXT, is_made, part, write_rejected, write_rows
from app.corpus.sources.distributions import Distribution, read_source
from app.corpus.sources.untrusted import failure
from app.errors import UserError
from app.records import Problem, ProblemStyle
from app.sandbox.decoder import from_json
from app.sandbox.supervisor import Supervisor
from app.sandbox.tiers import confinement
from app.sandbox.values import to_json

CANDIDATE = "candidate"
_CANDIDATE_TEXTS = ("id", "split", "entry_point", "prelude", "signature", "docstring", "body", "digest")
CANDIDATE_SCHEMA = pa.schema(
    [*ORIGIN_FIELDS, *((name, TEXT) for name in ("kind", *_CANDIDATE_TEXTS, "calls")), ("undecorated", pa.bool_())]
    + COPY_FIELDS
)
"""`calls` is JSON, its values tagged (`app.sandbox.values`)."""
_PROBLEM_FIELDS = ("id", "source", "prompt", "entry_point", "tests", "style", "prelude", "setup", "difficulty", "split")
PROBLEM_SCHEMA = pa.schema(
    [*((name, TEXT) for name in (*_PROBLEM_FIELDS, "solution", "description"))]
    + [("bugs", pa.list_(pa.struct([(name, TEXT) for name in Bug.__slots__]))), *ORIGIN_FIELDS]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MineJob(Job):
    """A distribution whose functions become part `index` of "candidates", or of "rejected_candidates"."""

    distribution: Distribution
    split: str
    """The side that its problems are on, one of SPLITS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckJob(Job):
    """Candidates that become part `index` of "checked", or of "rejected_problems"."""

    rows: list[tuple[int, list[int]]]
    """Numbers of parts of "candidates", each with the rows to take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProveJob(Job):
    """Problems of training splits that become part `index` of "checked", or of "rejected_problems"."""

    given: list[SolvedProblem]


def mine_distribution(job: MineJob) -> dict[str, int]:
    """One distribution -> its candidates and rejections, under the work folder. Returns how many functions reached each
    of STAGES."""
    target = job.part("candidates")
    if not is_made(target, job.identity):
        mined = _found(job)
        rows: list[dict[str, Any]] = []
        rejected = list(mined.rejections)
        for candidate in mined.candidates:
            try:
                if reason := guard_of_build(job.build).hit(candidate.text, [candidate.entry_point]):
                    rejected.append(candidate.refused(f"benchmark {reason}"))
                else:
                    rows.append(candidate_row(candidate))
            except Exception as error:  # half surrogate pairs in a docstring, and unforeseen errors
                rejected.append(candidate.refused(failure(error)))
        at("")
        write_rejected(job.part("rejected_candidates"), _told(rejected))
        write_rows(target, rows, _counted(CANDIDATE_SCHEMA, mined, job))
    return _funnel(target)


def _counted(schema: pa.Schema, mined: Mined, job: Job) -> pa.Schema:
    facts = {"counts": json.dumps(mined.counts), IDENTITY: job.identity}
    if isinstance(job, MineJob):
        facts[COPYRIGHT] = json.dumps({job.distribution.name: mined.copyright})
    return schema.with_metadata(facts)


def _funnel(path: Path) -> dict[str, int]:
    counts: dict[str, int] = json.loads(pq.read_schema(path).metadata[b"counts"])
    return counts


def _found(job: MineJob) -> Mined:
    """The distribution's candidates; none, with the reason, for one that can't be looked through as a whole."""
    recipe = job.build.recipe
    allow = frozenset(recipe.licences.also_allow)
    try:
        return find_candidates(job.distribution, read_source, job.split, rules=recipe.cleaning, also_allow=allow)
    except Exception as error:  # whatever a distribution holds is its own matter: it ends no build
        return Mined(rejections=[refused(job.distribution, "", failure(error))])


def _side(split: str) -> float:
    """Rank of a copy: the one of the smaller side stays, so that no problem to be measured on is also trained on."""
    return float(SPLITS.index(split))


def check_chunk(job: CheckJob) -> dict[str, int]:
    """Rows of several candidate files -> problems and rejections, under the work folder. Returns what
    `mine_distribution` does."""
    target = job.part("checked")
    if not is_made(target, job.identity):
        candidates = [candidate for index, rows in job.rows for candidate in _candidates(job, index, rows)]
        mined = check_candidates(candidates, job.build.sandbox, confinement(unsafe=job.build.unsafe))
        at("")
        write_rejected(job.part("rejected_problems"), _told(mined.rejections))
        write_rows(target, [problem_row(problem) for problem in mined.problems], _counted(PROBLEM_SCHEMA, mined, job))
    return _funnel(target)


def prove_chunk(job: ProveJob) -> None:
    """Some problems of training splits -> those that no benchmark holds and whose solutions pass, with bugs."""
    target = job.part("checked")
    if is_made(target, job.identity):
        return
    settings, confined = job.build.sandbox, confinement(unsafe=job.build.unsafe)
    kept: list[dict[str, Any]] = []
    rejected: list[Rejected] = []
    with Supervisor(settings, confined) as patient, Supervisor(short(settings), confined) as strict:
        for solved in job.given:
            problem = solved.problem
            try:
                if reason := at(problem.id):
                    raise UnprovedError(reason, passes=False)
                # Not of the solution: those of different exercises share whole idioms, names included.
                name = problem.entry_point.rpartition(".")[2]
                if hit := guard_of_build(job.build).hit(problem.prompt, [name], renamed=False):
                    raise UnprovedError(f"benchmark {hit}", passes=False)
                bugs = prove(problem, solved.solution, patient, strict)
                kept.append(problem_row(replace(solved, bugs=bugs)))
            except (UserError, OSError):
                raise
            except Exception as error:  # whatever a problem holds is its own matter: it ends no build
                reason = str(error) if isinstance(error, UnprovedError) else failure(error)
                rejected.append(Rejected(origin=solved.origin, name=problem.id, what=PROBLEM, reason=reason))
    at("")
    write_rejected(job.part("rejected_problems"), _told(rejected))
    write_rows(target, kept, PROBLEM_SCHEMA.with_metadata({IDENTITY: job.identity}))


def candidate_row(candidate: Candidate) -> dict[str, Any]:
    """The candidate as a row of CANDIDATE_SCHEMA. Raises UnicodeEncodeError for a text with half a surrogate pair,
    WireError for an argument nested too deeply."""
    calls = [{name: to_json(getattr(call, name)) for name in Call.__slots__} for call in candidate.calls]
    fields = {name: getattr(candidate, name) for name in (*_CANDIDATE_TEXTS, "undecorated")}
    fields |= candidate.origin.row | {"kind": CANDIDATE, "calls": json.dumps(calls)}
    return fields | copy_fields(candidate.text, _side(candidate.split))


def candidate_of(row: dict[str, Any]) -> Candidate:
    calls = [{name: from_json(call[name]) for name in Call.__slots__} for call in json.loads(row["calls"])]
    fields = {name: row[name] for name in (*_CANDIDATE_TEXTS, "undecorated")}
    return Candidate(origin=Origin.of(row), calls=tuple(Call(**call) for call in calls), **fields)


def _candidates(job: CheckJob, index: int, rows: Sequence[int]) -> list[Candidate]:
    table = pq.read_table(part(job.build.work, "candidates", index)).take(pa.array(rows, pa.int64()))
    return [candidate_of(row) for row in table.to_pylist()]


def chunks(kept: Sequence[Iterable[int]], size: int) -> Iterator[list[tuple[int, list[int]]]]:
    """Rows to keep of each candidate file, cut into jobs of about `size` candidates."""
    pairs = [(index, int(row)) for index, rows in enumerate(kept) for row in rows]
    for start in range(0, len(pairs), size):
        by_file = itertools.groupby(pairs[start : start + size], key=lambda pair: pair[0])
        yield [(index, [row for _, row in group]) for index, group in by_file]


def write_problems(folder: Path, parts: Iterable[Path]) -> dict[str, Counter[str]]:
    """The files of all splits. Returns the number of problems by split and source."""
    rows: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    for path in parts:
        for row in pq.read_table(path).to_pylist():
            rows[row["split"]].append(row)
    for split, held in rows.items():
        write_rows(folder / f"{split}.parquet", sorted(held, key=lambda row: row["id"]), PROBLEM_SCHEMA)
    return {split: Counter(row["source"] for row in held) for split, held in rows.items()}


def read_problems(folder: Path, split: str) -> list[SolvedProblem]:
    """The problems of a run's corpus/problems, in the order of their ids."""
    return [_solved(row) for row in pq.read_table(folder / f"{split}.parquet").to_pylist()]


def problem_row(solved: SolvedProblem) -> dict[str, Any]:
    fields = {name: getattr(solved.problem, name) for name in _PROBLEM_FIELDS}
    own = {"solution": solved.solution, "description": solved.description, "bugs": [asdict(bug) for bug in solved.bugs]}
    return fields | own | solved.origin.row


def _solved(row: dict[str, Any]) -> SolvedProblem:
    fields = {name: row[name] for name in _PROBLEM_FIELDS} | {"style": ProblemStyle(row["style"])}
    return SolvedProblem(
        problem=Problem(licence=row["licence"], **fields),
        solution=row["solution"],
        description=row["description"],
        bugs=tuple(Bug(**bug) for bug in row["bugs"]),
        origin=Origin.of(row),
    )


def _told(rejected: Iterable[Rejected]) -> Iterator[Rejected]:
    """The rejections with "no problem" as the kind of each reason; what the queue left out keeps its own."""
    for one in rejected:
        is_left_out = one.reason.partition(":")[0] in LEFT_OUT
        yield one if is_left_out else replace(one, reason=f"no problem: {one.reason}")
