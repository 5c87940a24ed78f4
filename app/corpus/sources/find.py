"""The files of a recipe's sources: found, drawn and read.

A recipe (`app.corpus.recipes`) names the sources; `app.corpus.sources.packages` finds packaged Python,
`app.corpus.sources.tables` and `app.corpus.sources.the_stack` make Parquet files of what comes as rows.

Limits: what the environment holds is found on the machine that plans the build; the nodes that read it need the same
paths. Files are read one at a time by `read_source`.
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from app.corpus.draws import by_hash, uniform
from app.corpus.recipes import (
    CodeSource,
    JsonLines,
    LicencePolicy,
    ParquetTable,
    Recipe,
    TaskSource,
    TheStackV2,
    Tree,
    canonical,
)
from app.corpus.sources import packages, tables, the_stack
from app.corpus.sources.distributions import Distribution, SourceFile
from app.corpus.sources.licences import LicenceVerdict, judge_expression


def find_distributions(recipe: Recipe, cache: Path) -> list[Distribution]:
    """The distributions of the recipe's sources, by name. Where two have one name the first is used, by the order of
    the sources and then of what a source holds, and the other is there as rejected ("duplicate"); within a source an
    approved one comes before one that is not.

    cache: where tables are converted and fetched to, on storage that all nodes share; what is there is not made again.
    Raises UserError for a source that can't be read, or that needs a network or a token that is missing.
    """
    found: dict[str, Distribution] = {}
    refused: list[Distribution] = []
    for number, source in enumerate(recipe.sources):
        if isinstance(source, TaskSource):
            continue
        own: dict[str, Distribution] = {}
        for distribution in distributions_of(source, recipe.licences, cache):
            if not source.takes(distribution.name):
                continue
            distribution = dataclasses.replace(distribution, source=number)
            if isinstance(source, Tree):
                distribution = _told_apart(distribution, found | own)
            name, first = canonical(distribution.name), own.get(canonical(distribution.name))
            if first is None:
                own[name] = selected(distribution, source)
            elif distribution.verdict.approved and not first.verdict.approved:
                refused.append(dataclasses.replace(first, files=()))
                own[name] = selected(distribution, source)
            else:
                refused.append(_duplicate(distribution, first, "this source"))
        refused += [_duplicate(own[name], found[name], "an earlier source") for name in own if name in found]
        found = own | found
    return sorted([*found.values(), *refused], key=lambda d: (canonical(d.name), not d.files, d.version))


def _told_apart(tree: Distribution, known: dict[str, Distribution]) -> Distribution:
    """A tree under a name of its own: with that of its folder, and a number, where another tree has the name."""
    first = known.get(canonical(tree.name))
    if first is None or not first.folder or first.folder == tree.folder:
        return tree
    names = (
        f"{tree.name} ({Path(tree.folder).name}{number})" for number in ("", *(f", {n}" for n in range(2, 1 << 20)))
    )
    return dataclasses.replace(tree, name=next(name for name in names if canonical(name) not in known))


def distributions_of(source: CodeSource, licences: LicencePolicy, cache: Path) -> Iterator[Distribution]:
    """Everything that a source holds, before its patterns are applied."""
    allow = frozenset(licences.also_allow)
    match source:
        case JsonLines() | ParquetTable():
            yield from _of_tables(tables.convert(source, allow, cache), allow)
        case TheStackV2():
            yield from _of_tables(the_stack.fetch(source, allow, cache), allow)
        case _:
            yield from packages.local_distributions(source, allow)


def draw_files(
    distributions: Iterable[Distribution], seed: int, max_files: int | None
) -> list[tuple[Distribution, SourceFile]]:
    """The files of the approved distributions in the order in which they are drawn, the first max_files of them.

    A weighted draw without replacement: the next file is always one of weight 2 twice as often as one of weight 1. Each
    file has the key -ln(1 - u) / weight, u drawn by hash, and the smallest keys come first (Efraimidis and Spirakis,
    Information Processing Letters 97, 2006). So no file is taken twice, and weights say nothing where all are taken.
    """
    keyed = []
    for distribution in distributions:
        for file in distribution.files if distribution.verdict.approved else ():
            key = "\0".join((str(seed), distribution.name, file.path))
            keyed.append((-math.log1p(-uniform(key)) / distribution.weight, by_hash(key), distribution, file))
    keyed.sort(key=lambda item: item[:2])
    return [(distribution, file) for _, _, distribution, file in keyed[:max_files]]


def selected(distribution: Distribution, source: CodeSource) -> Distribution:
    """The distribution with those of its files that the source takes."""
    files = tuple(file for file in distribution.files if source.takes_path(file.path))
    return dataclasses.replace(distribution, files=files, weight=source.weight)


def _duplicate(distribution: Distribution, first: Distribution, where: str) -> Distribution:
    reason = f"duplicate: {where} has {first.name} {first.version}".rstrip()
    verdict = dataclasses.replace(distribution.verdict, approved=False, reason=reason)
    return dataclasses.replace(distribution, verdict=verdict, files=(), rejected=())


def _of_tables(paths: list[Path], allow: frozenset[str]) -> Iterator[Distribution]:
    """A distribution for each repository of converted tables. Its licence is that of all its rows together."""
    held: dict[str, list[tables.Row]] = {}
    for path in paths:
        for row in tables.read_rows(path):
            held.setdefault(row.repository, []).append(row)
    for repository, rows in held.items():
        kept = [row for row in rows if not row.reason]
        first = (kept or rows)[0]
        if kept:
            licences = " AND ".join(dict.fromkeys(f"({row.licence})" for row in kept))
            verdict = dataclasses.replace(judge_expression(licences, also_allow=allow), evidence="table")
        else:
            verdict = LicenceVerdict(approved=False, licence=first.licence, evidence="table", reason=first.reason)
        yield Distribution(
            name=repository,
            version=first.revision,
            author=first.author,
            homepage=first.homepage,
            verdict=verdict,
            files=tuple(
                SourceFile(path=r.path, location=str(r.number), archive=r.archive, licence=r.licence, evidence="table")
                for r in kept
            ),
            rejected=tuple((row.path, row.reason) for row in rows if row.reason),
        )
