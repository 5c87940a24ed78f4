"""The pipeline's plan: made without weights, within the limits or saying what is not, and with what was measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli import main
from app.errors import UserError
from app.models import config as model_config
from app.models.sizes import GIB
from app.overrides import with_overrides
from app.planning.advice import advice, best_choices, too_much, total_days
from app.planning.inputs import MAX_RAM_GIB, Inputs, inputs_of, training_speed
from app.planning.plan import PHASES
from app.planning.text import as_text
from app.planning.training_choice import choices, goes_fused
from app.profiles import get_profile
from app.training.memory import plain_step_memory, shape_of
from tests.conftest import ROOT
from tests.planning import planned
from tests.unit.models import gguf_files

pytestmark = pytest.mark.usefixtures("alone")


def test_the_json_has_every_phase_with_its_numbers_and_nothing_else(manifest: Path) -> None:
    _, plan = planned("rtx3070", manifest)
    assert list(plan) == ["profile", "phases", "total_days", "fits", "advice"]
    assert [phase["name"] for phase in plan["phases"]] == [
        "pull",
        "corpus",
        "sft",
        "grm",
        "evolve",
        "validate",
        "evaluate",
        "serve",
    ]
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


def test_the_chosen_micro_batch_is_under_the_cap_and_a_larger_one_passes_it_or_is_no_faster(manifest: Path) -> None:
    for cap in (2.8, 4.0, 5.5, 7.0):
        inputs, _ = planned("rtx3070", manifest, f"sft.vram_gib={cap}")
        best = best_choices(inputs)[0]
        assert best.memory.total <= cap * GIB
        assert best.profile.sft.micro_batch * best.profile.sft.grad_accumulation == 16, "the effective batch stays"
        speed = training_speed(best, inputs)
        for other in choices(inputs.shape, inputs.config, inputs.profile, 2048, cap):
            assert not other.fits or training_speed(other, inputs) <= speed


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


def test_a_corpus_of_other_rows_or_without_its_end_is_refused_in_one_sentence(manifest: Path) -> None:
    with pytest.raises(UserError, match=r"rows of 2048 tokens .* asks for 1024: --set corpus.seq_len=2048, or leave"):
        planned("rtx3070", manifest, "corpus.seq_len=1024")
    path = manifest / "corpus/manifest.json"
    for held in (path.read_text()[:-20], '{"rows": 10}', "[]", ""):
        path.write_text(held)
        with pytest.raises(UserError, match="cut off or incomplete .* leave --run out"):
            planned("rtx3070", manifest)


def test_a_corpus_smaller_than_a_step_does_not_fit(manifest: Path) -> None:
    path = manifest / "corpus/manifest.json"
    path.write_text(path.read_text().replace("10000", "15"))
    _, plan = planned("rtx3070", manifest)
    assert not plan["fits"]
    assert any("has 15 rows, fewer than one step takes" in line for line in plan["advice"])


def calibration_free_speed(inputs: Inputs) -> float:
    speed, is_measured = training_speed(inputs.choice, inputs)
    assert not is_measured
    return speed


def test_a_corpus_to_come_is_told_in_bounds_by_its_files() -> None:
    inputs, plan = planned("laptop", None)
    assert inputs.corpus and 300 < inputs.corpus.rows < 2_000, "766 rows were built of 1,500 files"
    assert all(phase["peak_vram_gib"] == 0 for phase in plan["phases"]) and plan["fits"]
    assert 0.003 < plan["total_days"] < 0.05, "it takes some twenty minutes"
    assert any("a projection" in line for line in plan["advice"])


def test_a_corpus_of_tables_is_unknown_and_the_steps_that_the_days_hold_are_said(tmp_path: Path) -> None:
    columns = {"content": "text", "path": "path", "licence": "licence", "repository": "repo"}
    sources = [
        {"kind": "jsonl", "path": str(tmp_path / "none.jsonl"), "columns": columns},
        {"kind": "standard_library"},
    ]
    (tmp_path / "r.yaml").write_text(json.dumps({"name": "tables", "sources": sources}))
    inputs, plan = planned("rtx3070", None, f"corpus.recipe={tmp_path / 'r.yaml'}")
    assert inputs.corpus is None and plan["fits"]
    assert any("days hold" in line and "--set sft.max_steps=" in line for line in plan["advice"])


def test_training_as_it_is_set_is_the_same_way_as_the_one_found(manifest: Path) -> None:
    inputs, plan = planned("workstation", manifest)
    assert best_choices(inputs)[0] == inputs.choice
    assert any(line.startswith("training as it is set is the fastest") for line in plan["advice"])


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
    planned("laptop", manifest, "corpus.seq_len=2048")
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
    """Measured on an H200 (docs/log), when PEFT still made a 4-bit base's embeddings float32."""
    overrides = (f"model.quantization={quantization}", f"sft.micro_batch={micro_batch}")
    profile = with_overrides(get_profile("rtx3070"), overrides)
    shape = shape_of(model_config.config_of(profile.model)[0])
    total = plain_step_memory(shape, profile.model, profile.sft, 2048).total / GIB
    if quantization == "nf4":
        total += 1.1 * shape.vocabulary * shape.width * 2 / GIB
    assert reserved_gib <= total <= 1.15 * reserved_gib


