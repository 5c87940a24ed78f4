"""What is exported answers as the adapter beside its base, is there whole or not at all, and says what it is."""

import contextlib
import errno
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from app import rights
from app.errors import UserError
from app.evaluation.stored_results import ADAPTER_KEY, BASE_KEY, VERDICTS, VERDICTS_KEY, adapter_sha256
from app.export import place
from app.export.card import Facts, gathered, write_card
from app.export.choice import choose
from app.export.exporting import Wanted, export_run
from app.export.gguf_shape import hyper_parameters
from app.export.gguf_types import TYPES
from app.export.merging import TOLERANCE
from app.files.json_files import read_json, write_json
from app.learnt_from import OLDER
from app.models.adapters import check_adapter
from app.models.base import load_tokenizer, weights_sha256
from app.models.gguf_source import unpack
from app.running.run_settings import stored_profile
from app.runs import Run
from tests import tiny_model
from tests.conftest import ROOT
from tests.unit.export.made_run import write_base, write_run
from tests.unit.models import gguf_files

FAMILIES = ("qwen2", "qwen3", "llama")
WITHIN = {"F32": 1e-5, "F16": 0.002, "Q8_0": 0.03}
"""How far log-probabilities may be off (root mean square, in nats) when a type has rounded two random layers."""
OTHERS = {"BF16": 0.02, "Q5_1": 0.2, "Q4_0": 0.3}


@pytest.fixture(scope="module", params=FAMILIES)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp(request.param)
    return write_run(folder / "run", write_base(folder / "base", request.param))


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("qwen")
    return write_run(folder / "run", write_base(folder / "base", "qwen2"))


@pytest.fixture
def own(qwen: Run, tmp_path: Path) -> Run:
    """A copy of the run, to change at will."""
    shutil.copytree(qwen.root, tmp_path / "run")
    return Run(tmp_path / "run")


def base_of(run: Run) -> Path:
    return Path(read_json(run.info)["settings"]["model"]["name"])


def made(line: str) -> Path:
    return Path(line.removeprefix("export: "))


def logprobs(model: Any) -> torch.Tensor:
    tokens = torch.arange(40)[None] * 7 % (len(gguf_files.TOKENS) - 3)
    with torch.no_grad():
        return model.eval()(tokens).logits.float().log_softmax(-1)


def loaded(folder: Path, **options: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)


def of_adapter(run: Run) -> torch.Tensor:
    return logprobs(PeftModel.from_pretrained(loaded(base_of(run)), run.sft_adapter))


