"""What a corpus took and left, as the report tells it: files of each project by licence, and what says so.

Read from attribution.csv, which has the paths, and from rejected.parquet.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow.compute as pc
import pyarrow.parquet as pq

from app.rights import paths_of, read_table
from app.runs import Run

MAX_ROWS, MAX_REASON = 40, 160
HEADER = " and header"
WORDS = {
    "stated": "stated by whoever built the corpus",
    "expression": "licence expression in the metadata",
    "classifier": "classifier in the metadata",
    "field": "licence field in the metadata",
    "file": "licence file at its top",
    "file by file": "nothing for the whole",
    "SPDX tag in the file": "tag at the head of each file",
    "table": "the table's column",
    "recipe": "the recipe",
    "": "nothing that was kept",
}
"""Of what attribution.csv calls evidence. Anything else is the path of what names a part's licence."""
FOLDERS = "licence file or metadata of a folder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Made by `taken`; read by the report."""

    kinds: tuple[tuple[str, int, int], ...]
    """What says so, files, projects; the most files first."""
    rows: tuple[tuple[str, str, str, int, int], ...]
    """Project, licence, what says so, files, tokens; the most files first."""
    num_more: int
    """Rows beyond MAX_ROWS."""
    refused: tuple[tuple[str, str, int], ...]
    """Project, reason and number of what was left out for its licence; the most first."""
    num_more_refused: int


def taken(run: Run) -> Taken:
    """Raises UserError for an attribution.csv that is none. A table that is missing gives nothing."""
    files: Counter[tuple[str, str, str]] = Counter()
    tokens: Counter[tuple[str, str, str]] = Counter()
    of_kind: dict[str, tuple[list[int], set[str]]] = {}
    for row in read_table(run.attribution):
        number, evidence = len(paths_of(row)), row["evidence"]
        key = row["distribution"], row["licence"], in_words(evidence)
        files[key] += number
        tokens[key] += int(row["tokens"]) if row["tokens"].isdecimal() else 0
        numbers, projects = of_kind.setdefault(_kind(evidence), ([], set()))
        numbers.append(number)
        projects.add(row["distribution"])
    kinds = [(kind, sum(numbers), len(projects)) for kind, (numbers, projects) in of_kind.items()]
    rows = [(*key, number, tokens[key]) for key, number in sorted(files.items(), key=lambda one: (-one[1], one[0]))]
    refused = [(*key, number) for key, number in sorted(_refused(run).items(), key=lambda one: (-one[1], one[0]))]
    return Taken(
        kinds=tuple(sorted(kinds, key=lambda one: (-one[1], one[0]))),
        rows=tuple(rows[:MAX_ROWS]),
        num_more=max(0, len(rows) - MAX_ROWS),
        refused=tuple(refused[:MAX_ROWS]),
        num_more_refused=max(0, len(refused) - MAX_ROWS),
    )


def in_words(evidence: str) -> str:
    """What attribution.csv says as a reader has it; a path as code. Tables of older versions have several in a row."""
    return "; ".join(_in_words(one, f"`{one.removesuffix(HEADER).replace('`', '')}`") for one in evidence.split("; "))


def _kind(evidence: str) -> str:
    """The same without paths, which differ from project to project."""
    return "; ".join(dict.fromkeys(_in_words(one, FOLDERS) for one in evidence.split("; ")))


def _in_words(evidence: str, path: str) -> str:
    words = WORDS.get(evidence.removesuffix(HEADER), path)
    return f"{words}, with the notice at the head of the file" if evidence.endswith(HEADER) else words


def _refused(run: Run) -> Mapping[tuple[str, str], int]:
    if not run.rejected.exists():
        return {}
    table = pq.read_table(run.rejected, columns=["distribution", "reason"])
    table = table.filter(pc.starts_with(table["reason"], "licence"))
    pairs: Iterable[tuple[str, str]] = zip(*(table[name].to_pylist() for name in table.column_names), strict=True)
    return Counter((name, reason[:MAX_REASON]) for name, reason in pairs)
