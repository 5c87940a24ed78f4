"""What a run keeps of a measurement: the weights it belongs to, and its samples as they are read back.

A result belongs to the files that load as the model and the adapter, by their SHA-256: sizes and times can stay as they
are while a file changes. Limit: on a cluster the driver's copy of the base weights is read; a node's own copy, pulled
under the same name, is taken for the same.
"""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from app.errors import UserError
from app.files.json_files import numbered_json_lines
from app.models.adapters import CONFIG, WEIGHTS
from app.models.base import sha256_of
from app.records import TOKEN_FIELDS, Draft, Status

BASE_KEY, ADAPTER_KEY, VERDICTS_KEY = "weights_sha256", "adapter_sha256", "verdicts"
LENGTH_KEY = "generation.max_model_len"
_DRAFT = {field.name for field in fields(Draft)} - set(TOKEN_FIELDS)
VERDICTS = 3
"""Raise it with every change to the sandbox, the tests or the way from a reply to its program by which a verdict on the
same reply may change: drafts that are there are then judged anew. 2: drafts share nothing that one can write to. 3: the
protocol evalplus leaves out what only runs the function."""


def adapter_sha256(adapter: str) -> dict[str, str]:
    """By file; nothing for the base model."""
    return sha256_of([Path(adapter) / name for name in (WEIGHTS, CONFIG)]) if adapter else {}


def is_adapter(adapter: str) -> bool:
    return all((Path(adapter) / name).is_file() for name in (WEIGHTS, CONFIG))


def samples(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each line's number and sample, one at a time. Raises UserError naming a line that is none."""
    for number, row in numbered_json_lines(path):
        if not _is_sample(row):
            raise UserError(f"{path}, line {number} is no sample: take that line out, and the sample is drawn again")
        yield number, row


def has_room(row: dict[str, Any], max_model_len: int) -> bool:
    """Whether the draft would have been the same under this limit of its length.

    One on which the sandbox failed is drawn again anyway.
    """
    draft = row["draft"]
    return row["verdict"]["status"] == Status.INFRA or (
        draft["num_tokens"] > 0 and draft["num_prompt_tokens"] + draft["num_tokens"] < max_model_len
    )


def _is_sample(row: dict[str, Any]) -> bool:
    draft, verdict = row.get("draft"), row.get("verdict")
    if not isinstance(draft, dict) or not isinstance(verdict, dict):
        return False
    texts = (draft.get("problem_id"), draft.get("text"), *map(verdict.get, ("status", "tier", "detail")))
    replies = row.get("replies", [])
    counts = (draft.get("sample"), draft.get("num_tokens"), draft.get("num_prompt_tokens"))
    return (
        draft.keys() == _DRAFT
        and isinstance(replies, list)
        and all(isinstance(text, str) for text in (*texts, *replies))
        and all(type(count) is int and count >= 0 for count in counts)
        and isinstance(draft.get("mean_logprob"), int | float)
        and verdict["status"] in set(Status)
    )
