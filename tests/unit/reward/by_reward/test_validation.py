"""A training is measured on what it does not learn from and keeps its best checkpoint; where it got worse than that it
goes on from it once, held near its base. All of it happens again, exactly, where it was ended on the way."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from app.errors import UserError
from app.files.json_files import read_json, read_json_lines
from app.generation.transformers_engine import TransformersEngine
from app.models.adapters import WEIGHTS
from app.overrides import with_overrides
from app.profiles import smoke
from app.records import UNSAFE, Problem, Verdict
from app.reward.by_reward.learning import why_ended
from app.reward.by_reward.outlets import read_figures
from app.reward.by_reward.validation import ValidationFile, read_validations
from app.reward.by_reward.watch import Validation, Watch
from app.running import deadlines
from app.running.deadlines import Deadline
from app.settings import Profile
from app.stage_settings.grm import GrmSettings
from tests.unit.reward import made_drafts
from tests.unit.reward.letters import EndedError, Ending, LikesVowels, learn, profile_of, same

VALIDATES = ("grm.validate_every=2", "grm.validation_drafts=3", "grm.steps=12")


def validated(letters: Path, *settings: str) -> Profile:
    return profile_of(letters, *VALIDATES, *settings)


def test_checkpoints_are_validated_and_learning_is_the_same(
    engine: TransformersEngine, letters: Path, tmp_path: Path
) -> None:
    rows = learn(tmp_path / "with", engine, validated(letters, "grm.steps=4"), validates=True)
    found = read_validations(tmp_path / "with/validation.jsonl")
    assert [one.step for one in found] == [0, 2, 4] and all(len(one.rates) == 24 for one in found)
    assert found[0].mean < found[2].mean, "what is learnt holds for other problems too"
    plain = learn(tmp_path / "without", engine, profile_of(letters, "grm.steps=4"))
    assert same(rows) == same(plain)


@pytest.fixture(scope="module")
def fallen(engine: TransformersEngine, letters: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training whose validation falls, twice."""
    folder = tmp_path_factory.mktemp("fallen")
    learn(folder, engine, validated(letters), LikesVowels(spoils=True), validates=True)
    return folder


def test_a_training_whose_validation_fell_goes_on_once_held_near_its_base(fallen: Path) -> None:
    fallback = read_json(fallen / "fallback.json")
    best, rows, before = (
        fallback["step"],
        read_json_lines(fallen / "metrics.jsonl"),
        read_json_lines(fallen / "fallen.jsonl"),
    )
    assert best > 0 and fallback["kl"] == 1e-3 and "validation fell" in fallback["reason"]
    assert [row["step"] for row in before] == list(range(best + 1, before[-1]["step"] + 1))
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1)) and len(rows) > best
    assert all(row["kl"] is not None for row in rows[best:])
    assert [row["step"] for row in before if row["kl"] is not None] == [s["step"] for s in before if s["step"] % 2 == 0]
    assert (fallen / "drafts-kl").is_dir()


def test_a_training_that_fell_again_keeps_its_best_checkpoint(fallen: Path) -> None:
    validations = read_validations(fallen / "validation.jsonl")
    watch = Watch(read_figures(fallen / "metrics.jsonl"), validations)
    assert watch.fall and why_ended(watch.figures, GrmSettings(steps=12), validations) == watch.fall
    assert watch.best_step is not None and watch.best_step < len(watch.figures)
    assert (fallen / "adapter" / WEIGHTS).read_bytes() == (fallen / "best/adapter" / WEIGHTS).read_bytes()


def test_a_training_that_falls_back_goes_on_exactly(
    engine: TransformersEngine, letters: Path, tmp_path: Path, fallen: Path
) -> None:
    """Ended again and again, before, at and after the fallback."""
    for _ in itertools.count():
        try:
            ending = Ending(engine, after=150)
            learn(tmp_path, ending, validated(letters), LikesVowels(spoils=True), validates=True)  # type: ignore[arg-type]
            break
        except EndedError:
            pass
    for name in ("metrics.jsonl", "fallen.jsonl"):
        assert same(read_json_lines(tmp_path / name)) == same(read_json_lines(fallen / name))
    assert (tmp_path / "validation.jsonl").read_text() == (fallen / "validation.jsonl").read_text()
    assert (tmp_path / "adapter" / WEIGHTS).read_bytes() == (fallen / "adapter" / WEIGHTS).read_bytes()


def test_without_a_fallback_the_best_checkpoint_is_the_end(
    engine: TransformersEngine, letters: Path, tmp_path: Path
) -> None:
    judge, profile = LikesVowels(spoils=True), validated(letters, "grm.kl_fallback=0")
    rows = learn(tmp_path, engine, profile, judge, validates=True)
    assert len(rows) < 12 and not (tmp_path / "fallback.json").exists()
    assert (tmp_path / "adapter" / WEIGHTS).read_bytes() == (tmp_path / "best/adapter" / WEIGHTS).read_bytes()


