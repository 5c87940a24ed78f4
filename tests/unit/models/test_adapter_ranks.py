"""An adapter cut by singular values is the nearest of its rank; a grown one does what it did."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from app.errors import UserError
from app.models.adapter_ranks import grow, svd_truncate
from app.models.adapters import CONFIG, WEIGHTS
from app.training import lora
from tests.unit.training.test_fused import CONFIGS, packed_rows, tuned


def logits(model: torch.nn.Module) -> torch.Tensor:
    batch = packed_rows()
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"]).logits
    return found


def loaded(folder: Path) -> PeftModel:
    """A fresh base model with the adapter of a folder."""
    torch.manual_seed(0)
    base = tuned(CONFIGS[0]).unload()
    return PeftModel.from_pretrained(base, folder)


def effective(folder: Path) -> dict[str, torch.Tensor]:
    """What an adapter adds to each weight, scale and all: [out, in]."""
    layers = {name: layer for name, layer in loaded(folder).named_modules() if hasattr(layer, "lora_A")}
    return {name: layer.get_delta_weight("default").detach() for name, layer in layers.items()}


@pytest.mark.parametrize("rank", [4, 5, 16])
def test_a_grown_adapter_does_what_it_did(rank: int, tmp_path: Path) -> None:
    model = tuned(CONFIGS[0])
    lora.save(model, tmp_path / "small")
    grow(tmp_path / "small", tmp_path / "grown", rank)
    grown = loaded(tmp_path / "grown")
    assert grown.peft_config["default"].r == rank
    assert (logits(grown) - logits(model)).abs().max() <= 1e-5
    if rank > 4:
        new = next(p for name, p in grown.named_parameters() if "lora_A" in name)[4:]
        assert new.abs().max() > 0, "new ranks that are all zero could never learn"


def test_a_cut_by_singular_values_is_the_nearest_of_its_rank(tmp_path: Path) -> None:
    lora.save(tuned(CONFIGS[0]), tmp_path / "whole")
    whole = effective(tmp_path / "whole")
    errors = []
    for rank in (1, 2, 3, 4):
        svd_truncate(tmp_path / "whole", tmp_path / f"{rank}", rank)
        cut = effective(tmp_path / f"{rank}")
        errors.append({name: (cut[name] - weight).norm().item() for name, weight in whole.items()})
        for name, weight in whole.items():
            left_out = torch.linalg.svdvals(weight)[rank:]
            assert errors[-1][name] == pytest.approx(left_out.norm().item(), abs=1e-5), name
    for before, after in zip(errors, errors[1:], strict=False):
        assert all(after[name] < before[name] for name in whole)


@pytest.mark.parametrize("rank", [2, 6])
def test_an_adapter_that_keeps_its_scale_is_the_one_that_keeps_its_alpha(rank: int, tmp_path: Path) -> None:
    lora.save(tuned(CONFIGS[0]), tmp_path / "four")  # lora_alpha 8
    change = svd_truncate if rank < 4 else grow
    for is_same, alpha in ((True, 2 * rank), (False, 8)):
        change(tmp_path / "four", tmp_path / f"{is_same}", rank, same_scale=is_same)
        assert json.loads((tmp_path / f"{is_same}" / CONFIG).read_text())["lora_alpha"] == alpha
    one, other = effective(tmp_path / "True"), effective(tmp_path / "False")
    assert all(torch.allclose(one[name], weight, atol=1e-6) for name, weight in other.items())


def test_each_rank_of_a_cut_adapter_can_be_trained_on(tmp_path: Path) -> None:
    """Rows of A are as long as before, whatever the singular value."""
    lora.save(tuned(CONFIGS[0]), tmp_path / "four")
    svd_truncate(tmp_path / "four", tmp_path / "two", 2)
    before, after = (load_file(tmp_path / name / WEIGHTS) for name in ("four", "two"))
    for name in (name for name in before if "lora_A" in name):
        length = before[name].square().sum(1).mean().sqrt().item()
        assert after[name].norm(dim=1).tolist() == pytest.approx([length] * 2, rel=1e-4)


def test_a_cut_to_more_ranks_than_a_layer_is_wide_changes_nothing(tmp_path: Path) -> None:
    lora.save(tuned(CONFIGS[0]), tmp_path / "small")
    grow(tmp_path / "small", tmp_path / "wide", 128)
    svd_truncate(tmp_path / "wide", tmp_path / "cut", 100)  # layers are 32 to 96 wide
    small, cut = effective(tmp_path / "small"), effective(tmp_path / "cut")
    assert all(torch.allclose(cut[name], weight, atol=1e-5) for name, weight in small.items())


def test_what_can_not_be_cut_or_grown_is_refused(tmp_path: Path) -> None:
    lora.save(tuned(CONFIGS[0]), tmp_path / "four")
    config = json.loads((tmp_path / "four" / CONFIG).read_text())
    with pytest.raises(UserError, match="has rank 4, so it can't be cut to 5"):
        svd_truncate(tmp_path / "four", tmp_path / "new", 5)
    for rank in (2, 257):
        with pytest.raises(UserError, match=f"has rank 4, so it can't grow to {rank}: 256 at most"):
            grow(tmp_path / "four", tmp_path / "new", rank)
    with pytest.raises(UserError, match="no PEFT folder"):
        grow(tmp_path, tmp_path / "new", 8)
    for changes, words in (({"use_rslora": True}, "scales of its own"), ({"r": 8}, "has not the rank 8")):
        (tmp_path / "four" / CONFIG).write_text(json.dumps(config | changes))
        with pytest.raises(UserError, match=words):
            svd_truncate(tmp_path / "four", tmp_path / "new", 2)
    assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".*"))


def test_an_adapter_of_embeddings_is_refused(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    base = tuned(CONFIGS[0]).unload()
    get_peft_model(base, LoraConfig(r=4, target_modules=["embed_tokens", "q_proj"])).save_pretrained(tmp_path / "both")
    with pytest.raises(UserError, match="more than LoRA of linear layers in .*embed_tokens"):
        svd_truncate(tmp_path / "both", tmp_path / "new", 2)
