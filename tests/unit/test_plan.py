"""The pipeline's plan: made without weights, within the limits or saying what is not, and with what was measured."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app import calibration, model_config
from app.cards import CONTEXT_GIB
from app.cli import main
from app.errors import UserError
from app.overrides import with_overrides
from app.plan import MAX_RAM_GIB, PHASES, Inputs, inputs_of
from app.plan_advice import advice, best_choice, too_much, total_days
from app.plan_text import as_json, as_text
from app.profiles import get_profile
from app.training.choice import as_set, choices, why_plain
from app.training.memory import plain_step_memory, shape_of
from app.units import GIB
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network, no card, an empty cache."""
    monkeypatch.setenv("POCKETCODER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("app.plan.present_card", lambda: None)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A run with a corpus of 10,000 rows of 2,048."""
    run = tmp_path / "run"
    (run / "corpus").mkdir(parents=True)
    held = {"rows": 10_000, "tokens": 20_000_000, "fill": 0.98, "settings": {"seq_len": 2048}}
    (run / "corpus/manifest.json").write_text(json.dumps(held))
    return run


def planned(name: str, run: Path | None, *overrides: str) -> tuple[Inputs, dict[str, Any]]:
    inputs = inputs_of(with_overrides(get_profile(name), overrides), run)
    return inputs, as_json(inputs, [phase(inputs) for phase in PHASES])


def test_the_json_has_every_phase_with_its_numbers_and_nothing_else(manifest: Path) -> None:
    _, plan = planned("rtx3070", manifest)
    assert list(plan) == ["profile", "phases", "total_days", "fits", "advice"]
    assert [phase["name"] for phase in plan["phases"]] == ["pull", "corpus", "sft", "evaluate", "serve"]
    for phase in plan["phases"]:
        assert set(phase) == {"name", "peak_vram_gib", "peak_ram_gib", "disk_gib", "hours", "detail"}
        assert phase["peak_vram_gib"] == pytest.approx(sum(phase["detail"].values()), abs=0.01)
    assert json.loads(json.dumps(plan)) == plan


def test_the_reference_fits_its_card_its_memory_and_its_days(manifest: Path) -> None:
    inputs, plan = planned("rtx3070", manifest)
    assert plan["fits"] and plan["total_days"] <= 7
    assert all(0 <= phase["peak_vram_gib"] <= 8 and phase["peak_ram_gib"] <= MAX_RAM_GIB for phase in plan["phases"])
    assert inputs.card and inputs.card.name == "RTX 3070"
    assert any("a projection" in line and "--calibrate" in line for line in plan["advice"])
    assert any("published shape" in line for line in plan["advice"])


def test_the_advised_settings_are_accepted_fit_and_are_as_fast_as_said(manifest: Path) -> None:
    _, before = planned("rtx3070", manifest)
    (line,) = [line for line in before["advice"] if line.startswith("fastest training")]
    options = [word for word in line.partition(" (")[0].split() if "=" in word]
    inputs, after = planned("rtx3070", manifest, *options)
    sft = {name: next(p for p in plan["phases"] if p["name"] == "sft") for name, plan in (("a", after), ("b", before))}
    assert after["fits"] and sft["a"]["hours"] < sft["b"]["hours"]
    assert sft["a"]["peak_vram_gib"] <= inputs.profile.sft.vram_gib + CONTEXT_GIB + 0.001
    assert not any(line.startswith("fastest training that fits: --set") for line in after["advice"])


def test_the_chosen_micro_batch_is_under_the_cap_and_a_larger_one_passes_it_or_is_no_faster(manifest: Path) -> None:
    from app.plan import training_speed

    for cap in (2.8, 4.0, 5.5, 7.0):
        inputs, _ = planned("rtx3070", manifest, f"sft.vram_gib={cap}")
        best = best_choice(inputs)
        assert best and best.memory.total <= cap * GIB
        assert best.sft.micro_batch * best.sft.grad_accumulation == 16, "the effective batch stays"
        speed = training_speed(best, inputs).tokens_per_s
        for other in choices(inputs.shape, inputs.profile, can_fuse=True):
            assert not other.fits or training_speed(other, inputs).tokens_per_s <= speed


def test_what_does_not_fit_is_said_with_what_to_change(manifest: Path) -> None:
    _, plan = planned("rtx3070", manifest, "sft.epochs=90")
    assert not plan["fits"] and any("more than 7" in line and "--set sft.epochs=" in line for line in plan["advice"])
    _, plan = planned("rtx3070", manifest, "sft.vram_gib=2.2")
    assert not plan["fits"] and any("--set corpus.seq_len=" in line for line in plan["advice"])
    big = ("generation.batch_size=256", "generation.kv_cache_bytes=8000000000")
    _, plan = planned("rtx3070", manifest, *big)
    (line,) = [line for line in plan["advice"] if line.startswith("evaluate takes")]
    _, mended = planned("rtx3070", manifest, *big, *(word for word in line.split() if word.startswith("generation.")))
    assert not plan["fits"] and mended["fits"]


def test_a_corpus_that_is_built_is_planned_by_its_manifest(manifest: Path) -> None:
    inputs, plan = planned("rtx3070", manifest)
    assert inputs.corpus and inputs.corpus.rows == 10_000
    phases = {phase["name"]: phase for phase in plan["phases"]}
    assert phases["corpus"]["hours"] == 0
    tokens = 10_000 * 2048
    speed = calibration_free_speed(inputs)
    assert phases["sft"]["hours"] == pytest.approx(tokens / speed / 3600 + 50 / 3600, rel=0.001)
    with pytest.raises(UserError, match="has no complete corpus"):
        inputs_of(get_profile("rtx3070"), manifest / "corpus")


def calibration_free_speed(inputs: Inputs) -> float:
    from app.plan import training_speed

    speed = training_speed(inputs.choice, inputs)
    assert not speed.is_measured
    return speed.tokens_per_s


def test_a_corpus_to_come_is_told_in_bounds_by_its_files() -> None:
    inputs, plan = planned("laptop", None)
    assert inputs.corpus and 300 < inputs.corpus.rows < 2_000, "766 rows were built of 1,500 files"
    assert all(phase["peak_vram_gib"] == 0 for phase in plan["phases"]) and plan["fits"]
    assert 0.003 < plan["total_days"] < 0.03, "it takes a quarter of an hour"
    assert any("2 cores" in line for line in plan["advice"])


def test_an_unreachable_model_gives_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["plan", "--profile", "rtx3070", "--set", "model.name=somebody/unknown-1b", "--json"])
    said = capsys.readouterr()
    assert ended.value.code == 2 and said.out == ""
    assert len(said.err.strip().splitlines()) == 1
    assert "'somebody/unknown-1b'" in said.err and "model.source=path" in said.err