def furthest(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """Root mean square."""
    return float((one - other).square().mean().sqrt())


def test_the_merged_model_and_its_ggufs_answer_as_the_adapter_does(run: Run, tmp_path: Path) -> None:
    wanted = of_adapter(run)
    assert furthest(logprobs(loaded(base_of(run))), wanted) > 1, "the adapter changes what is said"
    merged = made(export_run(run.root, Wanted(merged=True, gguf="f32", out=tmp_path / "whole")))
    assert furthest(logprobs(loaded(merged)), wanted) < TOLERANCE
    assert len({path.stat().st_mode for path in merged.iterdir() if path.is_file()}) == 1
    assert load_tokenizer(merged).get_vocab() == load_tokenizer(base_of(run)).get_vocab()
    for kind, within in WITHIN.items():
        folder = merged
        if kind != "F32":
            folder = made(export_run(run.root, Wanted(gguf=kind, out=tmp_path / kind)))
        assert apart(logprobs(unpacked(folder)), wanted) < within, kind
        if kind == "F16" and run.root.parent.name[:5] != "qwen3":  # transformers reads heads of 128 into every Qwen3
            (file,) = folder.glob("*.gguf")
            assert apart(logprobs(loaded(folder, gguf_file=file.name)), wanted) < within


def unpacked(folder: Path) -> Any:
    """The GGUF of an export, by our own reader."""
    (file,) = folder.glob("*.gguf")
    again = folder.with_name(f"{folder.name}-again")
    again.mkdir()
    unpack(file, again, "float32")
    return loaded(again)


@pytest.mark.parametrize(("kind", "within"), OTHERS.items())
def test_other_types_round_more_and_are_the_same_model(qwen: Run, kind: str, within: float, tmp_path: Path) -> None:
    folder = made(export_run(qwen.root, Wanted(gguf=kind, out=tmp_path / kind)))
    assert within / 10 < apart(logprobs(unpacked(folder)), of_adapter(qwen)) < within


def test_the_types_are_those_that_gguf_makes_but_fp4_and_ternary_ones() -> None:
    made = set()
    for kind in gguf.GGMLQuantizationType:
        with contextlib.suppress(NotImplementedError):
            gguf.quants.quantize(np.ones((1, 256), np.float32), kind)
            made.add(kind.name)
    assert made == {*TYPES, "MXFP4", "TQ1_0", "TQ2_0"}


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Wanted(gguf="Q4_K_M"), "--gguf Q4_K_M is none of the types that are written here: take F32, F16, BF16, Q8_0,"),
        (Wanted(gguf="Q4_K_M"), "or make Q4_K_M of an F16 with llama.cpp's llama-quantize"),
        (Wanted(gguf="int8"), "--gguf int8 is none of the types"),
        (Wanted(gguf="mxfp4"), "--gguf mxfp4 is not written, because no kernel for cards of the Ampere generation"),
        (Wanted(dtype="bfloat16"), "--dtype bfloat16 says how --merged stores weights: give it with --merged"),
        (Wanted(adapter="evolve"), "has no adapter 'evolve': take one of sft, base"),
        (Wanted(adapter="base"), "has no adapter to export (asked for): --merged or --gguf TYPE exports its base"),
    ],
)
def test_what_can_not_be_exported_is_told_in_one_sentence(qwen: Run, wanted: Wanted, said: str) -> None:
    with pytest.raises(UserError) as raised:
        export_run(qwen.root, wanted)
    assert said in str(raised.value) and "\n" not in str(raised.value)
    assert not qwen.export.exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"attention_bias": True}, "attention_bias, for which a llama GGUF has no place"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu'"),
        ({"model_type": "gpt2"}, "is of the architecture 'gpt2', and a GGUF is written of llama, qwen2, qwen3"),
        ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "positions by 'dynamic'"),
    ],
)
def test_a_model_for_which_a_gguf_has_no_place_is_refused(changes: dict[str, Any], said: str) -> None:
    config = gguf_files.model("llama").config
    for key, value in changes.items():
        setattr(config, key, value)
    with pytest.raises(UserError) as raised:
        hyper_parameters(config)
    assert said in str(raised.value) and "--merged writes it as safetensors" in str(raised.value)


def test_a_tokenizer_of_whole_words_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", "qwen3")
    tiny_model.write_model(tmp_path / "words", ["one", "two"])
    for file in (tmp_path / "words").glob("tokenizer*"):
        shutil.copy(file, base)
    run = write_run(tmp_path / "run", base)
    with pytest.raises(UserError, match="tokenizer is WordLevel, and byte-level BPE is what is written"):
        export_run(run.root, Wanted(gguf="F16"))


def test_the_last_kept_adapter_is_taken_and_a_refused_one_is_not(own: Run) -> None:
    shutil.copytree(own.sft, own.grm)
    assert choose(own, None).name == "grm"
    write_json(own.decision("grm"), {"kept": False})
    assert choose(own, None).name == "sft"
    with pytest.raises(UserError, match="'grm' of .* was not kept, so that `serve` does not show it either: take one"):
        choose(own, "grm")
    write_json(own.decision("sft"), {"kept": False})
    assert (choose(own, None).adapter, choose(own, None).why) == (None, "no adapter was kept")


def test_a_place_that_holds_anything_is_left_alone(qwen: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="mine is there already, and an export replaces nothing: remove it, or give"):
        export_run(qwen.root, Wanted(out=tmp_path / "mine"))
    (tmp_path / "empty").mkdir()
    assert (made(export_run(qwen.root, Wanted(out=tmp_path / "empty"))) / "adapter_model.safetensors").exists()


