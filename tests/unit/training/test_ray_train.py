"""What a training on Ray Train goes on from after a kill or a power cut, without Ray."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from app.files.json_files import read_json
from app.models.adapters import CONFIG, WEIGHTS
from app.training.ray_train import BEGUN, TRAIN_RUN, salvage
from app.training.state import ADAPTER, MOMENTS, PROGRESS, Progress, is_whole

SNAPSHOT = "checkpoint_manager_snapshot.json"
NAMES = ("checkpoint_1", "checkpoint_2")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Ray Train's folder with two checkpoints, of steps 1 and 2, in its list."""
    run = tmp_path / TRAIN_RUN
    for step, name in enumerate(NAMES, 1):
        (run / name / ADAPTER).mkdir(parents=True)
        save_file({"a": torch.ones(64)}, run / name / ADAPTER / WEIGHTS)
        (run / name / ADAPTER / CONFIG).write_text("{}")
        save_file({"0.exp_avg": torch.ones(64)}, run / name / MOMENTS)
        (run / name / PROGRESS).write_text(json.dumps({"step": step}))
    (run / SNAPSHOT).write_text(json.dumps({"latest_checkpoint_result": {"checkpoint_dir_name": NAMES[-1]}}))
    return run


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_what_is_whole_is_left_to_ray(run: Path) -> None:
    salvage(run.parent)
    assert all(is_whole(run / name) for name in NAMES) and (run / SNAPSHOT).exists()
    assert not (run.parent / BEGUN).exists()


@pytest.mark.parametrize("name", [f"{ADAPTER}/{WEIGHTS}", f"{ADAPTER}/{CONFIG}", MOMENTS, PROGRESS])
@pytest.mark.parametrize("damage", [cut_off, lambda path: path.write_bytes(b""), Path.unlink])
def test_a_checkpoint_that_is_not_whole_gives_way_to_the_one_before(
    run: Path, name: str, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    if name.endswith(CONFIG) and damage is cut_off:
        (run / NAMES[-1] / name).write_text('{"r": 16}')
    damage(run / NAMES[-1] / name)
    salvage(run.parent)
    assert read_json(run.parent / BEGUN / PROGRESS)["step"] == 1 and not run.exists()
    assert "training goes on from checkpoint_1" in capsys.readouterr().err


def test_a_list_of_checkpoints_that_is_cut_off_costs_none_of_them(run: Path) -> None:
    cut_off(run / SNAPSHOT)
    salvage(run.parent)
    assert Progress(**read_json(run.parent / BEGUN / PROGRESS)).step == 2 and not run.exists()


def test_a_training_without_a_whole_checkpoint_starts_over_and_says_so(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in NAMES:
        cut_off(run / name / MOMENTS)
    salvage(run.parent)
    assert not run.exists() and not (run.parent / BEGUN).exists()
    assert "training starts over" in capsys.readouterr().err
