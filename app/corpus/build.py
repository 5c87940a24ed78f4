"""The corpus stage, on Ray Data: sources -> documents -> packed training shards.

Two passes over shards of files, each shard one task that writes its Parquet file whole and returns a few numbers, so
that memory stays flat and a killed build goes on with the shards that are missing:

1. `extract_shard` reads, cleans and decontaminates files and cuts them into documents (corpus/work/documents);
2. exact duplicates are found over the documents' hashes, the first one in order stays;
3. `pack_shard` renders, tokenises and packs the kept documents (corpus/train).

Everything is drawn by hash, so one seed gives the same shards on any number of workers. The run directory must be on
storage that all nodes share. Run: python -m app corpus --profile P --run DIR
"""

import csv
import hashlib
import io
import json
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from app.corpus.licences import LicenceVerdict
from app.corpus.recipes import Recipe, load_recipe
from app.corpus.shards import BENCHMARKS, REJECTED_SCHEMA, Shard, extract_shard, pack_shard, part
from app.corpus.sources import Distribution, SourceFile, find_distributions
from app.errors import UserError
from app.progress import say
from app.records import BenchmarkText
from app.runs import Run, git_commit, read_json, write_atomic, write_json
from app.settings import Profile
from app.tasks import run_tasks


def build_corpus(run: Run, profile: Profile, benchmarks: Iterable[BenchmarkText]) -> None:
    """Needs a connected Ray. Writes corpus/manifest.json last; does nothing when it is there."""
    if run.corpus_manifest.exists():
        return
    recipe, distributions, shards = _plan(run, profile)
    write_atomic(run.corpus_work / BENCHMARKS, json.dumps([asdict(benchmark) for benchmark in benchmarks]))
    job: dict[str, Any] = {
        "recipe": recipe.model_dump_json(),
        "work": str(run.corpus_work),
        "train": str(run.train_shards),
        "model": profile.model.model_dump_json(),
        "seq_len": profile.corpus.seq_len,
        "seed": profile.seed,
    }
    run_tasks("corpus, extract", extract_shard, [job | asdict(shard) for shard in shards])
    kept, num_duplicates = _first_of_each(run, len(shards))
    packing = [job | {"index": shard.index, "keep": rows} for shard, rows in zip(shards, kept, strict=True)]
    counts = run_tasks("corpus, pack", pack_shard, packing)
    reasons = _write_rejected(run, [d for d in distributions if not d.verdict.approved], len(shards))
    licences = _write_attribution(run, [d for d in distributions if d.verdict.approved], counts)
    totals = {"rejected": reasons, "duplicates": num_duplicates, "licences": licences}
    write_json(run.corpus_manifest, _manifest(profile, recipe, counts) | totals)
    shutil.rmtree(run.corpus_work)


def _plan(run: Run, profile: Profile) -> tuple[Recipe, list[Distribution], list[Shard]]:
    """Files drawn by hash and cut into shards. Kept on disk: a resumed build goes on with the sources it had."""
    plan = run.corpus_work / "plan.json"
    if plan.exists():
        held = read_json(plan)
        known = [{**d, "verdict": LicenceVerdict(**d["verdict"]), "files": ()} for d in held["distributions"]]
        shards = [Shard(**shard) for shard in held["shards"]]
        return Recipe.model_validate(held["recipe"]), [Distribution(**d) for d in known], shards
    recipe = load_recipe(profile.corpus.recipe)
    distributions = find_distributions(recipe, run.corpus_work)
    files = [(d, file) for d in distributions if d.verdict.approved for file in d.files]
    num_approved = sum(d.verdict.approved for d in distributions)
    say(f"  {len(distributions)} distributions, {num_approved} under approved licences, {len(files)} files")
    if not files:
        raise UserError(f"recipe {recipe.name!r} finds no Python file under an approved licence: add a source to it")
    files.sort(key=lambda pair: _draw(profile.seed, pair[0].name, pair[1].path))
    chosen = files[: profile.corpus.max_files]
    size = profile.corpus.files_per_shard
    shards = [_shard(i, chosen[start : start + size]) for i, start in enumerate(range(0, len(chosen), size))]
    held = {
        "recipe": recipe.model_dump(mode="json"),
        "distributions": [asdict(d) | {"files": []} for d in distributions],
        "shards": [asdict(shard) for shard in shards],
    }
    write_json(plan, held)
    return recipe, distributions, shards


