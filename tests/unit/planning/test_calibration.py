"""Speeds are measured as the profile trains and drafts, kept by what decides about them, and only where they hold."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from app.cli import main
from app.errors import UserError
from app.overrides import with_overrides
from app.planning import calibration
from app.planning.plan import inputs_of
from app.planning.training_choice import choice_of
from app.profiles import get_profile
from app.settings import Profile
from app.training.experimental import offload

pytestmark = pytest.mark.usefixtures("alone", "short")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("PASSES_A_STEP", 1), ("DRAFTED", 4), ("PROMPT", 32)):
        monkeypatch.setattr(calibration, name, value)


def calibrated(profile: Profile) -> list[str]:
    """Keys of what was measured of the training as it is set, and of drafting."""
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
    speed = calibration.training_speed(inputs.choice, inputs.shape, calibration.processor())
    assert speed and speed.is_measured and "measured on" in speed.how
    here = profile.model, profile.generation, calibration.processor()
    assert calibration.drafting_speed(*here, rows=profile.generation.batch_size)
    assert not calibration.drafting_speed(*here, rows=64), "so many rows a step are another speed"
    main(["plan", "--profile", "smoke", "--run", str(manifest), "--json"])
    assert json.loads(capsys.readouterr().out) == first
    assert not any("2 cores" in line for line in first["advice"])
    wider = with_overrides(profile, ["sft.lora_r=8"])
    other = choice_of(inputs.shape, wider.model, wider.sft, 128, False)
    assert calibration.training_speed(other, inputs.shape, calibration.processor()) is None


def test_a_card_that_is_not_here_can_not_be_calibrated(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["plan", "--profile", "rtx3070", "--run", str(manifest), "--calibrate"])
    assert "run --calibrate on the card" in capsys.readouterr().err


def test_offloaded_weights_are_calibrated_off_the_card_and_vllm_is_not_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    models, real = [], offload.offload

    def seen(model: PeftModel, device: torch.device) -> PeftModel:
        models.append(model)
        return real(model, device)

    monkeypatch.setattr(offload, "offload", seen)
    overrides = ("sft.offload=true", "generation.engine=vllm", "sft.micro_batch=1")
    keys = calibrated(with_overrides(get_profile("smoke"), overrides))
    assert len(keys) == 1 and "plain, offloaded" in keys[0]
    assert len(models) == 1 and all(linear.weight.is_meta for linear in offload.linears(models[0]))
    assert "drafting isn't measured for generation.engine=vllm" in "".join(capsys.readouterr())


def test_weights_cut_over_workers_are_not_calibrated_in_one_process() -> None:
    profile = with_overrides(get_profile("smoke"), ["sft.parallelism=fsdp", "sft.num_workers=2"])
    with pytest.raises(UserError, match="leave --calibrate out, or take sft.parallelism=ddp"):
        calibrated(profile)


def test_a_speed_with_smaller_pieces_than_asked_for_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def short_of_memory() -> None:
        raise torch.OutOfMemoryError

    with calibration._no_oom("it", "sft.micro_batch", "a card"):
        pass
    with (
        pytest.raises(UserError, match="it runs out of memory on a card: .* lower sft.micro_batch"),
        calibration._no_oom("it", "sft.micro_batch", "a card"),
    ):
        short_of_memory()
    times = iter((0, 1))  # the training went on with half the rows
    monkeypatch.setattr(calibration, "_times_out_of_memory", lambda: next(times))
    with pytest.raises(UserError, match="runs out of memory"), calibration._no_oom("it", "sft.micro_batch", "a card"):
        pass


def test_what_runs_without_the_card_is_looked_up_under_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.planning.plan.present_card", lambda: ("NVIDIA GeForce RTX 3070", 8.0))
    inputs = inputs_of(with_overrides(get_profile("smoke"), ["generation.use_gpu=true"]), None)
    assert inputs.device_of(inputs.profile.generation.use_gpu) == "NVIDIA GeForce RTX 3070"
    assert inputs.device_of(inputs.profile.sft.use_gpu) == calibration.processor()
