"""What is exported answers as the adapter beside its base, is there whole or not at all, and says what it is."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from app.errors import UserError
from app.export import place
from app.export.exporting import Wanted, export_run
from app.export.merging import TOLERANCE
from app.files.json_files import read_json, write_json
from app.models.adapters import check_adapter
from app.models.base import load_tokenizer
from app.models.gguf_source import unpack
from app.runs import Run
from tests.conftest import ROOT
from tests.unit.export.made_run import write_base, write_run
from tests.unit.models import gguf_files

FAMILIES = ("qwen2", "qwen3", "llama")
WITHIN = {"F32": 1e-4, "F16": 0.02, "BF16": 0.2, "Q8_0": 0.3, "Q4_0": 4.0}
"""How far a log-probability may be off after a type has rounded weights of two random layers, in nats."""


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
    return run.root.with_name("base")


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


def test_the_merged_model_and_its_ggufs_answer_as_the_adapter_does(run: Run, tmp_path: Path) -> None:
    wanted = of_adapter(run)
    assert furthest(logprobs(loaded(base_of(run))), wanted) > 1, "the adapter changes what is said"
    merged = made(export_run(run.root, Wanted(merged=True, gguf="f32", out=tmp_path / "whole")))
    assert furthest(logprobs(loaded(merged)), wanted) < TOLERANCE
    assert load_tokenizer(merged).get_vocab() == load_tokenizer(base_of(run)).get_vocab()
    for kind, within in WITHIN.items():
        folder = merged
        if kind != "F32":
            folder = made(export_run(run.root, Wanted(gguf=kind, out=tmp_path / kind)))
        (file,) = folder.glob(f"*-{kind}.gguf")
        again = tmp_path / f"again-{kind}"
        again.mkdir()
        unpack(file, again, "float32")
        print("KIND", kind, furthest(logprobs(loaded(again)), wanted))
        assert furthest(logprobs(loaded(again)), wanted) < within, kind
        if kind == "F16" and "qwen3" not in file.read_bytes()[:200].decode(errors="replace"):
            assert furthest(logprobs(loaded(folder, gguf_file=file.name)), wanted) < within
        for text in ("x = 12345\n\n  # naïve <|im_start|>", "<tool_call>"):
            assert load_tokenizer(again)(text).input_ids == load_tokenizer(base_of(run))(text).input_ids
