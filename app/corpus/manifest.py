"""What a build says about itself: rejected.parquet, attribution.csv, and the facts of manifest.json.

Every distribution, file, function and problem that was looked at and refused is in rejected.parquet with its reason.
What was never looked at is not (files beyond max_files; those of the validation and test sides, unless mined), nor are
examples that the shares had no room for. Every distribution that something was kept of is in attribution.csv: a row for
each licence and what says that its files are under it.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from app import rights
from app.corpus.clean.duplicates import Duplicates
from app.corpus.credits import Attributed, Files, corpus_rights, evidence_of, kept_files, write_attribution
from app.corpus.recipes import SPLITS, non_osi_sources
from app.corpus.records import Origin, Rejected
from app.corpus.rows.assemble import ShardCounts
from app.corpus.rows.shares import shortfalls
from app.corpus.shard_files import REJECTED_SCHEMA, part
from app.corpus.sources.distributions import Distribution
from app.corpus.sources.packages import UNJUDGED
from app.problem_sets.credits import credit_of
from app.runs import Run, git_commit
from app.settings import Profile

if TYPE_CHECKING:
    from app.corpus.build import BuildPlan, MinedProblems

NOWHERE = Origin(distribution="", version="", licence="", path="")


def write_tables(
    run: Run,
    profile: Profile,
    plan: "BuildPlan",
    copies: Duplicates,
    mined: "MinedProblems",
    counts: list[ShardCounts],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Write the two tables, and what travels with whatever is learnt; return the manifest. facts: further ones of it,
    the guard's among them."""
    rejected = _write_rejected(run, plan, copies, mined)
    by_name = {d.name: d for d in reversed(plan.distributions)}  # of one name the one that is used comes first
    licences, files = _write_attribution(run, plan, counts, by_name)
    made = {
        "settings": profile.corpus.model_dump(),
        "recipe": plan.recipe.model_dump(mode="json"),
        "non_osi_sources": non_osi_sources(plan.recipe),
        "seed": profile.seed,
        "commit": git_commit(),
        "parent": profile.model.model_dump(),
        "shards": len(plan.shards),
        **_totals(counts, profile.corpus.seq_len, plan.recipe.forms.model_dump()),
        "rejected": rejected,
        "duplicates": copies.counts,
        "masked": _masked(run, len(plan.shards)),
        "problems": {split: dict(mined.counts[split]) for split in SPLITS},
        "funnel": mined.funnel,
        "licences": licences,
        **facts,
    }
    rights.write(run.corpus, corpus_rights(run, made, by_name, files, len(plan.mined)))
    return made


def nothing_to_learn(run: Run, made: dict[str, Any]) -> str:
    """What to tell of a corpus of which nothing can be learnt, no row and no problem to train on; else empty."""
    if made["rows"] or any(made["problems"][SPLITS[0]].values()):
        return ""
    reasons = sorted(made["rejected"].items(), key=lambda item: -item[1])[:5]
    return (
        f"recipe {made['recipe']['name']!r} gives nothing to learn: all that it holds is left out "
        f"({', '.join(f'{reason} {count}' for reason, count in reasons)}). "
        f"{run.rejected} has the reason for each; docs/corpus.md explains them"
    )


def _totals(counts: list[ShardCounts], seq_len: int, shares: dict[str, float]) -> dict[str, Any]:
    """Over all shards: examples and tokens by form, which shares are not met, rows, and how full they are."""
    by_form = ("tokens_by_form", "learnt_tokens_by_form", "learnable_tokens_by_form", "examples_by_form")
    totals = {name: Counter[str]() for name in (*by_form, "rows_by_fill", "left_out")}
    for shard in counts:
        for name, total in totals.items():
            total.update(getattr(shard, name))
    num_rows, tokens = sum(shard.rows for shard in counts), sum(shard.tokens for shard in counts)
    return {
        "rows": num_rows,
        "tokens": tokens,
        "fill": tokens / max(1, num_rows * seq_len),
        "cut": sum(shard.cut for shard in counts),
        "pieces": sum(shard.pieces for shard in counts),
        "documents": sum(len(shard.documents) for shard in counts),
        **{name: dict(sorted(total.items())) for name, total in totals.items()},
        "short_of_shares": list(shortfalls(totals["learnt_tokens_by_form"], shares)),
    }


def _masked(run: Run, num_shards: int) -> dict[str, int]:
    """Secrets and personal data that were masked in the files read."""
    total: Counter[str] = Counter()
    for index in range(num_shards):
        total.update(json.loads(pq.read_schema(part(run.corpus_work, "documents", index)).metadata[b"masked"]))
    return dict(total)


