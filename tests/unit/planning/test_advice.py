"""What a plan advises is accepted by the settings, and mends what it says does not fit."""

from pathlib import Path

import pytest

from app.overrides import with_overrides
from app.planning.plan import PHASES
from app.planning.text import as_text
from app.planning.training_choice import choices
from app.training.memory import CONTEXT_GIB
from tests.planning import planned

pytestmark = pytest.mark.usefixtures("alone")


def test_what_does_not_fit_is_said_with_what_to_change(manifest: Path) -> None:
    _, plan = planned("rtx3070", manifest, "sft.epochs=90")
    assert not plan["fits"] and any("more than 7" in line and "--set sft.max_steps=" in line for line in plan["advice"])
    _, plan = planned("rtx3070", manifest, "sft.vram_gib=2.2")
    assert not plan["fits"] and any("--set corpus.seq_len=" in line for line in plan["advice"])
    big = ("generation.engine=transformers", "generation.batch_size=256", "generation.kv_cache_bytes=8000000000")
    _, plan = planned("rtx3070", manifest, *big)
    lines = [line for phase in ("evaluate", "grm") for line in plan["advice"] if line.startswith(f"{phase} takes")]
    mends = [word for line in lines for word in line.split() if word.startswith("generation.")]
    assert len(mends) == 2, (
        "self-reward's trainer keeps its weights beside the engine, so it leaves less than evaluation"
    )
    _, mended = planned("rtx3070", manifest, *big, *mends)
    assert not plan["fits"] and mended["fits"]


def test_the_advised_settings_are_accepted_fit_and_are_as_fast_as_said(manifest: Path) -> None:
    _, with_reward = planned("rtx3070", manifest)
    assert any("is the fastest that fits and leaves self-reward room" in line for line in with_reward["advice"])
    never = "grm.when=never", "evolve.when=never"
    _, before = planned("rtx3070", manifest, *never)
    (line,) = [line for line in before["advice"] if line.startswith("fastest training")]
    options = [word for word in line.partition(" (")[0].split() if "=" in word]
    inputs, after = planned("rtx3070", manifest, *never, *options)
    sft = {name: next(p for p in plan["phases"] if p["name"] == "sft") for name, plan in (("a", after), ("b", before))}
    assert after["fits"] and sft["a"]["hours"] < sft["b"]["hours"]
    assert sft["a"]["peak_vram_gib"] <= inputs.profile.sft.vram_gib + CONTEXT_GIB + 0.001
    assert not any(line.startswith("fastest training that fits: --set") for line in after["advice"])


def test_weights_that_move_are_never_advised_to_be_packed(manifest: Path) -> None:
    for moves in ("sft.offload=true", "sft.parallelism=fsdp"):
        inputs, plan = planned("rtx3070", manifest, "model.quantization=none", moves)
        tried = choices(inputs.shape, inputs.config, inputs.profile, 2048, 7.0)
        assert {choice.profile.model.quantization for choice in tried} == {"none"}
        (line,) = [line for line in plan["advice"] if "fastest" in line]
        options = [word for word in line.partition(" (")[0].split() if "=" in word]
        with_overrides(inputs.profile, options)


def with_card(monkeypatch: pytest.MonkeyPatch, name: str, gib: float) -> None:
    monkeypatch.setattr("app.planning.inputs.present_card", lambda: (name, gib))


