"""A mean of adapters adds what they add on the average, as near as its rank allows, and nearer than mean factors."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from app.models.adapter_means import mean_adapter
from app.models.adapters import WEIGHTS
from app.training import lora
from tests.unit.models.test_adapter_ranks import effective
from tests.unit.training.test_fused import CONFIGS, tuned


def moved(model: PeftModel, folder: Path, count: int, step: float) -> list[Path]:
    """Checkpoints of a training whose every step changes each weight of the adapter by `step` of its size."""
    torch.manual_seed(1)
    made = []
    for number in range(count):
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data += step * parameter.data.std() * torch.randn_like(parameter)
        lora.save(model, folder / str(number))
        made.append(folder / str(number))
    return made


def off(adapter: Path, wanted: dict[str, torch.Tensor]) -> float:
    found = effective(adapter)
    distance = sum((found[name] - weight).square().sum() for name, weight in wanted.items())
    return float((distance / sum(weight.square().sum() for weight in wanted.values())).sqrt())


@pytest.mark.parametrize("step", [0.02, 0.3])
def test_a_mean_is_the_nearest_of_its_rank_and_says_how_far_off_it_is(step: float, tmp_path: Path) -> None:
    sources = moved(tuned(CONFIGS[0]), tmp_path, 3, step)
    each = [effective(source) for source in sources]
    wanted = {name: torch.stack([one[name] for one in each]).mean(0) for name in each[0]}
    told = mean_adapter(sources, tmp_path / "mean")
    assert off(tmp_path / "mean", wanted) == pytest.approx(told, abs=1e-5)
    (tmp_path / "factors").mkdir()
    for path in sources[0].iterdir():
        (tmp_path / "factors" / path.name).write_bytes(path.read_bytes())
    held = [load_file(source / WEIGHTS) for source in sources]
    factors = {name: torch.stack([tensors[name] for tensors in held]).mean(0) for name in held[0]}
    save_file(factors, tmp_path / "factors" / WEIGHTS, metadata={"format": "pt"})
    assert 0 < told < off(tmp_path / "factors", wanted)


def test_the_mean_of_one_thing_is_that_thing(tmp_path: Path) -> None:
    lora.save(tuned(CONFIGS[0]), tmp_path / "one")
    assert mean_adapter([tmp_path / "one"] * 3, tmp_path / "mean") < 1e-6
    assert off(tmp_path / "mean", effective(tmp_path / "one")) < 1e-5
