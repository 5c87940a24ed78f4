"""The training of what is imitated: every lesson once an epoch, and exactly on after it was ended."""

import dataclasses
from pathlib import Path

import pytest
import torch

from app.files.json_files import read_json_lines
from app.models.adapters import WEIGHTS
from app.overrides import with_overrides
from app.profiles import smoke
from app.records import IGNORE
from app.reward.by_reward.outlets import Files
from app.reward.imitation.lessons import write_lessons
from app.reward.imitation.training import imitate, imitate_in_files, source_of, total_steps
from app.reward.records import Lesson, LessonKind
from app.running.arm_paths import ArmPaths
from app.settings import Profile
from app.training.loop import StepMetrics
from app.training.state import ADAPTER, MOMENTS, PROGRESS, Progress
from tests.tiny_model import write_model

CPU = torch.device("cpu")
LESSONS = [
    Lesson(kind=LessonKind.RIGHT, problem_id="a", round=1, sample=n, prompt_ids=(5,), learnt_ids=(6,) * (n % 9 + 2))
    for n in range(41)
]


def profile_of(*settings: str) -> Profile:
    given = ["grm.seq_len=128", "grm.max_new_tokens=16", "grm.micro_batch=3", "grm.imitate.batch=8", "seed=1"]
    return with_overrides(smoke(), [*given, "grm.imitate.epochs=2", *settings])


def learnt(step: list[dict[str, torch.Tensor]]) -> int:
    return sum(int((batch["labels"] != IGNORE).sum()) for batch in step)


def test_each_epoch_brings_every_token_once_in_an_order_of_its_own() -> None:
    steps = list(source_of(LESSONS, profile_of(), pad_id=0)(Progress()))
    assert len(steps) == total_steps(len(LESSONS), profile_of()) == 10
    first, second = steps[:5], steps[5:]
    for epoch in (first, second):
        assert sum(map(learnt, epoch)) == sum(len(one.learnt_ids) for one in LESSONS)
    assert [learnt(step) for step in first] != [learnt(step) for step in second]
    prompts = [sum(int((batch["input_ids"] == 5).sum()) for batch in step) for step in steps]
    assert set(prompts) == {8, 9}, "steps are of one size, as nearly as can be"
    long = dataclasses.replace(LESSONS[0], learnt_ids=(6,) * 199)
    with pytest.raises(ValueError, match="longer than a row"):
        list(source_of([long], profile_of(), pad_id=0)(Progress()))


def test_a_step_is_the_same_wherever_the_training_goes_on() -> None:
    source = source_of(LESSONS, profile_of(), pad_id=0)
    whole, rest = list(source(Progress())), list(source(Progress(step=7)))
    for one, other in zip(whole[7:], rest, strict=True):
        assert all(torch.equal(a["input_ids"], b["input_ids"]) for a, b in zip(one, other, strict=True))


class EndedError(Exception):
    pass


@pytest.mark.parametrize("cut_off", ["", MOMENTS, PROGRESS, f"{ADAPTER}/{WEIGHTS}"])
def test_a_training_that_was_ended_goes_on_exactly(tmp_path: Path, cut_off: str) -> None:
    """cut_off: a file of the newest checkpoint of which a power cut left half; the one before serves then."""
    (tmp_path / "model").mkdir()
    write_model(tmp_path / "model", list("abcdef"))
    profile = profile_of("model.source=path", f"model.name={tmp_path / 'model'}", "grm.checkpoint_every=3")
    whole, cut = ArmPaths(tmp_path / "whole"), ArmPaths(tmp_path / "cut")
    for at in (whole, cut):
        write_lessons(at.lessons, LESSONS)
    imitate_in_files(whole, profile, CPU)

    def end(metrics: StepMetrics) -> None:
        if metrics.step == 8:
            raise EndedError

    with pytest.raises(EndedError):
        imitate(profile, LESSONS, CPU, on_step=end, on_checkpoint=Files(cut.folder, 1).on_checkpoint)
    if cut_off:
        torn = cut.folder / "checkpoints" / "00006" / cut_off
        torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])
    imitate_in_files(cut, profile, CPU)
    assert (whole.adapter / WEIGHTS).read_bytes() == (cut.adapter / WEIGHTS).read_bytes()
    rows, others = read_json_lines(cut.metrics), read_json_lines(whole.metrics)
    first = 3 if cut_off else 6
    assert [row["step"] for row in rows] == list(range(first + 1, 11))
    assert [row["loss"] for row in rows] == [row["loss"] for row in others[first:]]
    assert others[0]["loss"] > others[-1]["loss"] and others[1]["learning_rate"] > others[-1]["learning_rate"]
