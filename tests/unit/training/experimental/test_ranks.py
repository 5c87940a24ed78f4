"""A nested adapter cut to a rank is what was trained under that rank."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel

from app.errors import UserError
from app.overrides import with_overrides
from app.profiles import smoke
from app.settings import SftSettings
from app.training import lora
from app.training.experimental.ranks import RankSwitch, attach_switch, truncate
from app.training.loss import CausalLMLoss, FusedLoss
from tests.unit.models.test_adapter_ranks import loaded, logits
from tests.unit.training.test_fused import CONFIGS, loss_and_gradients, tuned

NESTED = SftSettings(lora_r=4, lora_alpha=8, lora_dropout=0.0, nested_ranks=(1, 2, 4))


def switched(rank: int) -> tuple[PeftModel, RankSwitch]:
    """A model whose adapter of rank 4 works at another."""
    model = tuned(CONFIGS[0])
    switch = attach_switch(model, NESTED)
    assert switch is not None
    while switch.draw(seed := torch.seed()) != rank:
        assert seed
    return model, switch


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_a_cut_adapter_is_what_was_trained_under_its_rank(rank: int, tmp_path: Path) -> None:
    model, _ = switched(rank)
    masked = logits(model)
    lora.save(model, tmp_path / "whole")
    truncate(tmp_path / "whole", tmp_path / "cut", rank)
    cut = loaded(tmp_path / "cut")
    assert cut.peft_config["default"].r == rank
    assert torch.allclose(logits(cut), masked, atol=1e-5)


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_fused_layers_switch_ranks_as_plain_ones_do(rank: int) -> None:
    model, _ = switched(rank)
    expected, gradients = loss_and_gradients(model, CausalLMLoss(model, 64))
    total, found = loss_and_gradients(model, FusedLoss(model, 64))
    assert total == pytest.approx(expected, rel=1e-6)
    for name, gradient in gradients.items():
        assert (found[name] - gradient).norm() <= 2e-4 * gradient.norm() + 1e-7, name
        unused = found[name][rank:] if "lora_A" in name else found[name][:, rank:]
        assert not unused.any(), f"{name}: a rank that is left out learns nothing"


def test_a_step_s_ranks_depend_on_its_seed_alone_and_all_are_drawn() -> None:
    switch = RankSwitch(16, (2, 8, 16), 0.0, torch.device("cpu"))
    drawn = [switch.draw(seed) for seed in range(60)]
    assert drawn == [switch.draw(seed) for seed in range(60)] and set(drawn) == {2, 8, 16}
    switch.draw(drawn.index(16))
    assert torch.equal(switch.factors, torch.ones(16)), "at full rank the scale is that of the settings"
    switch.draw(drawn.index(2))
    assert switch.factors.tolist() == pytest.approx([8**0.5] * 2 + [0.0] * 14)


def test_rank_dropout_leaves_out_its_share_and_keeps_the_mean() -> None:
    switch = RankSwitch(64, (), 0.25, torch.device("cpu"))
    factors = []
    for seed in range(200):
        switch.draw(seed)
        factors.append(switch.factors.clone())
    held = torch.stack(factors)
    assert (held == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert held.mean().item() == pytest.approx(1.0, abs=0.03)


def test_training_without_nested_ranks_has_no_switch() -> None:
    assert attach_switch(tuned(CONFIGS[0]), SftSettings(lora_r=4)) is None


def test_ranks_that_the_adapter_has_not_are_refused(tmp_path: Path) -> None:
    model = tuned(CONFIGS[0])
    with pytest.raises(UserError, match="nested_ranks holds 8, which an adapter of lora_r = 4 has not"):
        with_overrides(smoke(), ["sft.lora_r=4", "sft.nested_ranks=[2,8]"])
    assert with_overrides(smoke(), ["sft.nested_ranks=[2,64]", "sft.lora_r=64"]).sft.nested_ranks == (2, 64)
    lora.save(model, tmp_path / "four")
    with pytest.raises(UserError, match="has rank 4, so it can't be cut to 5"):
        truncate(tmp_path / "four", tmp_path / "five", 5)
    assert not (tmp_path / "five").exists()
