"""Problems with tests: the tasks that mine and prove them, and the files that hold them. Runs without Ray.

    candidates   one distribution's functions that could become problems, held against the benchmarks
    checked      candidates that are nobody's copies, run in the sandbox; problems of training splits likewise
    problems/{train,validation,test}.parquet   what passed, with solution, bugs and origin; read by `read_problems`

A function that two distributions hold is one problem. Limits: see `app.corpus.mining`.
"""

import json
import pickle
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from app.cluster.job_queue import at
from app.corpus.clean.extract import COPY_FIELDS, REJECTED_SCHEMA, TEXT, copy_fields
from app.corpus.clean.guard import decontaminator
from app.corpus.mining import STAGES, Candidate, Mined, Rejection, check_candidates, find_candidates
from app.corpus.mining.validation import UnprovedError, prove, short
from app.corpus.recipes import SPLITS, Recipe
from app.corpus.records import Bug, Origin, SolvedProblem
from app.corpus.shard_files import IDENTITY, is_made, part, write_rows
from app.corpus.sources.find import read_source
from app.corpus.sources.licences import LicenceVerdict
from app.corpus.sources.packages import Distribution, SourceFile
from app.corpus.sources.untrusted import failure
from app.errors import UserError
from app.records import Problem, ProblemStyle
from app.sandbox.supervisor import Supervisor
from app.sandbox.tiers import confinement
from app.settings import SandboxSettings

CANDIDATE = "candidate"
CANDIDATE_SCHEMA = pa.schema([("kind", TEXT), ("candidate", pa.binary()), *COPY_FIELDS])
_PROBLEM_FIELDS = ("id", "source", "prompt", "entry_point", "tests", "style", "prelude", "setup", "difficulty", "split")
PROBLEM_SCHEMA = pa.schema(
    [*((name, TEXT) for name in (*_PROBLEM_FIELDS, "solution", "description"))]
    + [("bugs", pa.list_(pa.struct([(name, TEXT) for name in Bug.__slots__])))]
    + [(name, TEXT) for name in Origin.__slots__]
)


def mine_distribution(job: dict[str, Any]) -> dict[str, Any]:
    """One distribution -> its candidates and rejections, under the work folder."""
    target = part(job["work"], "candidates", job["index"])
    if not is_made(target, job["identity"]):
        distribution = distribution_of(job["distribution"])
        mined = _found(distribution, job)
        guard = decontaminator(job["guard"], job["guard_sha256"])
        rows: list[dict[str, Any]] = []
        rejected = _rejected(mined.rejections, distribution)
        for candidate in mined.candidates:
            try:
                if reason := guard.hit(candidate.text, [candidate.entry_point]):
                    rejected += _rejected([_refused(candidate, f"benchmark {reason}")], distribution)
                else:
                    row = {"kind": CANDIDATE, "candidate": pickle.dumps(candidate)}
                    rows.append(row | copy_fields(candidate.text, _side(candidate.split)))
            except Exception as error:  # half surrogate pairs in a docstring, and unforeseen errors
                rejected += _rejected([_refused(candidate, failure(error))], distribution)
        at("")
        write_rows(part(job["work"], "rejected_candidates", job["index"]), rejected, REJECTED_SCHEMA)
        facts = {"counts": json.dumps(mined.counts), IDENTITY: job["identity"]}
        write_rows(target, rows, CANDIDATE_SCHEMA.with_metadata(facts))
    return {"index": job["index"], "counts": json.loads(pq.read_schema(target).metadata[b"counts"])}


def _found(distribution: Distribution, job: dict[str, Any]) -> Mined:
    """The distribution's candidates; none, with the reason, for one that can't be looked through as a whole."""
    rules = Recipe.model_validate_json(job["recipe"]).cleaning
    allow = frozenset(job["also_allow"])
    try:
        return find_candidates(distribution, read_source, job["split"], rules=rules, also_allow=allow)
    except Exception as error:  # whatever a distribution holds is its own matter: it ends no build
        place = {"distribution": distribution.name, "path": "", "name": ""}
        return Mined(rejections=[Rejection(**place, stage=STAGES[0], reason=failure(error))])


def distribution_of(fields: dict[str, Any]) -> Distribution:
    """From what `dataclasses.asdict` made of it."""
    files = tuple(SourceFile(**file) for file in fields["files"])
    rejected = tuple((path, reason) for path, reason in fields["rejected"])
    verdict = LicenceVerdict(**fields["verdict"])
    return Distribution(**{**fields, "verdict": verdict, "files": files, "rejected": rejected})


def _side(split: str) -> float:
    """Rank of a copy: the one of the smaller side stays, so that no problem to be measured on is also trained on."""
    return float(SPLITS.index(split))