def _write_rejected(run: Run, plan: "BuildPlan", copies: Duplicates, mined: "MinedProblems") -> dict[str, int]:
    """Write all rejections to one file. Returns how many there are for each kind of reason."""
    counts: Counter[str] = Counter()
    temporary = run.rejected.with_name(".rejected.tmp")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(temporary, REJECTED_SCHEMA) as writer:
        for table in _rejected_tables(run, plan, copies, mined):
            counts.update(reason.partition(":")[0] for reason in table["reason"].to_pylist())
            writer.write_table(table)
    temporary.replace(run.rejected)
    return dict(sorted(counts.items()))


def _rejected_tables(run: Run, plan: "BuildPlan", copies: Duplicates, mined: "MinedProblems") -> Iterator[pa.Table]:
    yield _table(_of_distributions(plan))
    yield _table(
        Rejected(origin=replace(NOWHERE, path=problem.id), name="", what="problem", reason=problem.reason)
        for problem in mined.given
    )
    for folder, count in (
        ("rejected", len(plan.shards)),
        ("left_out", len(plan.shards)),
        ("rejected_candidates", len(plan.mined)),
        ("rejected_problems", mined.num_chunks),
    ):
        for index in range(count):
            yield pq.read_table(part(run.corpus_work, folder, index))
    for number, path in enumerate(copies.paths):
        if dropped := dict(copies.dropped(number)):
            table = pq.read_table(path, columns=[*Origin.__slots__, "name", "kind"])
            rows = table.take(pa.array(sorted(dropped), pa.int64())).to_pylist()
            yield _table(
                Rejected(origin=Origin.of(row), name=row["name"], what=row["kind"], reason=dropped[number])
                for number, row in zip(sorted(dropped), rows, strict=True)
            )


def _table(rejected: Iterable[Rejected]) -> pa.Table:
    return pa.Table.from_pylist([one.row for one in rejected], REJECTED_SCHEMA)


def _of_distributions(plan: "BuildPlan") -> Iterator[Rejected]:
    for d in plan.distributions:
        origin = Origin(distribution=d.name, version=d.version, licence=d.verdict.licence, path="")
        if not d.verdict.approved:
            reason = d.verdict.reason
            known = reason.partition(":")[0] in UNJUDGED
            reason = reason if known else f"licence: {reason}"
            yield Rejected(origin=origin, name="", what="distribution", reason=reason)
        for path, reason in d.rejected:
            yield Rejected(origin=replace(origin, path=path), name="", what="file", reason=reason)


def _write_attribution(
    run: Run, plan: "BuildPlan", counts: list[ShardCounts], by_name: Mapping[str, Distribution]
) -> tuple[dict[str, dict[str, int]], Files]:
    """Write attribution.csv: who wrote what the shards and problems hold, a row a distribution, licence and evidence,
    with the files kept. Returns distributions, files and tokens of the shards by licence, and the files."""
    of_rows = [document for shard in counts for document in shard.documents]
    learnt = Counter((distribution, licence) for distribution, licence, *_ in dict.fromkeys(map(_place, of_rows)))
    tokens, files = kept_files(run, of_rows)
    given = {(d.name, file.path): file for d in plan.mined for file in d.files}
    given |= {(h.origin.distribution, h.origin.path): h.file for shard in plan.shards for h in shard}
    rows: list[Attributed] = []
    licences: dict[str, dict[str, int]] = {}
    for (distribution, licence), held in sorted(files.items()):
        d, credit = by_name.get(distribution), credit_of(distribution)
        by_evidence: defaultdict[str, list[str]] = defaultdict(list)
        for path in sorted(held):
            by_evidence[evidence_of(d, given.get((distribution, path)), licence) if d else "recipe"].append(path)
        version, author, homepage = (d.version, d.author, d.homepage) if d else ("", credit.author, credit.homepage)
        for evidence, paths in sorted(by_evidence.items()):
            total = sum(tokens[distribution, licence, path] for path in paths)
            rows.append(Attributed(distribution, version, licence, evidence, author, homepage, total, paths))
        if number := learnt[distribution, licence]:
            of_licence = licences.setdefault(licence, {"distributions": 0, "files": 0, "tokens": 0})
            total = sum(tokens[distribution, licence, path] for path in held)
            for key, value in (("distributions", 1), ("files", number), ("tokens", total)):
                of_licence[key] += value
    write_attribution(run.attribution, rows)
    return licences, files


def _place(document: tuple[str, str, str, int]) -> tuple[str, str, str]:
    distribution, licence, path, _ = document  # of JSON, so it may be a list
    return distribution, licence, path
