"""Ray Train: two workers make one adapter, see every row once and share their losses; one that is lost costs the steps
since its checkpoint; what it says is shown."""

import contextlib
import io
import os
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.train
import torch
from safetensors.torch import load_file

from app.corpus.rows.assemble import TRAIN_SCHEMA
from app.files.json_files import read_json, read_json_lines, write_json
from app.models.adapters import WEIGHTS
from app.models.base import ensure_model
from app.overrides import with_overrides
from app.profiles import smoke
from app.runs import Run, open_run
from app.settings import Profile
from app.training import loop, lora, sft
from app.training.feed import micro_batches
from app.training.loop import StepMetrics
from app.training.state import ADAPTER
from tests.ray.killing import Killed, kill_a_worker


def corpus(run: Run, length: int) -> None:
    """64 rows in 4 shards, a document each. length: tokens of a row."""
    draw = random.Random(0)
    texts = [[draw.randrange(10, 49_000) for _ in range(length)] for _ in range(64)]
    rows = [{"input_ids": ids, "labels": ids, "position_ids": list(range(length))} for ids in texts]
    run.train_shards.mkdir(parents=True)
    for index in range(4):
        table = pa.Table.from_pylist(rows[16 * index : 16 * index + 16], TRAIN_SCHEMA)
        pq.write_table(table, run.train_shards / f"part-{index:05d}.parquet")
    write_json(run.corpus_manifest, {"rows": len(rows)})


CPU = torch.device("cpu")
TWO_WORKERS = ["sft.num_workers=2", "sft.lora_dropout=0"]
NINE_STEPS = [*TWO_WORKERS, "sft.micro_batch=1", "sft.grad_accumulation=2", "sft.max_steps=9", "sft.checkpoint_every=2"]


@dataclass(frozen=True)
class Trained:
    run: Run
    metrics: list[dict[str, Any]]
    said: str


def trained(folder: Path, changes: list[str], beside: Callable[[Run], None] = lambda run: None) -> Trained:
    """A run that was trained under these settings. beside: what a thread does to it in the meantime."""
    profile = with_overrides(smoke(), changes)
    with open_run(folder, profile, resume=False) as run:
        corpus(run, profile.corpus.seq_len)
        write_json(run.decision("sft"), {"kept": False})
        other = threading.Thread(target=beside, args=(run,), daemon=True)
        other.start()
        with contextlib.redirect_stderr(io.StringIO()) as said:
            sft.run_sft(run, profile)
        other.join()
    return Trained(run, read_json_lines(run.sft_metrics), said.getvalue())


def learnt_by_one(run: Run, profile: Profile, folder: Path) -> list[StepMetrics]:
    """What one process without Ray Train learns from the same rows; its last checkpoint is in the folder."""
    metrics: list[StepMetrics] = []
    alone = with_overrides(profile, ["sft.num_workers=1", "sft.grad_accumulation=4"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray.train, "get_dataset_shard", lambda name: sft._dataset(run))
        loop.train(
            lora.load_for_training(ensure_model(profile.model), profile.model, alone.sft, alone.seed, CPU),
            loop.epochs(lambda epoch: micro_batches(sft._rows(run, alone, epoch), alone, epoch, 64), alone.sft, 9),
            alone.sft,
            9,
            device=CPU,
            on_step=metrics.append,
            on_checkpoint=lambda step, save: save(folder),
        )
    return metrics


@pytest.mark.timeout(900)
def test_two_workers_of_which_one_is_killed_train_the_adapter_that_one_process_trains(
    local_ray: None, tmp_path: Path
) -> None:
    killed: list[Killed] = []
    made = trained(tmp_path / "run", NINE_STEPS, lambda run: kill_a_worker(run.sft_work, run.sft_metrics, killed))
    run, metrics = made.run, made.metrics
    assert run.adapters() == {"sft": run.sft_adapter}, "trained anew since: the decision was about another adapter"
    assert "fused layers; scaled_dot_product_attention" in made.said, "what the first worker says is seen"
    assert made.said.count("was lost") == 1 and "training goes on from its last checkpoint" in made.said
    [(kept, rows)] = killed
    assert len(rows) < 9, "the worker was killed in the middle"
    assert [row["step"] for row in metrics] == list(range(1, 10)), "no step is lost, none is there twice"
    assert metrics[:kept] == rows[:kept], "the training went on from a checkpoint: its steps were not made again"
    assert metrics[0]["label_tokens"] == 4 * 127, (
        "both workers' tokens are counted: 2 workers x 1 row x 2 micro-batches"
    )
    assert metrics[-1]["tokens"] == 9 * 4 * 128
    assert metrics[-1]["effective_epochs"] == metrics[-1]["flop_epochs"] == 9 / 16
    assert metrics[0]["loss"] == pytest.approx(10.8, abs=0.1), "a mean over tokens, ln(49152) for an untrained model"
    assert read_json(run.sft_meta)["steps"] == 9
    alone = learnt_by_one(run, with_overrides(smoke(), NINE_STEPS), tmp_path / "alone")
    assert [row["loss"] for row in metrics] == pytest.approx([row.loss for row in alone], rel=1e-5)
    ours, theirs = load_file(run.sft_adapter / WEIGHTS), load_file(tmp_path / "alone" / ADAPTER / WEIGHTS)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert (tensor - theirs[name]).norm() <= 2e-3 * theirs[name].norm(), name


def test_two_workers_with_half_a_model_each_know_of_each_others_documents(
    local_ray: None, smoke_model: Path, tmp_path: Path
) -> None:
    """Half of all 64 documents is 32, of those that one worker saw it would be 16. The model is named by a relative
    path, which workers have to find as well."""
    changes = ["model.source=path", f"model.name={os.path.relpath(smoke_model)}"]
    changes += [*TWO_WORKERS, "sft.parallelism=fsdp", "sft.micro_batch=2", "sft.max_steps=null", "sft.epochs=3"]
    changes += ["sft.data_dropout=dbpd", "sft.checkpoint_every=100", "corpus.seq_len=32"]
    made = trained(tmp_path / "run", changes)
    metrics, meta = made.metrics, read_json(made.run.sft_meta)
    assert "not the fused ones: " in made.said
    assert metrics[0]["label_tokens"] == 8 * 31
    assert metrics[0]["loss"] == pytest.approx(10.8, abs=0.1)
    assert [row["effective_epochs"] for row in metrics[7::4]] == [1.0, 1.5, 2.0, 2.5], "8 steps, 4, and 8"
    assert meta["steps"] == len(metrics) == 20 and meta["flop_epochs"] == 2.5
    assert (made.run.sft_adapter / "adapter_model.safetensors").exists()