def check_chunk(job: dict[str, Any]) -> dict[str, Any]:
    """Rows of several candidate files -> problems and rejections, under the work folder."""
    target = part(job["work"], "checked", job["index"])
    if not is_made(target, job["identity"]):
        candidates = [candidate for index, rows in job["rows"] for candidate in _candidates(job["work"], index, rows)]
        sandbox = SandboxSettings.model_validate_json(job["sandbox"])
        mined = check_candidates(candidates, sandbox, confinement(unsafe=job["unsafe"]))
        versions = {c.origin.distribution: (c.origin.version, c.origin.licence) for c in candidates}
        rejected = [_rejection_row(rejection, *versions[rejection.distribution]) for rejection in mined.rejections]
        at("")
        write_rows(part(job["work"], "rejected_problems", job["index"]), rejected, REJECTED_SCHEMA)
        schema = PROBLEM_SCHEMA.with_metadata({"counts": json.dumps(mined.counts), IDENTITY: job["identity"]})
        write_rows(target, [problem_row(problem) for problem in mined.problems], schema)
    return {"index": job["index"], "counts": json.loads(pq.read_schema(target).metadata[b"counts"])}


def prove_chunk(job: dict[str, Any]) -> dict[str, Any]:
    """Some problems of training splits -> those that no benchmark holds and whose solutions pass, with bugs."""
    target = part(job["work"], "checked", job["index"])
    if not is_made(target, job["identity"]):
        settings = SandboxSettings.model_validate_json(job["sandbox"])
        guard, confined = decontaminator(job["guard"], job["guard_sha256"]), confinement(unsafe=job["unsafe"])
        kept: list[dict[str, Any]] = []
        rejected: list[dict[str, Any]] = []
        with Supervisor(settings, confined) as patient, Supervisor(short(settings), confined) as strict:
            for solved in map(_solved, job["given"]):
                problem = solved.problem
                try:
                    if reason := at(problem.id):
                        raise UnprovedError(reason, passes=False)
                    # Not of the solution: those of different exercises share whole idioms, names included.
                    name = problem.entry_point.rpartition(".")[2]
                    if hit := guard.hit(problem.prompt, [name], renamed=False):
                        raise UnprovedError(f"benchmark {hit}", passes=False)
                    bugs = prove(problem, solved.solution, patient, strict)
                    kept.append(problem_row(replace(solved, bugs=bugs)))
                except UnprovedError as error:
                    rejected.append(_rejected_row(solved.origin, problem.id, str(error)))
                except (UserError, OSError):
                    raise
                except Exception as error:  # whatever a problem holds is its own matter: it ends no build
                    rejected.append(_rejected_row(solved.origin, problem.id, failure(error)))
        at("")
        write_rows(part(job["work"], "rejected_problems", job["index"]), rejected, REJECTED_SCHEMA)
        write_rows(target, kept, PROBLEM_SCHEMA.with_metadata({IDENTITY: job["identity"]}))
    return {"index": job["index"]}


def _candidates(work: str, index: int, rows: Sequence[int]) -> list[Candidate]:
    table = pq.read_table(part(work, "candidates", index), columns=["candidate"])
    return [pickle.loads(table["candidate"][row].as_py()) for row in rows]


def chunks(kept: Sequence[Iterable[int]], size: int) -> Iterator[list[tuple[int, list[int]]]]:
    """Rows to keep of each candidate file, cut into jobs of about `size` candidates."""
    chunk: list[tuple[int, list[int]]] = []
    room = size
    for index, rows in enumerate(kept):
        left = [int(row) for row in rows]
        while left:
            chunk.append((index, left[:room]))
            room, left = room - len(left[:room]), left[room:]
            if not room:
                yield chunk
                chunk, room = [], size
    if chunk:
        yield chunk


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
    return fields | own | {name: getattr(solved.origin, name) for name in Origin.__slots__}


def _solved(row: dict[str, Any]) -> SolvedProblem:
    fields = {name: row[name] for name in _PROBLEM_FIELDS} | {"style": ProblemStyle(row["style"])}
    return SolvedProblem(
        problem=Problem(licence=row["licence"], **fields),
        solution=row["solution"],
        description=row["description"],
        bugs=tuple(Bug(**bug) for bug in row["bugs"]),
        origin=Origin(**{name: row[name] for name in Origin.__slots__}),
    )


def _refused(candidate: Candidate, reason: str) -> Rejection:
    origin = candidate.origin
    return Rejection(
        distribution=origin.distribution, path=origin.path, name=candidate.entry_point, stage="benchmark", reason=reason
    )


def _rejected(rejections: Iterable[Rejection], distribution: Distribution) -> list[dict[str, Any]]:
    return [_rejection_row(r, distribution.version, distribution.verdict.licence) for r in rejections]


def _rejection_row(rejection: Rejection, version: str, licence: str) -> dict[str, Any]:
    origin = Origin(distribution=rejection.distribution, version=version, licence=licence, path=rejection.path)
    return _rejected_row(origin, rejection.name, rejection.reason)


def _rejected_row(origin: Origin, name: str, reason: str) -> dict[str, Any]:
    return asdict(origin) | {"name": name, "what": "problem", "reason": f"no problem: {reason}"}
