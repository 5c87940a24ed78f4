"""What is imitated of drafts, and the file that keeps it: right drafts (rejection-sampled tuning, after ReST-EM, arXiv
2312.06585), or the beginnings of any (prefix tuning, "The First Few Tokens Are All You Need", arXiv 2503.02875).

The file is chosen once and trained from, so a training that goes on learns what it began with.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from app.corpus.draws import by_hash
from app.errors import UserError
from app.files.json_files import write_atomic
from app.files.table_rows import strict_rows
from app.files.text import one_line
from app.records import FinishReason
from app.reward.records import JudgedDraft, Lesson, LessonKind

SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("problem_id", pa.string()),
        ("round", pa.int32()),
        ("sample", pa.int32()),
        ("prompt_ids", pa.list_(pa.int32())),
        ("learnt_ids", pa.list_(pa.int32())),
    ]
)
"""Fields of `records.Lesson`."""
PromptIds = Mapping[str, Sequence[int]]
"""The tokens of a problem's prompt, by its id."""


def beginnings(
    drafts: Sequence[JudgedDraft], prompts: PromptIds, *, tokens: int, whole_share: float, seed: int = 0
) -> list[Lesson]:
    """The first tokens of one draft a problem, whatever its verdict; of a share of the problems, drawn by hash, all of
    a draft that ended by itself, so that the model does not forget how an answer goes on."""
    chosen: dict[str, JudgedDraft] = {}
    for one in sorted(drafts, key=lambda one: by_hash(f"{seed} {one.draft.problem_id} {one.draft.sample}")):
        held = chosen.get(one.draft.problem_id)
        if held is None or (_is_cut(held) and not _is_cut(one)):
            chosen[one.draft.problem_id] = one
    order = sorted(chosen.values(), key=lambda one: by_hash(f"{seed} {one.draft.problem_id}"))
    ended = [one for one in order if not _is_cut(one)][: round(whole_share * len(order))]
    is_whole = {one.draft.problem_id for one in ended}
    return [
        lesson(one, prompts, LessonKind.WHOLE)
        if one.draft.problem_id in is_whole
        else lesson(one, prompts, LessonKind.BEGINNING, tokens=tokens)
        for one in order
    ]


def lesson(
    one: JudgedDraft, prompts: PromptIds, kind: LessonKind, number: int = 1, tokens: int | None = None
) -> Lesson:
    """The draft's first tokens, or all."""
    return Lesson(
        kind=kind,
        problem_id=one.draft.problem_id,
        round=number,
        sample=one.draft.sample,
        prompt_ids=tuple(prompts[one.draft.problem_id]),
        learnt_ids=one.draft.token_ids[:tokens],
    )


def write_lessons(path: Path, lessons: Sequence[Lesson]) -> None:
    """Write them beside their place, then rename the file."""
    sink = pa.BufferOutputStream()
    rows = [dataclasses.asdict(one) for one in lessons]
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), sink, compression="zstd")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, sink.getvalue().to_pybytes())


def read_lessons(path: Path) -> list[Lesson]:
    """The lessons in their order. Raises UserError for a file of another kind."""
    try:
        return [Lesson(**row | {"kind": LessonKind(row["kind"])}) for row in strict_rows(path, str(path))]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} holds no samples to imitate ({one_line(repr(error))}): take it away, and they are chosen anew"
        ) from None


def _is_cut(one: JudgedDraft) -> bool:
    return one.draft.finish_reason == FinishReason.LENGTH
