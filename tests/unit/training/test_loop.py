"""Training computes what it says: the right loss, the right gradient, the right place to go on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import nn
from transformers import AutoModelForCausalLM

from app.files.json_files import read_json
from app.models.adapters import CONFIG
from app.profiles import smoke
from app.records import IGNORE
from app.settings import SftSettings
from app.training import lora
from app.training.loop import Batch, StepMetrics, epochs, train
from app.training.loss import CausalLMLoss, count_targets
from app.training.schedule import learning_rate_at, total_steps

CPU = torch.device("cpu")
SETTINGS = SftSettings(learning_rate=5e-3, micro_batch=2, grad_accumulation=2, checkpoint_every=3, lora_r=4)


@pytest.fixture
def base(smoke_model: Path) -> nn.Module:
    return AutoModelForCausalLM.from_pretrained(smoke_model, dtype=torch.float32)


def batch(seed: int, rows: int = 2, columns: int = 24) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(10, 200, (rows, columns), generator=draw)
    labels = ids.clone()
    labels[:, :7] = IGNORE
    return {"input_ids": ids, "labels": labels, "position_ids": torch.arange(columns).expand(rows, -1)}


def test_loss_and_gradient_equal_the_models_own(base: nn.Module) -> None:
    data = batch(0)
    reference = base(input_ids=data["input_ids"], labels=data["labels"]).loss
    reference.backward()
    gradient = base.model.layers[0].mlp.up_proj.weight.grad.clone()
    for chunk in (16, 1024):  # in several recomputed pieces, and in one
        base.zero_grad()
        loss = CausalLMLoss(base, chunk)(**data) / count_targets(data["labels"])
        loss.backward()
        torch.testing.assert_close(loss, reference, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(base.model.layers[0].mlp.up_proj.weight.grad, gradient, rtol=1e-4, atol=1e-7)


def test_documents_packed_into_one_row_do_not_see_each_other(base: nn.Module) -> None:
    first, second = batch(1, rows=1, columns=10), batch(2, rows=1, columns=14)
    apart = sum(CausalLMLoss(base, 1024)(**document).item() for document in (first, second))
    packed = {name: torch.cat([first[name], second[name]], dim=1) for name in first}
    assert packed["position_ids"].tolist() == [[*range(10), *range(14)]]
    assert CausalLMLoss(base, 1024)(**packed).item() == pytest.approx(apart, rel=1e-5)


def test_a_micro_batch_with_nothing_to_learn_gives_no_gradient_and_no_error(base: nn.Module) -> None:
    empty = batch(0) | {"labels": torch.full((2, 24), IGNORE)}
    loss = CausalLMLoss(base, 1024)(**empty)
    loss.backward()
    assert loss.item() == 0 and not any(p.grad is not None and p.grad.any() for p in base.parameters())


def data(epoch: int) -> Iterator[Batch]:
    yield from (batch(100 * epoch + number) for number in range(8))


def run(
    model: PeftModel,
    steps: int,
    tmp_path: Path,
    resume_from: Path | None = None,
    settings: SftSettings = SETTINGS,
    stopped_after: int = 0,
) -> list[StepMetrics]:
    rows: list[StepMetrics] = []

    def keep(step: int, save: object) -> None:
        folder = tmp_path / f"step-{step}"
        folder.mkdir(parents=True)
        save(folder)  # type: ignore[operator]

    source = epochs(data, settings, steps)
    train(
        model,
        source,
        settings,
        steps,
        device=CPU,
        on_step=rows.append,
        on_checkpoint=keep,
        resume_from=resume_from,
        is_stopped=lambda: len(rows) == stopped_after,
    )
    return rows


def test_training_learns_and_only_the_adapter_changes(base: nn.Module, tmp_path: Path) -> None:
    before = {name: p.clone() for name, p in base.state_dict().items()}
    model = lora.attach(base, SETTINGS, seed=0)
    rows = run(model, 30, tmp_path)
    assert [row.step for row in rows] == list(range(1, 31))
    # The tied head of the untrained model allows about 1 nat in all; noise between batches is below 0.02.
    assert sum(row.loss for row in rows[-5:]) / 5 < rows[0].loss - 0.08
    base_weights = {
        k.replace("base_model.model.", "").replace(".base_layer", ""): v
        for k, v in model.state_dict().items()
        if "lora_" not in k
    }
    assert all(torch.equal(base_weights[name], value) for name, value in before.items())
    assert rows[0].tokens == 2 * 2 * 24 and rows[0].label_tokens == 2 * 2 * (24 - 7)


@pytest.mark.parametrize("ways", [{"lora_dropout": 0.05}, {}, {"nested_ranks": (1, 2, 4)}])
@pytest.mark.parametrize("stopped", [1, 3, 5])
def test_a_training_stopped_after_any_step_goes_on_to_the_same_bits(
    smoke_model: Path, tmp_path: Path, ways: dict[str, Any], stopped: int
) -> None:
    """With dropout, by fused layers, and with ranks that are drawn."""
    settings = SETTINGS.model_copy(update=ways | {"checkpoint_every": 6})

    def fresh() -> PeftModel:
        return lora.attach(AutoModelForCausalLM.from_pretrained(smoke_model, dtype=torch.float32), settings, seed=0)

    whole = run(fresh(), 6, tmp_path / "whole", settings=settings)
    assert len(run(fresh(), 6, tmp_path / "cut", settings=settings, stopped_after=stopped)) == stopped
    assert [place.name for place in (tmp_path / "cut").iterdir()] == [f"step-{stopped}"]
    rest = run(fresh(), 6, tmp_path / "rest", tmp_path / f"cut/step-{stopped}", settings)
    assert [row.step for row in rest] == list(range(stopped + 1, 7))
    for a, b in zip(whole[stopped:], rest, strict=True):
        assert (a.loss, a.grad_norm, a.tokens, a.learning_rate) == (b.loss, b.grad_norm, b.tokens, b.learning_rate)
    for name in ("adapter/adapter_model.safetensors", "optimiser.safetensors", "state.json"):
        assert (tmp_path / "whole/step-6" / name).read_bytes() == (tmp_path / "rest/step-6" / name).read_bytes()


def test_the_adapter_loads_with_plain_peft_and_gives_the_same_logits(smoke_model: Path, tmp_path: Path) -> None:
    model = lora.attach(AutoModelForCausalLM.from_pretrained(smoke_model, dtype=torch.float32), SETTINGS, seed=0)
    run(model, 3, tmp_path)
    plain = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(smoke_model, dtype=torch.float32), tmp_path / "step-3/adapter"
    )
    ids = batch(5)["input_ids"]
    with torch.no_grad():
        ours, theirs = (m.eval()(input_ids=ids).logits for m in (model, plain))
        untouched = AutoModelForCausalLM.from_pretrained(smoke_model, dtype=torch.float32)(input_ids=ids).logits
    torch.testing.assert_close(ours, theirs)
    assert not torch.allclose(ours, untouched, atol=1e-3)
    targets = {name.split(".")[-4] for name, _ in model.named_parameters() if "lora_A" in name}
    assert targets == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    written = read_json(tmp_path / "step-3/adapter" / CONFIG)["target_modules"]
    assert written == sorted(written), "the same bytes in each process, whatever its order of hashes"


def test_gradient_accumulation_equals_one_large_batch(smoke_model: Path, tmp_path: Path) -> None:
    def once(micro_batches: list[Batch], accumulation: int) -> dict[str, torch.Tensor]:
        settings = SETTINGS.model_copy(
            update={"grad_accumulation": accumulation, "lora_dropout": 0.0, "max_grad_norm": 1e9}
        )
        model = lora.attach(AutoModelForCausalLM.from_pretrained(smoke_model, dtype=torch.float32), settings, seed=0)
        train(
            model,
            epochs(lambda _: iter(micro_batches), settings, 1),
            settings,
            1,
            device=CPU,
            on_step=norms.append,
            on_checkpoint=lambda *_: None,
        )
        return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}

    norms: list[StepMetrics] = []
    small, other = batch(0, rows=1), batch(1, rows=1)
    other["labels"][:, :20] = IGNORE  # an uneven number of labelled tokens: a mean of means would differ
    once([small, other], 2)
    once([{name: torch.cat([small[name], other[name]]) for name in small}], 1)
    assert norms[0].loss == pytest.approx(norms[1].loss, rel=1e-6)
    assert norms[0].grad_norm == pytest.approx(norms[1].grad_norm, rel=1e-5)


def test_learning_rate_warms_up_and_follows_a_cosine() -> None:
    settings = SftSettings(learning_rate=1.0e-3, warmup_fraction=0.1, final_lr_fraction=0.1)
    rates = [learning_rate_at(step, 100, settings) for step in range(100)]
    assert rates[0] == pytest.approx(1e-4) and rates[9] == rates[10] == pytest.approx(1e-3)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(1e-4 + 0.5 * 9e-4) and rates[-1] == pytest.approx(1e-4, rel=0.01)
    seven = settings.model_copy(update={"warmup_fraction": 7 / 100})
    assert learning_rate_at(6, 100, seven) == 1.0e-3, "7 / 100 * 100 is a little more than 7"


def test_steps_follow_from_rows_batch_and_workers() -> None:
    assert total_steps(1000, smoke().sft.model_copy(update={"max_steps": None, "epochs": 2})) == 1000 // 8 * 2
    assert total_steps(1000, smoke().sft) == 12
    assert total_steps(1000, smoke().sft.model_copy(update={"max_steps": None, "num_workers": 2})) == 1000 // 16


def test_a_diverging_loss_stops_with_the_setting_to_change(base: nn.Module) -> None:
    model = lora.attach(base, SETTINGS, seed=0)
    with torch.no_grad():
        next(p for p in model.parameters() if p.requires_grad).fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        source = epochs(data, SETTINGS, 2)
        train(model, source, SETTINGS, 2, device=CPU, on_step=lambda m: None, on_checkpoint=lambda *a: None)
