"""Judged drafts in files: lines while they are drawn, and one Parquet file once all are there.

    drafts.jsonl      the settings under which they are drawn, then a line a draft; of a draft that is there twice the
                      later line holds; its tokens and their log-probabilities are packed as the Parquet file's numbers
    drafts.parquet    SCHEMA, in the order of the prompts, with the settings in its metadata; the lines are then removed

Drafts of other settings are never mixed with these. Limit: a file's drafts are held in memory, in Arrow's columns while
it is written (8 bytes a token), as Python's objects when it is read (about 70).
"""

import base64
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from app.errors import UserError
from app.files.json_files import append_json_line, numbered_json_lines, trim_json_lines, write_atomic
from app.files.table_rows import strict_rows
from app.files.text import one_line
from app.overrides import differences
from app.records import Draft, FinishReason, Status, Verdict
from app.reward.records import JudgedDraft

SCHEMA = pa.schema(
    [
        ("problem_id", pa.string()),
        ("sample", pa.int32()),
        ("text", pa.string()),
        ("token_ids", pa.list_(pa.int32())),
        ("token_logprobs", pa.list_(pa.float32())),
        ("num_prompt_tokens", pa.int32()),
        ("num_tokens", pa.int32()),
        ("mean_logprob", pa.float64()),
        ("finish_reason", pa.string()),
        ("seed", pa.int64()),
        ("adapter", pa.string()),
        ("adapter_sha256", pa.string()),
        ("program", pa.string()),
        ("shape", pa.string()),
        ("status", pa.string()),
        ("detail", pa.string()),
        ("tier", pa.string()),
        ("cpu_seconds", pa.float64()),
        ("wall_seconds", pa.float64()),
        ("points", pa.float64()),
    ]
)
"""Fields of `records.Draft`, the program and its shape, fields of `records.Verdict`."""
SETTINGS = "settings"
"""Key of the first line, and in the metadata of the Parquet file."""
PACKED = {"token_ids": np.dtype("<i4"), "token_logprobs": np.dtype("<f4")}
"""Columns whose numbers are base64 in a line: a quarter of their digits. Lines of earlier versions have lists."""
BATCH = 512
"""Lines that are held as Python's objects at a time."""
Key = tuple[str, int]
"""A problem's id and the number of its draft."""


def read_drafts(path: Path) -> list[JudgedDraft]:
    """The judged drafts of a Parquet file. Raises UserError for a file of another kind."""
    return [judged_of(row, f"{path}, row {number}") for number, row in enumerate(strict_rows(path, str(path)), 1)]


def read_columns(path: Path, columns: Sequence[str], status: Status | None = None) -> list[dict[str, Any]]:
    """These columns of a Parquet file's drafts, of those with this status where one is given. Raises UserError for a
    file that can't be read."""
    try:
        return pq.read_table(
            path, columns=list(columns), filters=[("status", "=", str(status))] if status else None
        ).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} can't be read ({one_line(error)}): restore it, or remove it to draw anew")


def judged_of(row: dict[str, Any], place: str) -> JudgedDraft:
    """Raises UserError naming the place of a row that lacks something."""
    try:
        draft = Draft(
            problem_id=row["problem_id"],
            text=row["text"],
            num_prompt_tokens=row["num_prompt_tokens"],
            num_tokens=row["num_tokens"],
            mean_logprob=row["mean_logprob"],
            finish_reason=FinishReason(row["finish_reason"]),
            adapter=row["adapter"],
            seed=row["seed"],
            sample=row["sample"],
            token_ids=tuple(row["token_ids"]),
            token_logprobs=tuple(row["token_logprobs"]),
        )
        verdict = Verdict(
            problem_id=row["problem_id"],
            status=Status(row["status"]),
            detail=row["detail"],
            cpu_seconds=row["cpu_seconds"],
            wall_seconds=row["wall_seconds"],
            tier=row["tier"],
            points=row.get("points"),  # earlier versions wrote none
        )
        return JudgedDraft(draft=draft, program=row["program"], shape=row["shape"], verdict=verdict)
    except (KeyError, TypeError, ValueError) as error:
        raise _no_draft(place, error) from None


def _no_draft(place: str, error: Exception) -> UserError:
    return UserError(
        f"{place} is no judged draft ({one_line(repr(error))}): take it out, or remove the file to draw anew"
    )


