"""Hardened problems as Parquet files, runs/<run-id>/grm/problems/, made once; and what hardening came to, in numbers.

Those to validate by lie in a folder below it, validation/. A problem is one row: its fields as columns, the given tests
beside all tests. Nothing in it is run by reading it.
"""

import dataclasses
import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from app.corpus.shard_files import IDENTITY, is_made
from app.errors import UserError
from app.files.durable import flush
from app.files.text import one_line
from app.records import Problem, ProblemStyle
from app.reward.problems.hardening import MAX_ADDED, VERSION, Hardened, hardened
from app.reward.records import TrainingProblem
from app.sandbox.tiers import Confinement
from app.settings import SandboxSettings

PART = 256
"""Problems of one file, where they are made by and by: what is done when a run is ended stays done."""
TEXT = pa.string()
_PROBLEM_FIELDS = tuple(field.name for field in dataclasses.fields(Problem))
SCHEMA = pa.schema(
    [
        *((name, TEXT) for name in ("suite", *_PROBLEM_FIELDS, "given_tests", "reference", "constraints", "second")),
        ("question", pa.list_(pa.struct([("role", TEXT), ("content", TEXT)]))),
        ("added", pa.list_(TEXT)),
        ("dropped", pa.list_(pa.struct([("reason", TEXT), ("inputs", pa.int32())]))),
        ("why_not", TEXT),
    ]
)
"""`tests` are all tests, `given_tests` those of the source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HardeningCounts:
    """What hardening came to. Made by `counts_of`; read by the report."""

    problems: int
    with_added: int
    """Problems that have further tests."""
    inputs_added: int
    dropped: dict[str, int]
    """Inputs by the reason why they were left out."""
    not_hardened: dict[str, int]
    """Problems by the reason why they keep their given tests alone."""


def counts_of(problems: Iterable[Hardened]) -> HardeningCounts:
    number = with_added = added = 0
    dropped, kept_as_given = Counter[str](), Counter[str]()
    for one in problems:
        number += 1
        with_added += bool(one.added)
        added += len(one.added)
        dropped.update(dict(one.dropped))
        kept_as_given.update([one.why_not.partition(":")[0]] if one.why_not else [])
    return HardeningCounts(
        problems=number,
        with_added=with_added,
        inputs_added=added,
        dropped=dict(dropped.most_common()),
        not_hardened=dict(kept_as_given.most_common()),
    )


def made_once(
    folder: Path, problems: Sequence[TrainingProblem], settings: SandboxSettings, confined: Confinement
) -> Iterator[Hardened]:
    """The problems, hardened, in their order: those of a part that was made of the same problems before are read."""
    for start in range(0, len(problems), PART):
        chunk = problems[start : start + PART]
        path = folder / f"part-{start // PART:05d}.parquet"
        identity = _identity(chunk)
        if not is_made(path, identity):
            write(path, hardened(chunk, settings, confined), identity)
        yield from read(path)
    for path in _parts(folder)[math.ceil(len(problems) / PART) :]:  # of when there were more problems
        path.unlink()


def read_all(folder: Path) -> list[Hardened]:
    """What `made_once` has made there."""
    return [one for path in _parts(folder) for one in read(path)]


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def _identity(problems: Sequence[TrainingProblem]) -> str:
    """Of what a part is made from."""
    facts = [VERSION, MAX_ADDED, *map(dataclasses.asdict, problems)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def write(path: Path, problems: Iterable[Hardened], identity: str = "") -> HardeningCounts:
    """Write the problems beside their place, then rename the file. The same problems give the same bytes."""
    held = list(problems)
    counts = counts_of(held)
    facts = {b"counts": json.dumps(dataclasses.asdict(counts)), IDENTITY: identity}
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    table = pa.Table.from_pylist([_row(one) for one in held], SCHEMA.with_metadata(facts))
    pq.write_table(table, beside, compression="zstd", compression_level=19)
    flush(beside)
    beside.rename(path)
    return counts


def read(path: Path) -> list[Hardened]:
    """The problems in their order. Raises UserError for a file that holds none."""
    try:
        table = pq.read_table(path, schema=SCHEMA)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(
            f"{path} is no file of hardened problems ({one_line(error)}): take it away, and it is made anew"
        ) from None
    return [_hardened(row) for row in table.to_pylist()]


def _row(one: Hardened) -> dict[str, Any]:
    problem = one.problem
    return dataclasses.asdict(problem.problem) | {
        "suite": problem.suite,
        "given_tests": problem.given.tests,
        "reference": problem.reference,
        "constraints": problem.constraints,
        "second": problem.second,
        "question": list(problem.question),
        "added": list(one.added),
        "dropped": [{"reason": reason, "inputs": inputs} for reason, inputs in one.dropped],
        "why_not": one.why_not,
    }


def _hardened(row: dict[str, Any]) -> Hardened:
    fields = {name: row[name] for name in _PROBLEM_FIELDS} | {"style": ProblemStyle(row["style"])}
    problem = Problem(**fields)
    turns: Sequence[dict[str, Any]] = row["question"]
    return Hardened(
        problem=TrainingProblem(
            suite=row["suite"],
            given=dataclasses.replace(problem, tests=row["given_tests"]),
            problem=problem,
            reference=row["reference"],
            constraints=row["constraints"],
            second=row["second"],
            question=tuple({"role": turn["role"], "content": turn["content"]} for turn in turns),
        ),
        added=tuple(row["added"]),
        dropped=tuple((held["reason"], held["inputs"]) for held in row["dropped"]),
        why_not=row["why_not"],
    )
