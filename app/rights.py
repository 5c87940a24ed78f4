"""What travels with whatever was learnt: whom to name for what, licence texts, the suites that were guarded against.

    rights.json             all of it, for programs: `Rights`
    NOTICES.txt             each licence text once, with the copyright lines of those whom it belongs to
    attribution/STAGE.csv   who is named for which files or problems (`app.corpus.manifest` has the columns)

The corpus writes the first two into its folder; each stage that trains takes from there, and from the adapter that it
began with, what it learnt from, and writes all three beside its weights; an export copies them. A model card shows
`section`, which is short, and points to the files. Nothing here reads a corpus, so an adapter tells whose it is when
the corpus is gone.
"""

import csv
import dataclasses
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import UserError
from app.files.json_files import of_this_version, read_json, write_atomic, write_json

FACTS, NOTICES, ATTRIBUTION = "rights.json", "NOTICES.txt", "attribution"
MAX_ROWS = 40
"""Rows of a table on a card; the rest is counted."""
SPDX = "https://spdx.org/licenses/"
COLUMNS = ("distribution", "version", "licence", "evidence", "author", "homepage", "tokens", "files")
MAX_CELL = 1 << 27
"""Characters of a cell. Python's csv reads 131,072, less than the paths of 3,000 files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Somebody whose work stands under a text. Example: Holder(who="attrs", version="25.1", lines=("Copyright (c) 2015
    Hynek Schlawack",))"""

    who: str
    """Distribution, data set or model."""
    version: str = ""
    lines: tuple[str, ...] = ()
    """Copyright lines, of the text and of the heads of files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A licence or notice text, and whose it is. Made by `app.corpus.sources.texts` and the stages."""

    licence: str
    """SPDX expression that its holders name."""
    text: str
    """Without the holders' copyright lines; empty where none came with the work."""
    holders: tuple[Holder, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What one stage learnt from, as a sentence and a small table for a card."""

    stage: str
    told: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardedBy:
    """What a stage's material was held against. suites: name, number of problems, hash of their texts, and by what they
    are told (`app.corpus.clean.guard.Guarded`)."""

    stage: str
    suites: tuple[Mapping[str, Any], ...] = ()
    unguarded: tuple[str, ...] = ()
    """Suites that the project knows and could not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """All that travels, but for the attribution tables. Made by each stage; kept in rights.json.

    Example: Rights(learnt=(Material(stage="sft", told="..."),), guards=(GuardedBy(stage="sft"),), notices=(...),
                    remarks=())
    """

    learnt: tuple[Material, ...] = ()
    guards: tuple[GuardedBy, ...] = ()
    notices: tuple[Notice, ...] = ()
    remarks: tuple[str, ...] = ()
    """Sentences that whoever passes the weights on has to know."""


def union(*several: Rights) -> Rights:
    """All of them, in their order, nothing twice; of one text the holders of all."""
    return Rights(
        learnt=tuple(_once(one for rights in several for one in rights.learnt)),
        guards=tuple(_once(one for rights in several for one in rights.guards)),
        notices=merged(one for rights in several for one in rights.notices),
        remarks=tuple(_once(one for rights in several for one in rights.remarks)),
    )


def _once(items: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for item in items:
        if item not in found:
            found.append(item)
    return found


def merged(notices: Iterable[Notice]) -> tuple[Notice, ...]:
    """Each text once, whatever white space it is written with; those without a text once a licence. The order is that
    of licences, the text of most holders first, then notices without one: the same notices give the same bytes."""
    found: dict[tuple[str, str], tuple[Notice, dict[tuple[str, str], list[str]]]] = {}
    for one in notices:
        key = ("", " ".join(one.text.split())) if one.text else (one.licence, "")
        kept, holders = found.setdefault(key, (one, {}))
        if one.licence < kept.licence:
            found[key] = (one, holders)
        for holder in one.holders:
            holders.setdefault((holder.who, holder.version), []).extend(holder.lines)
    made = [
        dataclasses.replace(
            one,
            holders=tuple(
                Holder(who=who, version=version, lines=tuple(dict.fromkeys(lines)))
                for (who, version), lines in sorted(holders.items())
            ),
        )
        for one, holders in found.values()
    ]
    return tuple(
        sorted(made, key=lambda one: (not one.text, not one.licence, one.licence, -len(one.holders), one.text))
    )


def of_holders(notices: Iterable[Notice], names: Iterable[str]) -> tuple[Notice, ...]:
    """The notices of some alone."""
    wanted = set(names)
    kept = [
        dataclasses.replace(one, holders=tuple(holder for holder in one.holders if holder.who in wanted))
        for one in notices
    ]
    return tuple(one for one in kept if one.holders)


def notices_text(notices: Sequence[Notice]) -> str:
    """The notices for a person, who reads the list and looks up a text."""
    with_text = [one for one in notices if one.text]
    parts = [
        f"Licence and copyright notices of what was learnt from: {len(with_text)} texts, each once, below the names "
        "and copyright lines of those whom it belongs to. Who is named for which files is in the attribution tables.\n"
    ]
    numbers: dict[str, int] = {}
    for number, one in enumerate(with_text, 1):
        numbers.setdefault(one.licence, number)
        parts.append(
            f"{'=' * 100}\n{number}. {one.licence or 'notice'}\n\n{_names(one.holders)}\n\n{one.text.strip()}\n"
        )
    for one in notices:
        if not one.text:
            parts.append(f"{'=' * 100}\n{_without_text(one.licence, numbers)}\n\n{_names(one.holders)}\n")
    return "\n".join(parts)


def _without_text(licence: str, numbers: Mapping[str, int]) -> str:
    if not licence:
        return "No licence text came with these, and none is named for the whole."
    words = f"No licence text came with these. They are under {licence}"
    if licence in numbers:
        return f"{words}, whose words are those of number {numbers[licence]} above."
    ids = [word for word in licence.replace("(", " ").replace(")", " ").split() if word not in ("AND", "OR", "WITH")]
    own = [word for word in ids if word.startswith("LicenseRef-")]
    links = [f"{SPDX}{word.removesuffix('+')}.html" for word in ids if word not in own]
    told = [f"see {', '.join(links)}"] if links else []
    return (
        "; ".join([words, *told, *(f"{word} is no public licence, but what their owner states" for word in own)]) + "."
    )


def _names(holders: Sequence[Holder]) -> str:
    lines: list[str] = []
    for holder in holders:
        lines.append(f"{holder.who} {holder.version}".rstrip())
        lines += [f"    {line}" for line in holder.lines]
    return "\n".join(lines)


def read(folder: Path) -> Rights | None:
    """What lies beside the weights, or in a corpus' folder; None where nothing does. Raises UserError for a file of
    another version."""
    path = folder / FACTS
    if not path.exists():
        return None
    with of_this_version(path):
        held = read_json(path)
        return Rights(
            learnt=tuple(
                Material(**one | {"columns": tuple(one["columns"]), "rows": tuple(map(tuple, one["rows"]))})
                for one in held["learnt"]
            ),
            guards=tuple(
                GuardedBy(stage=one["stage"], suites=tuple(one["suites"]), unguarded=tuple(one["unguarded"]))
                for one in held["guards"]
            ),
            notices=tuple(_notice(one) for one in held["notices"]),
            remarks=tuple(held["remarks"]),
        )


def _notice(held: Mapping[str, Any]) -> Notice:
    holders = tuple(
        Holder(who=one["who"], version=one["version"], lines=tuple(one["lines"])) for one in held["holders"]
    )
    return Notice(licence=held["licence"], text=held["text"], holders=holders)


def write(folder: Path, rights: Rights, attribution: Mapping[str, Path] = {}) -> None:
    """Write all of it into a folder. attribution: the tables by stage, which are copied; one that is missing is left
    out."""
    write_json(folder / FACTS, dataclasses.asdict(rights))
    write_atomic(folder / NOTICES, notices_text(rights.notices))
    for stage, path in attribution.items():
        if path.exists():
            target = folder / ATTRIBUTION / f"{stage}.csv"
            if path.resolve() != target.resolve():
                write_atomic(target, path.read_bytes())


def tables(folder: Path) -> dict[str, Path]:
    """The attribution tables beside weights, by stage."""
    return {path.stem: path for path in sorted((folder / ATTRIBUTION).glob("*.csv"))}


def section(rights: Rights, stages: Sequence[str]) -> str:
    """What a card says of it, in Markdown. stages: those that have an attribution table beside it."""
    parts = [_material(one) for one in rights.learnt]
    parts += [f"**{remark}**" for remark in rights.remarks]
    if guards := _guards(rights.guards):
        parts.append(guards)
    named = ", ".join(f"`{ATTRIBUTION}/{stage}.csv`" for stage in stages)
    if named:
        parts.append(f"Whom to name for what is in {named}.")
    if rights.notices:
        texts = sum(bool(one.text) for one in rights.notices)
        parts.append(
            f"`{NOTICES}` has the licence texts ({texts}) and the copyright lines of each source: it goes with "
            "whatever is passed on."
        )
    return "\n\n".join(parts)


def _material(one: Material) -> str:
    if not one.columns:
        return one.told
    rows = [*one.rows[:MAX_ROWS]]
    if len(one.rows) > MAX_ROWS:
        rows.append((f"and {len(one.rows) - MAX_ROWS} more, all in the files below", *[""] * (len(one.columns) - 1)))
    return f"{one.told}\n\n{_table(one.columns, rows)}" if rows else one.told


def _guards(guards: Sequence[GuardedBy]) -> str:
    held: dict[tuple[str, int, str], list[str]] = {}
    for guard in guards:
        for suite in guard.suites:
            held.setdefault((suite["suite"], suite["problems"], suite["sha256"][:16]), []).append(guard.stage)
    parts = []
    if held:
        rows = [
            (name, f"{number:,}", f"`{digest}`", ", ".join(stages))
            for (name, number, digest), stages in sorted(held.items())
        ]
        words = "Kept out of it were these suites; the hash tells the edition of the problems."
        parts.append(f"{words}\n\n{_table(('suite', 'problems', 'hash', 'guarded in'), rows)}")
    parts += [
        f"Not guarded against in {guard.stage}: {', '.join(guard.unguarded)}." for guard in guards if guard.unguarded
    ]
    return "\n\n".join(parts)


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    head = f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"
    return "\n".join([head, *(f"| {' | '.join(map(_cell, row))} |" for row in rows)])


def _cell(value: Any) -> str:
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return " ".join(text.split()).replace("|", "\\|")


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of an attribution table, empty cells where it lacks a column; none where there is no file. Raises
    UserError for what is no such table."""
    if not path.exists():
        return []
    csv.field_size_limit(MAX_CELL)
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    except (csv.Error, ValueError) as error:
        raise UserError(f"{path} is broken ({error}): restore it, or remove it to do without it") from None
    if rows and not {"distribution", "licence"} <= rows[0].keys():
        raise UserError(f"{path} has no columns distribution and licence: restore it, or remove it to do without it")
    return [{name: row.get(name) or "" for name in COLUMNS} for row in rows]


def paths_of(row: Mapping[str, str]) -> list[str]:
    """The paths, or the problems' ids, of a row of an attribution table."""
    return [name.replace("%20", " ") for name in row["files"].split(" ") if name]