def test_the_planner_loads_ray_and_torch_only_when_asked() -> None:
    code = "import sys, app.planning.text; print({'ray', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_planner_and_the_training_agree_on_which_layers_are_plain() -> None:
    from transformers import AutoModelForCausalLM

    from app.training import fused, lora

    model = model_config.config_of(get_profile("smoke").model)[0]
    profile = get_profile("smoke")
    for changes in ({"offload": True}, {"parallelism": "fsdp"}):
        sft = profile.sft.model_copy(update=changes)
        assert fused.why_plain(None, sft) and not goes_fused(model, profile.model, sft)
    fitted = lora.attach(AutoModelForCausalLM.from_config(model), profile.sft, 0)
    assert not fused.why_plain(fitted, profile.sft) and goes_fused(model, profile.model, profile.sft)
    dropping = profile.sft.model_copy(update={"lora_dropout": 0.1})
    dropped = lora.attach(AutoModelForCausalLM.from_config(model), dropping, 0)
    assert fused.why_plain(dropped, dropping) and not goes_fused(model, profile.model, dropping)
    model.model_type = "granite"
    assert not goes_fused(model, profile.model, profile.sft)


def test_weights_in_a_folder_are_not_fetched_and_the_hubs_are_16_bit(manifest: Path, tmp_path: Path) -> None:
    sizes = [
        planned("rtx3070", manifest, *o)[1]["phases"][0]["disk_gib"]
        for o in ((), ("model.quantization=none", "model.dtype=float32"))
    ]
    assert sizes[0] == sizes[1] > 3
    config, _ = model_config.config_of(get_profile("smoke").model)
    config.save_pretrained(tmp_path / "model")
    inputs, plan = planned("rtx3070", manifest, "model.source=path", f"model.name={tmp_path / 'model'}")
    assert plan["phases"][0]["disk_gib"] == plan["phases"][0]["hours"] == 0
    assert "nothing is fetched" in PHASES[0](inputs).how


def test_what_a_gguf_becomes_is_planned_by_its_header_in_the_dtype_that_it_is_stored_in(tmp_path: Path) -> None:
    path = gguf_files.write(tmp_path / "m.gguf", gguf_files.model("qwen2"))
    model = ("model.source=gguf", f"model.name={path}")
    whole, half = (planned("laptop", None, *model, f"model.dtype={dtype}")[0] for dtype in ("float32", "bfloat16"))
    assert PHASES[0](whole).disk_gib == 2 * PHASES[0](half).disk_gib > 0
    assert PHASES[0](half).how == "unpacked from a GGUF"


def test_a_plan_without_a_card_has_no_columns_for_one_and_workers_are_said() -> None:
    inputs, _ = planned("laptop", None, "sft.num_workers=2")
    text = as_text(inputs, [phase(inputs) for phase in PHASES])
    assert "VRAM" not in text and " x 2 workers" in text and "fused layers" in text
