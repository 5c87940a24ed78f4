"""What only a card can show: the reference profile's training, at Qwen3-1.7B's shape, stays within what it plans."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen3Config

from app.models.base import load_model
from app.models.sizes import GIB
from app.profiles import rtx3070
from app.settings import Profile
from app.training import lora
from app.training.fused import why_not
from app.training.loop import epochs, train
from app.training.memory import choose_keep, shape_of, step_memory
from app.training.saved_activations import Keep
from benchmarks.training import SHAPE

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA card; torch sees none")
DEVICE = torch.device("cuda", 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Random weights, drawn on the card: on a processor it takes half a minute."""
    path = tmp_path_factory.mktemp("qwen3-1.7b")
    with DEVICE:
        model = AutoModelForCausalLM.from_config(Qwen3Config(**SHAPE), dtype=torch.bfloat16)
    model.save_pretrained(path)
    del model
    torch.cuda.empty_cache()
    yield path
    shutil.rmtree(path)


def trained(profile: Profile, folder: Path, keep: list[Keep]) -> tuple[list[float], int]:
    """Losses of three steps on the same rows, and the most bytes that the allocator took for them. Fails beyond the
    profile's share of the card."""
    total = torch.cuda.get_device_properties(DEVICE).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, profile.sft.vram_gib * GIB / total))
    model = lora.attach(load_model(folder, profile.model, DEVICE, quantize=True), profile.sft, seed=0)
    assert bool(why_not(model)) == (not keep), why_not(model)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    ids = torch.randint(0, SHAPE["vocab_size"], (profile.sft.micro_batch, profile.corpus.seq_len))
    batch = {"input_ids": ids, "labels": ids, "position_ids": torch.arange(profile.corpus.seq_len).expand_as(ids)}
    losses: list[float] = []
    train(
        model, epochs(lambda epoch: iter([batch] * 6), profile.sft, 3), profile.sft, 3, device=DEVICE, keep=keep,
        on_step=lambda metrics: losses.append(metrics.loss), on_checkpoint=lambda *_: None,
    )  # fmt: skip
    return losses, torch.cuda.max_memory_reserved()


def rtx3070_with(lora_dropout: float) -> Profile:
    profile = rtx3070()
    changes = {"lora_dropout": lora_dropout, "grad_accumulation": 2, "learning_rate": 2e-3}
    return profile.model_copy(update={"sft": profile.sft.model_copy(update=changes)})


PARKED = """
import sys, torch
from pathlib import Path
from app.models.base import load_model
from app.profiles import rtx3070
from app.training import lora
from app.training.parked import ParkedWeights
from app.training.ray_train import set_up_device

torch.zeros(1, device="cuda")  # as Ray Train does
device, profile = torch.device("cuda", 0), rtx3070()
set_up_device(device, profile.sft.vram_gib)
model = lora.attach(load_model(Path(sys.argv[1]), profile.model, device, quantize=True), profile.sft, seed=0)
ParkedWeights(model, device).leave()
print(torch.cuda.memory_reserved() / 2**30, torch.cuda.memory_allocated() / 2**30)
"""


def test_a_trainer_that_waits_gives_its_weights_memory_back_though_the_card_was_touched_before(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PARKED, folder], capture_output=True, text=True, check=True)
    reserved, allocated = map(float, done.stdout.split()[-2:])
    assert allocated < 0.6 and reserved < allocated + 0.6


def test_the_rtx3070_profile_trains_within_8_gib(folder: Path) -> None:
    """The plain way: with dropout."""
    profile = rtx3070_with(lora_dropout=0.05)
    losses, reserved = trained(profile, folder, [])
    assert losses[-1] < losses[0]
    assert reserved <= profile.sft.vram_gib * GIB


def test_the_fused_way_takes_what_is_planned(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile = rtx3070_with(lora_dropout=0.0)
    shape, limit = shape_of(Qwen3Config(**SHAPE)), profile.sft.vram_gib * GIB
    keep = choose_keep(shape, profile.model, profile.sft, profile.corpus.seq_len, limit)
    assert keep is not None and any(keep)
    losses, reserved = trained(profile, folder, keep)
    assert losses[-1] < losses[0]
    assert "memory ran out" not in capsys.readouterr().err
    assert reserved <= step_memory(shape, profile.model, profile.sft, profile.corpus.seq_len, keep).total <= limit