def test_a_card_with_less_memory_than_the_profile_is_made_for_bounds_the_plan(
    manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_card(monkeypatch, "NVIDIA GeForce RTX 3060", 6.0)
    _, plan = planned("rtx3070", manifest)
    assert not plan["fits"] and any("more than 6" in line for line in plan["advice"])
    (line,) = [line for line in plan["advice"] if line.startswith("fastest")]
    assert "sft.vram_gib=5" in line and "instead of" not in line
    assert not any("days hold" in line for line in plan["advice"])
    mends = (line, *(line for line in plan["advice"] if line.startswith(("serve takes", "evaluate takes"))))
    words = [word for mend in mends for word in mend.split(" (")[0].split() if "=" in word]
    _, mended = planned("rtx3070", manifest, *words)
    assert not mended["fits"] and mended["advice"][1].startswith("grm: "), "there is no room for it here"
    _, mended = planned("rtx3070", manifest, *words, "grm.when=never")
    assert not mended["fits"] and mended["advice"][1].startswith("evolve: "), "nor for evolution"
    inputs, mended = planned("rtx3070", manifest, *words, "grm.when=never", "evolve.when=never")
    assert mended["fits"]
    text = as_text(inputs, [phase(inputs) for phase in PHASES])
    assert text.splitlines()[0].endswith(" on NVIDIA GeForce RTX 3060") and "fits: 6 GiB of the card" in text


def test_a_laptops_card_is_named_and_said_to_be_planned_as_another(
    manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_card(monkeypatch, "NVIDIA GeForce RTX 3070 Laptop GPU", 8.0)
    inputs, plan = planned("rtx3070", manifest)
    assert any("Laptop GPU, which is in no table here" in line for line in plan["advice"])
    text = as_text(inputs, [phase(inputs) for phase in PHASES])
    assert text.splitlines()[0].endswith(" on NVIDIA GeForce RTX 3070 Laptop GPU")


def test_vllms_share_of_the_card_is_what_is_advised_where_it_takes_too_much(
    manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_card(monkeypatch, "NVIDIA H100 80GB HBM3", 79.6)
    large = "generation.vram_gib=12"
    _, plan = planned("rtx3070", manifest, large)
    (line,) = [line for line in plan["advice"] if line.startswith("evaluate takes")]
    assert line.endswith("--set generation.vram_gib=8")
    assert planned("rtx3070", manifest, large, line.split()[-1])[1]["fits"]


def test_fewer_steps_are_accepted_and_enough_with_data_dropout_as_well(manifest: Path) -> None:
    for dropout in ((), ("sft.data_dropout=smrd", "sft.data_dropout_keep=0.9")):
        options = (*dropout, "sft.epochs=99")
        _, plan = planned("rtx3070", manifest, *options)
        (mend,) = [line.split()[-1] for line in plan["advice"] if "days, more than 7" in line]
        steps = int(mend.removeprefix("sft.max_steps="))
        assert planned("rtx3070", manifest, *options, mend)[1]["fits"]
        assert not planned("rtx3070", manifest, *options, f"sft.max_steps={steps + 1}")[1]["fits"]


def test_steps_are_advised_where_three_epochs_with_dropout_are_too_many(manifest: Path) -> None:
    path = manifest / "corpus/manifest.json"
    path.write_text(path.read_text().replace("10000", "900000"))
    options = ("sft.data_dropout=smrd", "sft.epochs=3")
    _, plan = planned("rtx3070", manifest, *options)
    (line,) = [line for line in plan["advice"] if "days, more than 7" in line]
    assert "sft.epochs" not in line
    assert planned("rtx3070", manifest, *options, line.split()[-1])[1]["fits"]


def test_evaluation_is_cut_by_its_suites_real_sizes_and_with_training_where_it_must(manifest: Path) -> None:
    suites = ("evaluation.suites=[humaneval,apps,repo]", "evaluation.num_samples=128")
    _, plan = planned("rtx3070", manifest, *suites)
    (line,) = [line for line in plan["advice"] if "days, more than 7" in line]
    mend = line.split()[-1]
    problems = int(mend.removeprefix("evaluation.num_problems="))
    assert planned("rtx3070", manifest, *suites, mend)[1]["fits"]
    assert not planned("rtx3070", manifest, *suites, f"evaluation.num_problems={problems + 1}")[1]["fits"]
    long = (*suites, "sft.epochs=90")
    _, plan = planned("rtx3070", manifest, *long)
    (line,) = [line for line in plan["advice"] if "days, more than 7" in line]
    mends = [word.rstrip(",") for word in line.split() if word.startswith(("sft.", "evaluation."))]
    assert len(mends) == 2 and planned("rtx3070", manifest, *long, *mends)[1]["fits"]
