"""Speeds are measured as the profile trains, kept by what decides about them, and only where they hold."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from app.cli import main
from app.errors import UserError
from app.overrides import with_overrides
from app.planning import calibration
from app.planning.inputs import inputs_of, training_speed
from app.planning.plan import sft
from app.planning.training_choice import Choice, choice_of
from app.profiles import get_profile
from app.settings import Profile
from app.training.experimental import offload
from app.training.memory import Shape

pytestmark = pytest.mark.usefixtures("alone", "short")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "PASSES_A_STEP", 1)


def calibrated(profile: Profile) -> list[str]:
    """Keys of what was measured of the training as it is set."""
    inputs = inputs_of(profile, None)
    calibration.calibrate(profile, inputs.config, inputs.shape, [inputs.choice])
    return list(json.loads((calibration.cache_root() / "calibration.json").read_text()))


def test_a_calibration_is_stored_and_used_from_then_on(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = manifest / "corpus/manifest.json"
    path.write_text(path.read_text().replace("2048", "128"))
    main(["plan", "--profile", "smoke", "--run", str(manifest), "--calibrate", "--json"])
    first = json.loads(capsys.readouterr().out)
    assert (calibration.cache_root() / "calibration.json").exists()
    profile = get_profile("smoke")
    inputs = inputs_of(profile, manifest)
    speed = calibration.measured_speed(inputs.shape, inputs.choice, calibration.processor())
    assert speed and training_speed(inputs.choice, inputs) == (speed, True)
    assert f"{speed:,.0f} a second, measured" in sft(inputs).how
    main(["plan", "--profile", "smoke", "--run", str(manifest), "--json"])
    assert json.loads(capsys.readouterr().out) == first
    assert not any("a projection" in line for line in first["advice"])
    wider = choice_of(inputs.shape, inputs.config, profile, ("sft.lora_r=8",))
    assert calibration.measured_speed(inputs.shape, wider, calibration.processor()) is None
    fewer = choice_of(inputs.shape, inputs.config, profile, ("sft.micro_batch=2",))
    assert calibration.measured_speed(inputs.shape, fewer, calibration.processor()) == speed, "other rows at once"


def test_a_card_that_is_not_here_can_not_be_calibrated(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["plan", "--profile", "rtx3070", "--run", str(manifest), "--calibrate"])
    assert "run --calibrate on the card" in capsys.readouterr().err


def test_offloaded_weights_are_calibrated_off_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    models, real = [], offload.offload

    def seen(model: PeftModel, device: torch.device) -> PeftModel:
        models.append(model)
        return real(model, device)

    monkeypatch.setattr(offload, "offload", seen)
    overrides = ("sft.offload=true", "sft.micro_batch=1")
    keys = calibrated(with_overrides(get_profile("smoke"), overrides))
    assert len(keys) == 1 and "plain, offloaded" in keys[0]
    assert len(models) == 1 and all(linear.weight.is_meta for linear in offload.linears(models[0]))


def test_weights_cut_over_workers_are_not_calibrated_in_one_process() -> None:
    profile = with_overrides(get_profile("smoke"), ["sft.parallelism=fsdp", "sft.num_workers=2"])
    with pytest.raises(UserError, match="leave --calibrate out, or take sft.parallelism=ddp"):
        calibrated(profile)


def test_a_speed_with_smaller_pieces_than_asked_for_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def short_of_memory(*_: object) -> float:
        raise torch.OutOfMemoryError

    inputs = inputs_of(get_profile("smoke"), None)
    given = inputs.profile, inputs.config, inputs.shape, [inputs.choice]
    with monkeypatch.context() as without_memory:
        without_memory.setattr(calibration, "_train", short_of_memory)
        with pytest.raises(UserError, match=r"runs out of memory on .* lower sft\.micro_batch"):
            calibration.calibrate(*given)
    monkeypatch.setattr(calibration, "_times_out_of_memory", lambda: 1)  # the training went on with half the rows
    with pytest.raises(UserError, match="runs out of memory"):
        calibration.calibrate(*given)
    assert not (calibration.cache_root() / "calibration.json").exists()


def test_what_runs_without_the_card_is_looked_up_under_the_processor(
    manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def measured(shape: Shape, choice: Choice, device: str) -> float:
        asked.append(device)
        return 1.0

    monkeypatch.setattr("app.planning.inputs.measured_speed", measured)
    monkeypatch.setattr("app.planning.inputs.present_card", lambda: ("NVIDIA GeForce RTX 3070", 8.0))
    for uses_card in ("sft.use_gpu=true", "generation.use_gpu=true"):
        inputs = inputs_of(with_overrides(get_profile("smoke"), [uses_card, "corpus.seq_len=2048"]), manifest)
        training_speed(inputs.choice, inputs)
    assert asked == ["NVIDIA GeForce RTX 3070", calibration.processor()]