def test_a_disk_without_room_is_told_before_anything_is_written(
    qwen: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1 << 20}))
    with pytest.raises(UserError, match=r"the export takes 0.0 GiB, and .* has 0.0 GiB left: free space, or give"):
        export_run(qwen.root, Wanted(merged=True, out=tmp_path / "out"))
    assert not list(tmp_path.iterdir())


def test_an_export_that_fails_leaves_nothing(qwen: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("app.export.exporting.write_card", full)
    with pytest.raises(UserError, match=r"out can't be written \(No space left on device\): free space, or"):
        export_run(qwen.root, Wanted(out=tmp_path / "out"))
    assert not list(tmp_path.iterdir())


def test_an_export_that_is_killed_looks_like_none_and_the_next_one_clears_it_away(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from app.export.place import new_folder\n"
        "with new_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'model.safetensors').write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    target = tmp_path / "out"
    assert subprocess.run([sys.executable, "-c", code, str(target)], cwd=ROOT).returncode == -9
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".out.") and left.name.endswith(".tmp")
    with place.new_folder(target) as folder:
        (folder / "model.safetensors").write_bytes(b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_bfloat16_says_what_it_keeps_of_a_small_adapter(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", "qwen2", bfloat16=True)
    run = write_run(tmp_path / "run", base, share=0.0002)
    folder = made(export_run(run.root, Wanted(merged=True, dtype="bfloat16")))
    assert folder.name == "sft-merged-bfloat16" and read_json(folder / "config.json")["dtype"] == "bfloat16"
    with safe_open(folder / "model.safetensors", framework="pt") as tensors:
        assert all(tensors.get_tensor(name).dtype == torch.bfloat16 for name in tensors.keys())  # noqa: SIM118
    kept = re.search(r"bfloat16 keeps ([\d.]+) % of what the adapter adds", (folder / "README.md").read_text())
    assert kept and 1 < float(kept[1]) < 95


def test_the_card_tells_base_licences_results_and_settings_and_no_path(own: Run) -> None:
    result = {
        "suite": "humaneval", "protocol": "chat", "candidate": "sft", "num_samples": 164, "num_passed": 91,
        "num_masked": 0, "num_unsplit": 0, "num_passed_unsplit": 0, "categories": {}, "detectable": None,
        "status_counts": {}, "tiers": {}, "mean_logprob": None, "num_tokens": 9,
        "pass_at": {"1": {"value": 0.555, "interval_95": [0.48, 0.63], "num_problems": 164}},
    }  # fmt: skip
    weights = {BASE_KEY: weights_sha256(base_of(own)), ADAPTER_KEY: adapter_sha256(str(own.sft_adapter))}
    facts = weights | {"result": result, "pass_rates": {}, VERDICTS_KEY: VERDICTS}
    write_json(own.suite_result("humaneval-chat", "sft"), facts)
    write_json(own.suite_result("mbpp-chat", "sft"), facts | {ADAPTER_KEY: {}})  # of another adapter
    text = (made(export_run(own.root, Wanted(merged=True, gguf="Q8_0"))) / "README.md").read_text()
    data = ModelCard(text).data
    assert (data.library_name, data.pipeline_tag, data.tags) == ("transformers", "text-generation", ["code", "gguf"])
    for line in (
        "A LoRA adapter of base, made by supervised fine-tuning.",
        "| `base-sft-Q8_0.gguf` | base and adapter in one in Q8_0",
        "| MIT | 2 | 7 | 900 |\n| Apache-2.0 | 1 | 1 | 100 |\n",
        "| humaneval-chat | chat | sft | 164 | 55.5 % (48.0 to 63.0) |",
        '"lora_r": ',
    ):
        assert line in text, line
    assert "mbpp-chat" not in text
    assert str(own.root.parent) not in text and str(base_of(own).parent) not in text
    assert (own.export / "sft-merged-Q8_0/attribution/sft.csv").read_text() == own.attribution.read_text()
    assert OLDER in text, "the run's adapter has nothing beside it"


@pytest.mark.parametrize(("source", "said"), [("gguf", True), ("package", True), ("path", False), ("hub", False)])
def test_the_card_says_where_the_base_is_not_what_was_published(own: Run, source: str, said: bool) -> None:
    profile = stored_profile(own.root)
    assert profile
    model = profile.model.model_copy(update={"source": source, "name": "some/model.gguf"})
    of_run = gathered(own, profile.model_copy(update={"model": model}), choose(own, None))
    write_card(own.root, of_run, Facts())
    line = "was unpacked from a GGUF file: where the file's type rounds"
    assert (line in (own.root / "README.md").read_text()) is said


def test_an_adapter_alone_names_its_base_and_fits_it(qwen: Run, tmp_path: Path) -> None:
    folder = made(export_run(qwen.root, Wanted(out=tmp_path / "out")))
    assert read_json(folder / "adapter_config.json")["base_model_name_or_path"] == "base"
    check_adapter(folder, base_of(qwen))
    assert ModelCard((folder / "README.md").read_text()).data.library_name == "peft"


HELD = rights.Rights(
    learnt=(
        rights.Material(stage="sft", told="Supervised fine-tuning: 9 tokens.", columns=("licence",), rows=(("MIT",),)),
    ),
    guards=(
        rights.GuardedBy(
            stage="sft", suites=({"suite": "humaneval", "problems": 164, "sha256": "cd" * 32, "by": "text"},)
        ),
    ),
    notices=(
        rights.Notice(
            licence="MIT",
            text="Permission is hereby granted.",
            holders=(rights.Holder(who="áttrs", version="1", lines=("Copyright 2015 Hynek",)),),
        ),
    ),
)


@pytest.mark.parametrize(
    "wanted", [Wanted(), Wanted(gguf="Q8_0"), Wanted(merged=True, gguf="F16", dtype="bfloat16")], ids=str
)
def test_every_export_carries_what_its_adapter_learnt_from_though_the_corpus_is_gone(own: Run, wanted: Wanted) -> None:
    rights.write(own.sft_adapter, HELD, {"sft": own.attribution})
    shutil.rmtree(own.corpus)
    folder = made(export_run(own.root, wanted))
    card, texts = (folder / "README.md").read_text(), (folder / "NOTICES.txt").read_text()
    assert "| humaneval | 164 | `cdcdcdcdcdcdcdcd` | sft |" in card and "NOTICES.txt" in card and OLDER not in card
    assert "Permission is hereby granted." in texts and "áttrs 1\n    Copyright 2015 Hynek" in texts
    assert (folder / "attribution" / "sft.csv").read_text().endswith("attrs,25.1,MIT\n")
    held = rights.read(folder)
    assert held and held.learnt == HELD.learnt and held.guards == HELD.guards
    assert "It brings no licence here: look it up" in card


def test_a_base_alone_is_exported_with_its_own_licence_and_says_that_nothing_was_learnt(own: Run) -> None:
    base = own.root.parent / "own-base"
    shutil.copytree(base_of(own), base)
    (base / "LICENSE").write_text("The licence of the base.")
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n\nlicense: not this one\n")
    info = read_json(own.info)
    info["settings"]["model"]["name"] = str(base)
    write_json(own.info, info)
    folder = made(export_run(own.root, Wanted(merged=True, adapter="base")))
    card = (folder / "README.md").read_text()
    assert "Nothing was learnt here: these are the weights of own-base." in card
    assert "it calls it apache-2.0, whose text is in `NOTICES.txt`." in card
    assert "own-base (model)\n\nThe licence of the base." in (folder / "NOTICES.txt").read_text()
    assert not (folder / "attribution").exists()


@pytest.mark.parametrize(
    ("file", "held"),
    [
        ("corpus/manifest.json", {"tokens": {}}),
        ("corpus/manifest.json", {"tokens": 5, "documents": 1, "licences": {"MIT": []}}),
        ("validation/sft/decision.json", {"reason": "none"}),
    ],
)
def test_a_run_of_another_version_is_refused_in_a_sentence(own: Run, file: str, held: dict[str, Any]) -> None:
    write_json(own.root / file, held)
    with pytest.raises(UserError, match="holds what no run of this version holds"):
        export_run(own.root, Wanted(merged=True))
    assert not own.export.exists(), "told before any weight is loaded"
