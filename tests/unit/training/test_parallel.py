"""One, two and four workers, by DDP and by FSDP2, learn the same; what one way saved, another goes on from."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, Qwen3Config

from app.records import IGNORE
from app.settings import SftSettings
from app.training import lora, parallel
from app.training.loop import StepMetrics, epochs, train
from app.training.loss import CausalLMLoss
from benchmarks.launch import launch

CONFIG = Qwen3Config(
    vocab_size=200, hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=6, head_dim=16,
    num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=True,
)  # fmt: skip
ROWS_A_STEP = 8
STEPS = 4
CPU = torch.device("cpu")


def rows() -> list[dict[str, Tensor]]:
    """Micro-batches of one row, with an uneven number of labelled tokens."""
    found = []
    for number in range(ROWS_A_STEP * STEPS):
        ids = torch.randint(10, 200, (1, 24), generator=torch.Generator().manual_seed(number))
        labels = ids.clone()
        labels[:, : number % 11] = IGNORE
        found.append({"input_ids": ids, "labels": labels, "position_ids": torch.arange(24)[None]})
    return found


def base(dtype: str) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(CONFIG, attn_implementation="sdpa", dtype=getattr(torch, dtype))


def train_part(
    device: torch.device,
    folder: Path,
    way: str,
    resume_from: Path | None = None,
    dtype: str = "float32",
    gradient_checkpointing: bool = False,
) -> list[StepMetrics]:
    """This worker's part: every n-th row. Checkpoints go to folder/step-N."""
    number, rank = parallel.world_size(), dist.get_rank() if dist.is_initialized() else 0
    settings = SftSettings(
        lora_r=4, nested_ranks=(2, 4), lora_dropout=0.0, learning_rate=5e-3, checkpoint_every=2,
        gradient_checkpointing=gradient_checkpointing,
        grad_accumulation=ROWS_A_STEP // number, num_workers=number, parallelism=way,
    )  # fmt: skip
    model = base(dtype)
    metrics: list[StepMetrics] = []

    def on_checkpoint(step: int, save: Any) -> None:
        if rank == 0:
            (folder / f"step-{step}").mkdir(parents=True)
            save(folder / f"step-{step}")

    train(
        lora.attach(model, settings, 0), epochs(lambda epoch: iter(rows()[rank::number]), settings, STEPS), settings,
        STEPS, device=device, on_step=metrics.append, on_checkpoint=on_checkpoint, resume_from=resume_from,
        wrap=lambda module: parallel.wrap(module, settings, device),
    )  # fmt: skip
    return metrics


def both_ways(device: torch.device, folder: Path, single: Path) -> dict[str, list[StepMetrics]]:
    """By DDP, by FSDP2, and by each from where the other, or a single worker, was after two steps."""
    return {
        "ddp": train_part(device, folder / "ddp", "ddp"),
        "fsdp": train_part(device, folder / "fsdp", "fsdp", gradient_checkpointing=True),
        "ddp-goes-on": train_part(device, folder / "ddp-goes-on", "ddp", folder / "fsdp/step-2"),
        "fsdp-goes-on": train_part(device, folder / "fsdp-goes-on", "fsdp", single / "step-2"),
        "fsdp-bf16": train_part(device, folder / "fsdp-bf16", "fsdp", dtype="bfloat16"),
    }


def share_held(device: torch.device) -> float:
    """The share of the base's and adapter's numbers that one worker holds under FSDP2."""
    settings = SftSettings(parallelism="fsdp", num_workers=parallel.world_size())
    loss = parallel.wrap(CausalLMLoss(lora.attach(base("float32"), settings, 0), 64), settings, device)
    parameters: list[Any] = list(loss.parameters())
    return sum(p.to_local().numel() for p in parameters) / sum(p.numel() for p in parameters)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[StepMetrics]]]:
    folder = tmp_path_factory.mktemp("single")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield folder, train_part(CPU, folder, "ddp")
    torch.set_num_threads(threads)


def assert_same_course(found: list[StepMetrics], expected: list[StepMetrics]) -> None:
    assert [row.step for row in found] == [row.step for row in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
        assert ours.grad_norm == pytest.approx(theirs.grad_norm, rel=1e-3)
        assert (ours.tokens, ours.label_tokens) == (theirs.tokens, theirs.label_tokens)


def assert_same_state(found: Path, expected: Path) -> None:
    assert (found / "adapter/adapter_config.json").exists()
    for name in ("adapter/adapter_model.safetensors", "optimiser.safetensors"):
        ours, theirs = load_file(found / name), load_file(expected / name)
        assert ours.keys() == theirs.keys() and ours
        for key, tensor in theirs.items():
            assert ours[key].shape == tensor.shape
            assert (ours[key] - tensor).norm() <= 2e-3 * tensor.norm(), key


@pytest.mark.parametrize("number", [2, 4])
def test_workers_learn_what_one_learns_and_go_on_from_each_others_checkpoints(
    number: int, single: tuple[Path, list[StepMetrics]], tmp_path: Path
) -> None:
    folder, expected = single
    results = launch(number, both_ways, tmp_path, folder, timeout_s=240)
    for courses in results:
        for name, metrics in courses.items():
            if name != "fsdp-bf16":
                assert_same_course(metrics, expected[2:] if name.endswith("goes-on") else expected)
        for ours, theirs in zip(courses["fsdp-bf16"], expected, strict=True):
            assert ours.loss == pytest.approx(theirs.loss, rel=1e-2)
    for name in ("ddp", "fsdp", "ddp-goes-on", "fsdp-goes-on"):
        assert_same_state(tmp_path / name / "step-4", folder / "step-4")
    alone = train_part(CPU, tmp_path / "alone", "ddp", tmp_path / "fsdp/step-2")
    assert_same_course(alone, expected[2:])
    assert_same_state(tmp_path / "alone/step-4", folder / "step-4")


def test_a_worker_holds_its_share_of_the_weights() -> None:
    for share in launch(2, share_held, timeout_s=120):
        assert share == pytest.approx(0.5, abs=0.01)


def wait_in_one(device: torch.device) -> None:
    if dist.get_rank() == 1:
        time.sleep(60)


def test_workers_that_do_not_end_are_ended_and_it_is_said_where_they_stood() -> None:
    with pytest.raises(TimeoutError, match=r"(?s)not done after 4 s.*in wait_in_one"):
        launch(2, wait_in_one, timeout_s=4)
