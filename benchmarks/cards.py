"""Training speed over several cards, whole models (ddp) and cut ones (fsdp), under a memory cap, without Ray.

Every arm trains the same LoRA adapter (r 16, all linear layers, no dropout, AdamW) on a model with random weights, on
the same rows, ROWS_A_STEP a step whatever the number of cards: so losses can be held against each other, and the step
gets shorter as cards are added (strong scaling). ddp takes the fused layers, fsdp those of transformers and PEFT with
gradient checkpointing; on one card nothing is cut. Memory is what a card's allocator reserved at most once the model
was in place, and the cap makes it fail beyond; NCCL's buffers and the CUDA context come on top.

Prints one JSON line for each way and number of cards. scaling: tokens a second, over cards times what one card makes.
Run: python -m benchmarks.cards --cards 1,2,4 --ways ddp:4,fsdp:1 --model-shape qwen3-1.7b [--corpus RUN/corpus]
where a way is NAME:MICRO_BATCH, and without a corpus rows are drawn at random, a document each.
"""

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import AutoModelForCausalLM, Qwen3Config

from app.models.sizes import GIB
from app.settings import ModelSettings, SftSettings
from app.stage_settings.base import Settings
from app.training import loop, lora, parallel
from app.training.memory import ALLOCATOR, choose_keep, shape_of
from benchmarks.launch import launch
from benchmarks.training import SHAPE, WARM_UP

SHAPES: dict[str, dict[str, Any]] = {
    "qwen3-1.7b": SHAPE,
    "qwen3-0.6b": SHAPE | {"hidden_size": 1024, "intermediate_size": 3072},
    "small": SHAPE | {"vocab_size": 4096, "hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 4},
}
ROWS_A_STEP = 32


class Arm(Settings):
    way: str
    micro_batch: int
    shape: str = "qwen3-1.7b"
    seq_len: int = 2048
    steps: int = 10
    cap_gib: float = 8.0
    corpus: str = ""
    """Folder; without one, rows are drawn at random."""

    @property
    def sft(self) -> SftSettings:
        """Settings of this process."""
        number = parallel.world_size()
        if ROWS_A_STEP % (number * self.micro_batch):
            raise ValueError(f"{ROWS_A_STEP} rows a step are no multiple of {number} cards x {self.micro_batch} rows")
        return SftSettings(
            lora_dropout=0.0, micro_batch=self.micro_batch, num_workers=number, parallelism=self.way, use_gpu=True,
            grad_accumulation=ROWS_A_STEP // number // self.micro_batch, checkpoint_every=10**6,
            gradient_checkpointing=self.way == "fsdp", vram_gib=self.cap_gib,
        )  # fmt: skip


def rows(arm: Arm) -> dict[str, torch.Tensor]:
    """int64 [rows, seq_len] by column: those of all steps and cards."""
    number = arm.steps * ROWS_A_STEP
    if arm.corpus:
        from benchmarks.training import corpus_rows

        return corpus_rows(Path(arm.corpus), number)
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(0, SHAPES[arm.shape]["vocab_size"], (number, arm.seq_len), generator=draw)
    return {"input_ids": ids, "labels": ids, "position_ids": torch.arange(arm.seq_len).expand_as(ids)}


def train_part(device: torch.device, arm: Arm) -> dict[str, Any]:
    """One card's part of a training: seconds and losses of its steps, and the peak of its memory in GiB."""
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, arm.cap_gib * GIB / total), device)
    torch.set_float32_matmul_precision("high")
    settings, config, rank = arm.sft, Qwen3Config(**SHAPES[arm.shape]), dist.get_rank()
    torch.manual_seed(0)
    with device:
        base = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa")
    model = lora.attach(base, settings, 0)
    data, size, number = rows(arm), arm.micro_batch, parallel.world_size()

    def batches(epoch: int) -> Iterator[loop.Batch]:
        own = {name: tensor[rank::number] for name, tensor in data.items()}
        for start in range(0, len(own["labels"]), size):
            yield {name: tensor[start : start + size] for name, tensor in own.items()}

    def wrap(module: torch.nn.Module) -> torch.nn.Module:
        wrapped = parallel.wrap(module, settings, device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return wrapped

    metrics: list[loop.StepMetrics] = []
    where = ModelSettings(source="path", name="random", dtype="bfloat16")
    keep = choose_keep(shape_of(config), where, settings, arm.seq_len, arm.cap_gib * GIB) or []
    loop.train(
        model, loop.epochs(batches, settings, arm.steps), settings, arm.steps, device=device, on_step=metrics.append,
        on_checkpoint=lambda step, save: None, keep=keep, wrap=wrap,
    )  # fmt: skip
    return {"steps": [asdict(row) for row in metrics], "peak_gib": torch.cuda.max_memory_reserved(device) / GIB}


def measure(arm: Arm, cards: int) -> dict[str, Any]:
    """A line of the output, without its scaling. Raises RuntimeError when a card fails."""
    parts = launch(cards, train_part, arm, use_gpu=True)
    slowest = [max(part["steps"][step]["seconds"] for part in parts) for step in range(arm.steps)]
    middle = sorted(slowest[WARM_UP:])[len(slowest[WARM_UP:]) // 2]
    share = 1.0
    if arm.corpus:
        from benchmarks.training import useful

        share = useful(Path(arm.corpus))
    return {
        "way": arm.way, "cards": cards, "card": torch.cuda.get_device_name(0), "shape": arm.shape,
        "micro_batch": arm.micro_batch, "rows_a_step": ROWS_A_STEP, "seq_len": arm.seq_len,
        "tokens_per_s": round(ROWS_A_STEP * arm.seq_len * share / middle), "seconds": round(middle, 4),
        "peak_gib": [round(part["peak_gib"], 2) for part in parts],
        "losses": [round(row["loss"], 4) for row in parts[0]["steps"]],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cards", default="1,2,4")
    parser.add_argument("--ways", default="ddp:4,fsdp:1")
    parser.add_argument("--model-shape", default="qwen3-1.7b", choices=SHAPES)
    parser.add_argument("--corpus", default="")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--cap", type=float, default=8.0, help="GiB of each card")
    given = parser.parse_args()
    os.environ.update(ALLOCATOR)  # of the processes that are started
    for way, micro_batch in (text.split(":") for text in given.ways.split(",")):
        arm = Arm(
            way=way, micro_batch=int(micro_batch), shape=given.model_shape, steps=given.steps, cap_gib=given.cap,
            corpus=given.corpus,
        )  # fmt: skip
        of_one: float | None = None
        for cards in map(int, given.cards.split(",")):
            try:
                line = measure(arm, cards)
            except (RuntimeError, TimeoutError) as error:
                print(json.dumps({"way": way, "cards": cards, "failed": str(error)}), flush=True)
                continue
            if cards == 1:
                of_one = line["tokens_per_s"]
            scaling = round(line["tokens_per_s"] / cards / of_one, 3) if of_one else None
            print(json.dumps(line | {"scaling": scaling}), flush=True)


if __name__ == "__main__":
    main()
