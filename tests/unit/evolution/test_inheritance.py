"""A child does what its parent did: exactly at the same rank and at a higher one, as nearly as can be at a lower."""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from app.errors import UserError
from app.evolution.inheritance import Inherited, begin, inherit
from app.models.adapters import CONFIG, WEIGHTS
from app.reward.by_reward.grpo import training_settings
from app.reward.by_reward.keeping import FALLBACK
from app.settings import SftSettings
from app.stage_settings.grm import GrmSettings
from app.training import lora
from app.training.feed import Batch
from app.training.loop import Source, StepMetrics, train
from app.training.state import ADAPTER, MOMENTS, PROGRESS, Progress, restore_adapter
from tests.tiny_model import write_model
from tune_spaces.alpha_evolve import default_genome, settings_of

CPU = torch.device("cpu")
RANK, STEPS, WARMUP = 8, 6, 3
GRM = GrmSettings(lora_r=RANK, lora_alpha=2 * RANK, steps=STEPS, warmup_steps=WARMUP, learning_rate=0.01)
WORDS = [f"w{number}" for number in range(40)]
NONE: Source = lambda progress: iter(())  # noqa: E731


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    write_model(folder, WORDS)
    return folder


@pytest.fixture(scope="module")
def parent(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The TrainState of an individual that has taken four of its steps."""
    folder = tmp_path_factory.mktemp("parent") / "state"
    run(fresh(base, RANK), RANK, rows(4), save_to=folder)
    return folder


def settings_at(rank: int, optimiser: str = "adamw") -> SftSettings:
    """As evolution comes by them."""
    grm = settings_of(dataclasses.replace(default_genome(GRM), lora_r=rank), GRM)
    return training_settings(SftSettings(optimiser=optimiser), grm)  # type: ignore[arg-type]


def fresh(base: Path, rank: int) -> PeftModel:
    return lora.attach(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), settings_at(rank), seed=5)


def batch(number: int) -> Batch:
    ids = torch.randint(4, 44, (2, 12), generator=torch.Generator().manual_seed(number))
    return {"input_ids": ids, "labels": ids, "position_ids": torch.arange(12).expand(2, -1)}


def rows(end: int) -> Source:
    def from_there(progress: Progress) -> Iterator[list[Batch]]:
        for number in range(progress.step, end):
            yield [batch(number)]

    return from_there


def run(
    model: PeftModel, rank: int, source: Source, start: Path | None = None, save_to: Path | None = None, **changes: Any
) -> list[StepMetrics]:
    metrics: list[StepMetrics] = []

    def on_checkpoint(step: int, save: Any) -> None:
        if save_to:
            shutil.rmtree(save_to, ignore_errors=True)
            save_to.mkdir()
            save(save_to)

    train(
        model, source, settings_at(rank, **changes), STEPS, device=CPU, on_step=metrics.append,
        on_checkpoint=on_checkpoint, resume_from=start,
    )  # fmt: skip
    return metrics


def loaded(base: Path, rank: int, state: Path) -> PeftModel:
    """The model that a training of this rank has, once it has gone back to `state` and before its first step."""
    model = fresh(base, rank)
    assert run(model, rank, NONE, state) == []
    return model


def logits(model: PeftModel) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(**{name: batch(99)[name] for name in ("input_ids", "position_ids")}).logits
    return found


def added(model: PeftModel) -> dict[str, torch.Tensor]:
    """What the adapter adds to each weight, scale and all: [out, in]."""
    layers = {name: layer for name, layer in model.named_modules() if hasattr(layer, "lora_A")}
    return {name: layer.get_delta_weight("default").detach().double() for name, layer in layers.items()}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_child_of_the_same_rank_goes_on_as_its_parent_would(base: Path, parent: Path, tmp_path: Path) -> None:
    marked = tmp_path / "marked"
    shutil.copytree(parent, marked)
    (marked / FALLBACK).write_text("{}")  # the parent's training has a say in no other
    (tmp_path / ".child.new").mkdir()
    (tmp_path / ".child.new/left").touch()  # of one that was killed
    told = inherit(marked, tmp_path / "child", RANK, seed=0)
    assert told == Inherited(parent_rank=RANK, rank=RANK, error=0.0) and told.is_whole
    assert files(tmp_path / "child") == files(parent)
    assert {path.name for path in tmp_path.iterdir()} == {"marked", "child"}
    metrics = run(fresh(base, RANK), RANK, rows(STEPS), tmp_path / "child")
    assert [row.step for row in metrics] == [5, 6] and metrics[0].tokens == 5 * 24


@pytest.mark.parametrize("rank", [16, 64])
def test_a_child_of_a_higher_rank_says_what_its_parent_says(
    base: Path, parent: Path, tmp_path: Path, rank: int
) -> None:
    told = inherit(parent, tmp_path / "child", rank, seed=1)
    assert told == Inherited(parent_rank=RANK, rank=rank, error=0.0) and not told.is_whole
    before, after = loaded(base, RANK, parent), loaded(base, rank, tmp_path / "child")
    untouched = fresh(base, RANK)
    torch.testing.assert_close(logits(after), logits(before), rtol=1e-5, atol=1e-5)
    assert (logits(before) - logits(untouched)).abs().max() > 0.1
    old, new = load_file(parent / ADAPTER / WEIGHTS), load_file(tmp_path / "child" / ADAPTER / WEIGHTS)
    for name, tensor in old.items():
        dim = 0 if "lora_A" in name else 1
        kept, more = new[name].split([RANK, rank - RANK], dim)
        assert torch.equal(kept, tensor) and bool(more.any()) is ("lora_A" in name)
    again, other = tmp_path / "again", tmp_path / "other"
    inherit(parent, again, rank, seed=1)
    inherit(parent, other, rank, seed=2)
    assert files(again) == files(tmp_path / "child") != files(other)


@pytest.mark.parametrize("rank", [1, 4])
def test_a_child_of_a_lower_rank_is_the_nearest_to_its_parent(
    base: Path, parent: Path, tmp_path: Path, rank: int
) -> None:
    told = inherit(parent, tmp_path / "child", rank, seed=0)
    before, after = added(loaded(base, RANK, parent)), added(loaded(base, rank, tmp_path / "child"))
    left_out = 0.0
    for name, weight in before.items():
        left, values, right = torch.linalg.svd(weight, full_matrices=False)
        best = left[:, :rank] * values[:rank] @ right[:rank]
        torch.testing.assert_close(after[name], best, rtol=0, atol=1e-5 * float(values[0]))
        left_out += float(values[rank:].square().sum())
    whole = sum(float(weight.square().sum()) for weight in before.values())
    assert told == Inherited(parent_rank=RANK, rank=rank, error=pytest.approx((left_out / whole) ** 0.5, rel=1e-4))
    assert 0.01 < told.error < 1


def test_there_and_back_is_the_parent(base: Path, parent: Path, tmp_path: Path) -> None:
    """Nothing is lost by a grandchild that has its grandparent's rank, where no step was taken between."""
    inherit(parent, tmp_path / "child", 32, seed=0)
    assert inherit(tmp_path / "child", tmp_path / "grandchild", RANK, seed=0).error < 1e-6
    after = loaded(base, RANK, tmp_path / "grandchild")
    torch.testing.assert_close(logits(after), logits(loaded(base, RANK, parent)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("rank", "optimiser"), [(4, "adamw"), (16, "adamw"), (4, "paged_adamw_8bit"), (64, "paged_adamw_8bit")]
)
def test_a_child_of_another_rank_begins_with_a_warm_up_and_learns(
    base: Path, parent: Path, tmp_path: Path, rank: int, optimiser: str
) -> None:
    """At rank 64 some moments of the second optimiser are in 8 bits."""
    inherit(parent, tmp_path / "child", rank, seed=0)
    model = loaded(base, rank, tmp_path / "child")
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    metrics = run(model, rank, rows(4), tmp_path / "child", tmp_path / "later", optimiser=optimiser)
    assert [row.step for row in metrics] == [1, 2, 3, 4] and metrics[-1].tokens == 4 * 24
    assert [row.learning_rate / GRM.learning_rate for row in metrics] == pytest.approx([1 / 3, 2 / 3, 1, 1])
    for name, p in model.named_parameters():
        if p.requires_grad:
            ranks = p if "lora_A" in name else p.t()
            moved = (ranks - (before[name] if "lora_A" in name else before[name].t())).norm(dim=1)
            assert moved.min() > 1e-3, f"a rank of {name} learns nothing"
    rest = run(fresh(base, rank), rank, rows(STEPS), tmp_path / "later", optimiser=optimiser)
    assert [row.step for row in rest] == [5, 6]
    moments = load_file(tmp_path / "later" / MOMENTS)
    assert {int(tensor) for name, tensor in moments.items() if name.endswith(".step")} == {4}
    assert (torch.uint8 in {tensor.dtype for tensor in moments.values()}) is (rank == 64)


def test_a_child_of_an_adapter_that_adds_nothing_can_learn_at_a_lower_rank(base: Path, tmp_path: Path) -> None:
    lora.save(fresh(base, RANK), tmp_path / "untrained")
    begin(tmp_path / "untrained", tmp_path / "start")
    assert inherit(tmp_path / "start", tmp_path / "child", 4, seed=0).error == 0
    model = fresh(base, 4)
    losses = [row.loss for row in run(model, 4, rows(4), tmp_path / "child")]
    assert all(bool(p.any(dim=0).all()) for name, p in model.named_parameters() if "lora_B" in name)
    assert len(losses) == 4


def test_a_finished_adapter_is_begun_with_and_taken_to_another_rank(base: Path, parent: Path, tmp_path: Path) -> None:
    begin(parent / ADAPTER, tmp_path / "start")
    assert files(tmp_path / "start/adapter") == files(parent / ADAPTER)
    assert Progress(**json.loads((tmp_path / "start" / PROGRESS).read_text())) == Progress()
    assert load_file(tmp_path / "start" / MOMENTS) == {}
    before = logits(loaded(base, RANK, parent))
    torch.testing.assert_close(logits(loaded(base, RANK, tmp_path / "start")), before)
    inherit(tmp_path / "start", tmp_path / "founder", 32, seed=0)
    torch.testing.assert_close(logits(loaded(base, 32, tmp_path / "founder")), before, rtol=1e-5, atol=1e-5)
    assert run(fresh(base, RANK), RANK, rows(1), tmp_path / "start")[0].learning_rate == GRM.learning_rate / WARMUP


def test_what_is_no_state_or_no_plain_adapter_is_refused(parent: Path, tmp_path: Path) -> None:
    def refused(words: str, source: Path, rank: int = 4) -> None:
        with pytest.raises(UserError, match=words):
            inherit(source, tmp_path / "child", rank, seed=0)

    refused("not a training's checkpoint, since it has no adapter", tmp_path / "nowhere")
    refused("not a training's checkpoint, since it has no adapter: give the folder of one", parent / ADAPTER)
    for rank in (0, 257):
        refused(f"lora_r={rank} is the rank of no adapter: take 1 to 256", parent, rank)
    shutil.copytree(parent, tmp_path / "state")
    (tmp_path / "state" / PROGRESS).write_text('{"steps": 3}')
    refused("not say how far a training has come", tmp_path / "state")
    (tmp_path / "state" / PROGRESS).write_text('{"step": 3')
    refused("is broken", tmp_path / "state")
    shutil.copy(parent / PROGRESS, tmp_path / "state" / PROGRESS)
    config = json.loads((parent / ADAPTER / CONFIG).read_text())
    (tmp_path / "state" / ADAPTER / CONFIG).write_text(json.dumps(config | {"use_rslora": True}))
    for rank in (4, RANK, 16):
        refused("scales of its own", tmp_path / "state", rank)
    with pytest.raises(UserError, match="scales of its own"):
        begin(tmp_path / "state" / ADAPTER, tmp_path / "child")
    with pytest.raises(UserError, match="no PEFT folder"):
        begin(tmp_path, tmp_path / "child")
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_an_adapter_is_never_taken_at_another_scale(base: Path, parent: Path) -> None:
    other = settings_at(RANK).model_copy(update={"lora_alpha": RANK})
    model = lora.attach(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), other, seed=0)
    with pytest.raises(AssertionError, match=r"lora_alpha / r = 2.0, and this model 1.0"):
        restore_adapter(model, parent)