def _draw(seed: int, *parts: str) -> bytes:
    return hashlib.sha256("\0".join((str(seed), *parts)).encode()).digest()


def _shard(index: int, pairs: list[tuple[Distribution, SourceFile]]) -> Shard:
    return Shard(
        index=index,
        distributions=[d.name for d, _ in pairs],
        versions=[d.version for d, _ in pairs],
        licences=[d.verdict.licence for d, _ in pairs],
        paths=[f.path for _, f in pairs],
        locations=[f.location for _, f in pairs],
        archives=[f.archive for _, f in pairs],
    )


def _first_of_each(run: Run, num_shards: int) -> tuple[list[list[int]], int]:
    """Row numbers to keep per shard: the first document with each hash. About 110 bytes a document."""
    seen: set[bytes] = set()
    kept: list[list[int]] = []
    num_duplicates = 0
    for index in range(num_shards):
        digests = pq.read_table(part(run.corpus_work, "documents", index), columns=["sha256"])["sha256"].to_pylist()
        rows = []
        for row, digest in enumerate(digests):
            if digest in seen:
                num_duplicates += 1
            else:
                seen.add(digest)
                rows.append(row)
        kept.append(rows)
    return kept, num_duplicates


def _write_rejected(run: Run, refused: list[Distribution], num_shards: int) -> dict[str, int]:
    """All rejections in one file: distributions, files, functions. Returns how many for each kind of reason."""
    rows = [
        {"distribution": d.name, "version": d.version, "licence": d.verdict.licence, "path": "", "name": "",
         "what": "distribution", "reason": d.verdict.reason}
        for d in refused
    ]  # fmt: skip
    counts: Counter[str] = Counter({"licence": len(refused)})
    temporary = run.rejected.with_name(".rejected.tmp")
    with pq.ParquetWriter(temporary, REJECTED_SCHEMA) as writer:
        writer.write_table(pa.Table.from_pylist(rows, REJECTED_SCHEMA))
        for folder in ("rejected", "too_long"):
            for index in range(num_shards):
                table = pq.read_table(part(run.corpus_work, folder, index))
                counts.update(reason.partition(":")[0] for reason in table["reason"].to_pylist())
                writer.write_table(table)
    temporary.replace(run.rejected)
    return dict(counts)


def _write_attribution(
    run: Run, approved: list[Distribution], tokens: list[dict[str, Any]]
) -> dict[str, dict[str, int]]:
    """attribution.csv: who wrote what the shards hold. Returns distributions, documents and tokens by licence."""
    documents, counts = Counter[str](), Counter[str]()
    for shard in tokens:
        documents.update(shard["documents_by_distribution"])
        counts.update(shard["tokens_by_distribution"])
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["distribution", "version", "licence", "evidence", "author", "homepage", "documents", "tokens"])
    licences: dict[str, dict[str, int]] = {}
    for d in approved:
        if not counts[d.name]:
            continue
        row = (
            d.name,
            d.version,
            d.verdict.licence,
            d.verdict.evidence,
            d.author,
            d.homepage,
            documents[d.name],
            counts[d.name],
        )
        writer.writerow([" ".join(str(cell).split()) for cell in row])
        total = licences.setdefault(d.verdict.licence, {"distributions": 0, "documents": 0, "tokens": 0})
        for key, value in (("distributions", 1), ("documents", documents[d.name]), ("tokens", counts[d.name])):
            total[key] += value
    write_atomic(run.attribution, table.getvalue())
    return licences


def _manifest(profile: Profile, recipe: Recipe, counts: list[dict[str, Any]]) -> dict[str, Any]:
    forms = Counter[str]()
    for shard in counts:
        forms.update(shard["tokens_by_form"])
    num_rows = sum(shard["rows"] for shard in counts)
    return {
        "settings": profile.corpus.model_dump(),
        "recipe": recipe.model_dump(mode="json"),
        "seed": profile.seed,
        "commit": git_commit(),
        "parent": profile.model.model_dump(),
        "shards": len(counts),
        "rows": num_rows,
        "tokens": sum(forms.values()),
        "fill": sum(forms.values()) / max(1, num_rows * profile.corpus.seq_len),
        "tokens_by_form": dict(forms),
        "documents": sum(sum(shard["documents_by_distribution"].values()) for shard in counts),
    }
