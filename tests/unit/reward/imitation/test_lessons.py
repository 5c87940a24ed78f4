"""What is imitated of drafts, and its file."""

import dataclasses
from pathlib import Path

import pytest

from app.errors import UserError
from app.records import Status
from app.reward.imitation.lessons import beginnings, lesson, read_lessons, write_lessons
from app.reward.records import LessonKind
from tests.unit.reward.made_drafts import judged

PROMPTS = {name: [5, 6, 7] for name in "abcd"}
DRAFTS = [
    judged(Status.WRONG_ANSWER, name=name, sample=sample, tokens=10, cut=name == "d")
    for name in "abcd"
    for sample in range(3)
]


def test_beginnings_are_of_one_draft_a_problem_and_some_go_on_to_their_end() -> None:
    lessons = beginnings(DRAFTS, PROMPTS, tokens=4, whole_share=0.5)
    assert sorted((one.kind, len(one.learnt_ids)) for one in lessons) == [("beginning", 4)] * 2 + [("whole", 10)] * 2
    assert sorted(one.problem_id for one in lessons) == list("abcd")
    (only,) = beginnings(DRAFTS[-3:], PROMPTS, tokens=4, whole_share=1.0)
    assert only.kind == LessonKind.BEGINNING, "a draft that was cut has no end to learn"


def test_lessons_are_read_as_they_were_written(tmp_path: Path) -> None:
    made = [lesson(one, PROMPTS, LessonKind.RIGHT, 2) for one in DRAFTS]
    assert made[0].prompt_ids == (5, 6, 7) and made[0].learnt_ids == (1,) * 10
    write_lessons(tmp_path / "lessons.parquet", made)
    assert [
        (one.kind, one.problem_id, one.round, one.sample, [*one.prompt_ids], [*one.learnt_ids])
        for one in read_lessons(tmp_path / "lessons.parquet")
    ] == [(LessonKind.RIGHT, one.problem_id, 2, one.sample, [5, 6, 7], [1] * 10) for one in made]


def test_another_file_is_refused_with_a_way_out(tmp_path: Path) -> None:
    path, made = tmp_path / "lessons.parquet", lesson(DRAFTS[0], PROMPTS, LessonKind.RIGHT)
    write_lessons(path, [dataclasses.replace(made, kind="other")])  # type: ignore[arg-type]
    with pytest.raises(
        UserError, match="holds no samples to imitate .*other.*: take it away, and they are chosen anew"
    ):
        read_lessons(path)
