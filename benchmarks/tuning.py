"""LoRA on packed rows, in this process, wherever torch runs: what the benchmarks that train share.

`rows` reads the shards of a corpus, or of `benchmarks.sft_rows`; `tune` trains an adapter on them.
`benchmarks.sft_arms` measures what that did to the model.
"""

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from app.models.base import ensure_model, load_model
from app.models.sizes import GIB
from app.settings import Profile
from app.training import loop, lora
from app.training.experimental.data_dropout import Difficulty
from app.training.feed import Batch, micro_batches
from app.training.memory import choose_keep, shape_of
from app.training.schedule import total_steps

COLUMNS = ("input_ids", "labels", "position_ids")


def rows(folder: Path) -> dict[str, torch.Tensor]:
    """All rows of the shards: int64 [rows, seq_len] by column."""
    table = pq.ParquetDataset(folder).read(columns=list(COLUMNS))
    length = len(table["input_ids"][0])
    return {
        name: torch.from_numpy(table[name].combine_chunks().flatten().to_numpy().reshape(-1, length).astype("int64"))
        for name in COLUMNS
    }


def tune(profile: Profile, data: dict[str, torch.Tensor], device: torch.device, folder: Path) -> dict[str, Any]:
    """Train an adapter into `folder`; its losses and what it cost. On a card fused layers keep what fits
    sft.vram_gib."""
    model = lora.attach(load_model(ensure_model(profile.model), profile.model, device), profile.sft, profile.seed)
    difficulty = Difficulty() if profile.sft.data_dropout != "none" else None
    num_rows, seq_len = data["labels"].shape
    arrays = {name: data[name].numpy().astype(np.int32) for name in COLUMNS}

    def batches(epoch: int) -> Iterator[Batch]:
        order = np.random.default_rng(profile.seed + epoch).permutation(num_rows)
        ordered = ({name: column[index] for name, column in arrays.items()} for index in order)
        return micro_batches(ordered, profile, epoch, num_rows, difficulty=difficulty)

    shape, limit = shape_of(model.config), profile.sft.vram_gib * GIB if device.type == "cuda" else math.inf
    steps, start, metrics = total_steps(num_rows, profile.sft), time.perf_counter(), list[loop.StepMetrics]()
    loop.train(
        model,
        loop.epochs(batches, profile.sft, steps, difficulty),
        profile.sft,
        steps,
        device=device,
        on_step=metrics.append,
        on_checkpoint=lambda step, save: save(folder) if step == steps else None,
        keep=choose_keep(shape, profile.model, profile.sft, seq_len, limit) or [],
        corpus_rows=num_rows,
        difficulty=difficulty,
    )
    tenth, last = max(1, steps // 10), metrics[-1]
    return {
        "steps": steps,
        "seconds": round(time.perf_counter() - start, 1),
        "tokens": last.tokens,
        "effective_epochs": round(last.effective_epochs, 3),
        "flop_epochs": round(last.flop_epochs, 3),
        "loss_first": round(mean_loss(metrics[:tenth]), 4),
        "loss_last": round(mean_loss(metrics[-tenth:]), 4),
    }


def mean_loss(metrics: list[loop.StepMetrics]) -> float:
    return math.fsum(m.loss * m.label_tokens for m in metrics) / sum(m.label_tokens for m in metrics)