def test_a_model_of_another_kind_is_refused_by_name(tmp_path: Path, manifest: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(UserError, match="Llama-like"):
        planned("rtx3070", manifest, "model.source=path", f"model.name={tmp_path}")


def test_no_weights_are_needed_for_a_plan(manifest: Path, tmp_path: Path) -> None:
    planned("rtx3070", manifest)
    planned("laptop", manifest)
    assert not list(tmp_path.rglob("*.safetensors"))
    shape = {"vocab_size": 151936, "hidden_size": 2048, "num_hidden_layers": 28}
    assert shape.items() <= model_config.QWEN3_1_7B.items()


def test_the_table_ends_with_whether_it_fits(manifest: Path) -> None:
    for overrides, word in (((), "fits: "), (("sft.epochs=90",), "does not fit: ")):
        inputs = inputs_of(with_overrides(get_profile("rtx3070"), overrides), manifest)
        phases = [phase(inputs) for phase in PHASES]
        assert as_text(inputs, phases).splitlines()[-1].startswith(word)
        assert bool(too_much(inputs, phases)) == (total_days(phases) > 7)
        assert all(line in as_text(inputs, phases) for line in advice(inputs, phases))


@pytest.mark.parametrize(
    ("quantization", "micro_batch", "reserved_gib"),
    [("nf4", 1, 4.63), ("nf4", 2, 5.42), ("nf4", 4, 7.41), ("none", 1, 6.06), ("none", 2, 6.51)],
)
def test_memory_of_plain_layers_is_on_the_safe_side(quantization: str, micro_batch: int, reserved_gib: float) -> None:
    """Measured on an H200 (docs/LOG.md), when PEFT still made a 4-bit base's embeddings float32."""
    overrides = (f"model.quantization={quantization}", f"sft.micro_batch={micro_batch}")
    profile = with_overrides(get_profile("rtx3070"), overrides)
    shape = shape_of(model_config.config_of(profile.model)[0])
    total = plain_step_memory(shape, profile.model, profile.sft, 2048).total / GIB
    if quantization == "nf4":
        total += 1.1 * shape.vocabulary * shape.width * 2 / GIB
    assert reserved_gib <= total <= 1.15 * reserved_gib


def test_a_calibration_is_stored_and_used_from_then_on(
    manifest: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("PASSES_A_STEP", 1), ("DRAFTED", 4), ("PROMPT", 32)):
        monkeypatch.setattr(calibration, name, value)
    main(["plan", "--profile", "smoke", "--run", str(manifest), "--calibrate", "--json"])
    first = json.loads(capsys.readouterr().out)
    assert (calibration.cache_root() / "calibration.json").exists()
    profile = get_profile("smoke")
    inputs = inputs_of(profile, manifest)
    speed = calibration.training_speed(inputs.choice, inputs.shape, calibration.processor())
    assert speed and speed.is_measured and "measured on" in speed.how
    assert calibration.drafting_speed(profile.model, profile.generation, calibration.processor())
    main(["plan", "--profile", "smoke", "--run", str(manifest), "--json"])
    assert json.loads(capsys.readouterr().out) == first
    assert not any("2 cores" in line for line in first["advice"])
    other = as_set(inputs.shape, with_overrides(profile, ["sft.lora_r=8"]), False)
    assert calibration.training_speed(other, inputs.shape, calibration.processor()) is None


def test_a_card_that_is_not_here_can_not_be_calibrated(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["plan", "--profile", "rtx3070", "--run", str(manifest), "--calibrate"])
    assert "run --calibrate on the card" in capsys.readouterr().err


def test_the_planner_loads_ray_and_torch_only_when_asked() -> None:
    code = "import sys, app.plan_text; print({'ray', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_weights_that_move_are_never_advised_to_be_packed(manifest: Path) -> None:
    for moves in ("sft.offload=true", "sft.parallelism=fsdp"):
        inputs, plan = planned("rtx3070", manifest, "model.quantization=none", moves)
        assert {choice.model.quantization for choice in choices(inputs.shape, inputs.profile, False)} == {"none"}
        (line,) = [line for line in plan["advice"] if "fastest" in line]
        options = [word for word in line.partition(" (")[0].split() if "=" in word]
        with_overrides(inputs.profile, options)


def test_the_planner_and_the_training_give_one_reason_for_plain_layers() -> None:
    from app.training import fused

    model = model_config.config_of(get_profile("smoke").model)[0]
    profile = get_profile("smoke")
    for changes in ({"offload": True}, {"parallelism": "fsdp"}):
        sft = profile.sft.model_copy(update=changes)
        assert why_plain(model, profile.model, sft) == fused.why_plain(None, sft) != ""
    assert not why_plain(model, profile.model, profile.sft)
    model.model_type = "granite"
    assert "granite" in why_plain(model, profile.model, profile.sft)