def test_a_run_that_collapsed_keeps_its_best_checkpoint(
    engine: TransformersEngine, letters: Path, tmp_path: Path
) -> None:
    # Any length is too much, once there is a start.
    assert len(learn(tmp_path, engine, validated(letters, "grm.most_length=0.01"), validates=True)) == 4
    best = Watch([], read_validations(tmp_path / "validation.jsonl")).best_step
    assert best in (2, 4) and not (tmp_path / "fallback.json").exists()
    assert (tmp_path / "adapter" / WEIGHTS).read_bytes() == (tmp_path / "best/adapter" / WEIGHTS).read_bytes()


def test_a_training_that_its_deadline_ends_keeps_its_best_checkpoint(
    engine: TransformersEngine, letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(1)  # asked before each step but the first
    monkeypatch.setattr(deadlines, "now", lambda: next(clock))
    assert len(learn(tmp_path, engine, validated(letters), validates=True, deadline=Deadline(at=3.0))) == 3
    assert read_json(tmp_path / "cut.json") == {"steps": 3}
    assert Watch([], read_validations(tmp_path / "validation.jsonl")).best_step in (0, 2)
    assert (tmp_path / "adapter" / WEIGHTS).read_bytes() == (tmp_path / "best/adapter" / WEIGHTS).read_bytes()


class Unsure(LikesVowels):
    """Its verdicts may be forged."""

    def judge_all(self, jobs: Iterable[tuple[Problem, Sequence[str]]]) -> Iterator[list[Verdict]]:
        for verdicts in super().judge_all(jobs):
            yield [dataclasses.replace(one, tier=UNSAFE) for one in verdicts]


def test_a_validation_of_which_no_verdict_counts_is_told(
    engine: TransformersEngine, letters: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="no verdict on the drafts of 24 problems to validate by counts"):
        learn(tmp_path, engine, validated(letters), Unsure(), validates=True)


def test_a_checkpoint_is_not_compared_with_one_that_other_tests_judged(tmp_path: Path) -> None:
    """As in a run that an older version began, which validated by given tests."""
    path, given = tmp_path / "validation.jsonl", made_drafts.problem("a")
    hardened = dataclasses.replace(given, problem=dataclasses.replace(given.problem, tests="assert f([]) == []"))
    found = Validation(step=0, rates={"a": 1.0})
    ValidationFile(path, [given]).append(found)
    assert ValidationFile(path, [given]).read() == read_validations(path) == [found]
    for line in (path.read_text(), '{"step": 0, "rates": {"a": 1.0}}\n'):
        path.write_text(line)
        with pytest.raises(UserError, match="was measured on other problems, or by other tests of them, than this tra"):
            ValidationFile(path, [hardened]).read()


def added(adapters: Iterable[Path]) -> list[torch.Tensor]:
    """What adapters add to each weight, on the average."""
    held = [load_file(adapter / WEIGHTS) for adapter in adapters]
    names = [name for name in held[0] if ".lora_A." in name]
    products = [[tensors[name.replace("lora_A", "lora_B")] @ tensors[name] for tensors in held] for name in names]
    return [torch.stack(one).mean(0) for one in products]


def test_the_mean_of_the_last_checkpoints_is_what_they_add_on_the_average(
    engine: TransformersEngine, letters: Path, tmp_path: Path
) -> None:
    profile = profile_of(letters, "grm.mean_of_checkpoints=3", "grm.checkpoint_every=1")
    learn(tmp_path / "whole", engine, profile)
    recent = sorted((tmp_path / "whole/recent").iterdir())
    assert [path.name for path in recent] == ["00004", "00005", "00006"]
    for mean, found in zip(added(recent), added([tmp_path / "whole/adapter"]), strict=True):
        assert (mean - found).norm() < 1e-3 * mean.norm()
    with pytest.raises(EndedError):
        learn(tmp_path / "cut", Ending(engine, after=300), profile)  # type: ignore[arg-type]
    learn(tmp_path / "cut", engine, profile)
    one, other = (tmp_path / name / "adapter" / WEIGHTS for name in ("whole", "cut"))
    assert one.read_bytes() == other.read_bytes()


def test_only_checkpoints_are_validated() -> None:
    with pytest.raises(UserError, match="grm.validate_every=3 is no multiple of grm.checkpoint_every=2"):
        with_overrides(smoke(), ["grm.checkpoint_every=2", "grm.validate_every=3"])
