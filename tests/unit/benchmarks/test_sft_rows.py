"""Rows of several kinds: which answers are learnt, and how many rows come of them."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from app.corpus.records import Example
from app.corpus.rows.packing import Sample
from app.records import IGNORE
from benchmarks import tuning
from benchmarks.sft_rows import Answer, first_samples, kept, until_answer, write


def answers(*passed: bool, shapes: str = "") -> list[Answer]:
    """Of one problem; all different unless `shapes` has a letter for each."""
    letters = shapes or "abcdefghijkl"
    return [
        Answer(example=Example(form=letters[number]), passed=one, shape=letters[number], order=bytes([number]))
        for number, one in enumerate(passed)
    ]


@pytest.mark.parametrize(
    ("passed", "most"),
    [((True,) * 8, 1), ((True,) * 6 + (False,) * 2, 2), ((True,) * 2 + (False,) * 6, 2), ((False,) * 8, 0)],
)
def test_more_answers_are_learnt_of_a_harder_problem(passed: tuple[bool, ...], most: int) -> None:
    chosen = kept(answers(*passed))
    assert len(chosen) == most
    assert all(answer.passed for answer in chosen)


def test_answers_of_one_shape_are_learnt_once_the_first_of_them() -> None:
    chosen = kept(answers(True, True, False, False, False, False, False, False, shapes="aabcdefg"))
    assert [answer.order for answer in chosen] == [b"\0"]


def test_the_dialogue_ends_before_the_first_answer() -> None:
    turns = tuple({"role": role, "content": role} for role in ("system", "user", "assistant", "tool", "assistant"))
    assert [turn["role"] for turn in until_answer(Example(form="tool_use", turns=turns))] == ["system", "user"]


def sample(start: int, given: int, learnt: int) -> Sample:
    ids = list(range(start, start + given + learnt))
    return Sample(input_ids=ids, labels=[IGNORE] * given + ids[given:], is_whole=True)


def test_a_part_has_as_many_learnt_tokens_as_are_asked_for() -> None:
    samples = [sample(100 * number, 3, 10) for number in range(5)]
    assert len(first_samples(samples, 25, seq_len=16)) == 3
    assert first_samples(samples, 0, seq_len=16) == []


@pytest.mark.parametrize(("number", "epochs"), [(3, 2.67), (40, 0.2)])
def test_all_folders_have_the_rows_that_are_asked_for(
    number: int, epochs: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = [sample(100 * one, 4, 10) for one in range(number)]
    write(tmp_path / "own", samples, 16, 8, SimpleNamespace(pad_token_id=0), {"problems": 1})
    found = tuning.rows(tmp_path / "own")
    assert found["input_ids"].shape == (8, 16)
    assert np.isin(found["labels"], [IGNORE, *(i for one in samples for i in one.labels)]).all()
    assert f'"epochs": {epochs}' in capsys.readouterr().out