def row_of(judged: JudgedDraft, adapter_sha256: str) -> dict[str, Any]:
    """Its fields by the names of SCHEMA."""
    found = {"program": judged.program, "shape": judged.shape, "adapter_sha256": adapter_sha256}
    for name in SCHEMA.names:
        if name not in found:
            holder = judged.verdict if name in Verdict.__slots__ and name not in Draft.__slots__ else judged.draft
            found[name] = getattr(holder, name)
    return found


def lines_beside(path: Path) -> Path:
    """Where the drafts of a Parquet file are kept until it is whole."""
    return path.with_suffix(".jsonl")


def is_there(path: Path) -> bool:
    """Whether any draft of the file was drawn."""
    return path.exists() or lines_beside(path).exists()


def is_whole(path: Path, settings: dict[str, Any]) -> bool:
    """Whether all drafts are there. Raises UserError where the file was drawn under other settings."""
    if not path.exists():
        return False
    try:
        told = (pq.read_schema(path).metadata or {}).get(SETTINGS.encode(), b"null")
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None
    _check_settings(path, settings, json.loads(told))
    return True


def begin_lines(lines: Path, settings: dict[str, Any]) -> dict[Key, JudgedDraft]:
    """What an earlier call has left there, and the file made ready for more.

    Raises UserError where it was drawn under other settings, or naming a line that is broken.
    """
    trim_json_lines(lines)
    rows = numbered_json_lines(lines)
    if (first := next(rows, None)) is None:
        append_json_line(lines, {SETTINGS: settings})
        return {}
    _check_settings(lines, settings, first[1].get(SETTINGS))
    held = (_judged_in(row, f"{lines}, line {number}") for number, row in rows)
    return {(judged.draft.problem_id, judged.draft.sample): judged for judged in held}


def append(lines: Path, judged: JudgedDraft, adapter_sha256: str) -> None:
    row = row_of(judged, adapter_sha256)
    for name, kind in PACKED.items():
        row[_packed(name)] = base64.b64encode(np.asarray(row.pop(name), kind).tobytes()).decode()
    append_json_line(lines, row)


def _judged_in(row: dict[str, Any], place: str) -> JudgedDraft:
    """Raises UserError naming the place of a line that lacks something."""
    try:
        numbers = {name: held.tolist() for name, held in _unpacked(row).items()}
    except (KeyError, TypeError, ValueError) as error:
        raise _no_draft(place, error) from None
    return judged_of(row | numbers, place)


def _unpacked(row: dict[str, Any]) -> dict[str, np.ndarray]:
    """The numbers of a line that has them packed. Raises KeyError, TypeError or ValueError where they are broken."""
    found = {}
    for name in (name for name in PACKED if _packed(name) in row):
        found[name] = np.frombuffer(base64.b64decode(row[_packed(name)], validate=True), PACKED[name])
        if len(found[name]) != row["num_tokens"]:
            raise ValueError(f"{len(found[name])} of {name}")
    return found


def _packed(name: str) -> str:
    """The key of a line, which no earlier version takes for the numbers themselves."""
    return f"packed_{name}"


def finish(path: Path, settings: dict[str, Any], order: Sequence[Key]) -> None:
    """Make the Parquet file of the lines, which have a draft of every key, and remove them."""
    lines = lines_beside(path)
    tables = [pa.Table.from_pylist(rows, SCHEMA) for rows in _batches(lines)]
    table = pa.concat_tables([SCHEMA.empty_table(), *tables])
    keys = zip(table["problem_id"].to_pylist(), table["sample"].to_pylist(), strict=True)
    places = {key: place for place, key in enumerate(keys)}
    absent = [key for key in order if key not in places]
    assert not absent, f"the generator gave no draft of {absent[:3]}"
    table = table.take(pa.array([places[key] for key in order], pa.int64()))
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({SETTINGS: json.dumps(settings)}), sink, compression="zstd")
    write_atomic(path, sink.getvalue().to_pybytes())  # on the disk before the lines are removed
    lines.unlink()


def _batches(lines: Path) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    for _, row in numbered_json_lines(lines):
        rows += [] if SETTINGS in row else [row | _unpacked(row)]
        if len(rows) == BATCH:
            yield rows
            rows = []
    yield rows


def _check_settings(path: Path, settings: dict[str, Any], held: Any) -> None:
    changed = differences(settings, held if isinstance(held, dict) else {})
    if changed:
        raise UserError(
            f"{path} was drawn with other settings ({'; '.join(changed[:3])}): give those again, remove that file to "
            "draw anew, or choose another --run"
        )
