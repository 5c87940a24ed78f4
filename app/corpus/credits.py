"""Whose work a corpus holds: attribution.csv, and what has to travel with whatever is learnt from it (`app.rights`).

Both are of everything kept: files with something in the training rows, and problems of the training side. A licence
text counts where it lies at a distribution's top or above a kept file; copyright lines also come from files' heads.
"""

import csv
import io
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from app.corpus.recipes import SPLITS
from app.corpus.shard_files import COPYRIGHT, part
from app.corpus.sources.distributions import Distribution, SourceFile
from app.corpus.sources.texts import notices_of
from app.files.json_files import write_atomic
from app.learnt_from import of_corpus, private
from app.problem_sets.credits import notice_of
from app.rights import Notice, Rights, merged, union
from app.runs import Run

MAX_NAMED = 20
Files = Mapping[tuple[str, str], Iterable[str]]
"""Paths by distribution and licence."""


class Attributed(NamedTuple):
    """A row of attribution.csv: what was learnt from, and whose it is."""

    distribution: str
    """Or the source of problems."""
    version: str
    licence: str
    evidence: str
    """What says that this is the licence of each of the files: `evidence_of`."""
    author: str
    homepage: str
    tokens: int
    files: Sequence[str]
    """Or the problems' ids."""


def evidence_of(held: Distribution, file: SourceFile | None, licence: str) -> str:
    """What says that a file is under the licence that it is kept under: what `LicenceVerdict` has as evidence, followed
    by " and header" where a notice in the file changed what that says."""
    told = (file.evidence if file else "") or held.verdict.evidence
    before = (file.licence if file else "") or held.verdict.licence
    return told if before == licence else f"{told} and header"


def write_attribution(path: Path, rows: Iterable[Attributed]) -> None:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(Attributed._fields)
    for *facts, files in rows:
        cells = [" ".join(str(cell).split()) for cell in facts]
        writer.writerow([*cells, " ".join(name.replace(" ", "%20") for name in files)])
    write_atomic(path, table.getvalue())


def of_problems(folder: Path) -> dict[str, dict[str, str]]:
    """Distribution, version, licence and path of the mined problems that may be learnt, by the problems' ids."""
    columns = ["id", "distribution", "version", "licence", "path"]
    rows = pq.read_table(folder / f"{SPLITS[0]}.parquet", columns=columns).to_pylist()
    return {row.pop("id"): row for row in rows}


def heads_in(work: Path, folders: Mapping[str, int]) -> dict[tuple[str, str], list[str]]:
    """Copyright lines of files' heads by distribution and path, as the build's tasks noted them. folders: of parts,
    with their numbers."""
    found: dict[tuple[str, str], list[str]] = {}
    for folder, number in folders.items():
        for index in range(number):
            held = json.loads((pq.read_schema(part(work, folder, index)).metadata or {}).get(COPYRIGHT, b"{}"))
            found |= {(name, path): lines for name, by_path in held.items() for path, lines in by_path.items()}
    return found


def notices(
    files: Files, distributions: Mapping[str, Distribution], heads: Mapping[tuple[str, str], Sequence[str]]
) -> tuple[Notice, ...]:
    """Licence texts and copyright lines that go with these files. `files` may also name sources of problems, which are
    no distributions."""
    licences, paths = defaultdict[str, list[str]](list), defaultdict[str, set[str]](set)
    for (name, licence), held in sorted(files.items()):
        licences[name].append(licence)
        paths[name].update(held)
    found: list[Notice] = []
    for name, own in sorted(licences.items()):
        if d := distributions.get(name):
            lines = [line for path in sorted(paths[name]) for line in heads.get((name, path), ())]
            found += notices_of(name, d.version, d.texts, paths[name], own, lines)
        else:
            found += [notice_of(name.removesuffix("_train"), licence) for licence in own]
    return merged(found)


def corpus_rights(
    run: Run, manifest: Mapping[str, Any], distributions: Mapping[str, Distribution], files: Files, num_mined: int
) -> Rights:
    """What travels with whatever is learnt from the corpus. manifest: what manifest.json holds; num_mined: parts of
    candidates."""
    heads = heads_in(run.corpus_work, {"documents": manifest["shards"], "candidates": num_mined})
    stated = sorted({(n, of) for n, of in files if (d := distributions.get(n)) and d.verdict.evidence == "stated"})
    told = []
    if stated:
        names = [f"`{name.replace('`', '')}` ({licence})" for name, licence in stated[:MAX_NAMED]]
        more = f" and {len(stated) - MAX_NAMED} more" if len(stated) > MAX_NAMED else ""
        told = [f"By the word of who built the corpus, not by a licence file: {', '.join(names)}{more}."]
    return union(
        of_corpus(manifest, told),
        Rights(notices=notices(files, distributions, heads), remarks=private(licence for _, licence in files)),
    )


def kept_files(run: Run, documents: Iterable[tuple[str, str, str, int]]) -> tuple[Counter[tuple[str, str, str]], Files]:
    """Tokens by distribution, licence and path, and files by the first two: of the rows, and of the mined problems that
    may be learnt. documents: `ShardCounts.documents` of all shards."""
    tokens: Counter[tuple[str, str, str]] = Counter()
    files: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for distribution, licence, path, num_tokens in documents:
        tokens[distribution, licence, path] += num_tokens
        files[distribution, licence].add(path)
    for row in of_problems(run.problems).values():
        files[row["distribution"], row["licence"]].add(row["path"])
    return tokens, files
