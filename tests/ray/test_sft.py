"""Ray Train: two workers make one adapter, see every row once and share their losses; a worker that is lost costs the
steps since its checkpoint; what it says is shown."""

import random
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from app.corpus.rows.assemble import TRAIN_SCHEMA
from app.files.json_files import BrokenFileError, read_json, read_json_lines, write_json
from app.overrides import with_overrides
from app.profiles import smoke
from app.runs import Run, open_run
from tests.processes import below


def corpus(run: Run) -> None:
    """64 rows in 4 shards, a document each."""
    draw = random.Random(0)
    texts = [[draw.randrange(10, 49_000) for _ in range(128)] for _ in range(64)]
    rows = [{"input_ids": ids, "labels": ids, "position_ids": list(range(128))} for ids in texts]
    run.train_shards.mkdir(parents=True)
    for index in range(4):
        table = pa.Table.from_pylist(rows[16 * index : 16 * index + 16], TRAIN_SCHEMA)
        pq.write_table(table, run.train_shards / f"part-{index:05d}.parquet")
    write_json(run.corpus_manifest, {"rows": len(rows)})


TWO_WORKERS = ["sft.num_workers=2", "sft.micro_batch=2", "sft.lora_dropout=0"]


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_two_workers_train_one_adapter(
    way: str, local_ray: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from app.training.sft import run_sft

    profile = with_overrides(smoke(), [*TWO_WORKERS, f"sft.parallelism={way}", "sft.max_steps=4"])
    with open_run(tmp_path / "run", profile, resume=False) as run:
        corpus(run)
        write_json(run.decision("sft"), {"kept": False})
        run_sft(run, profile)
        metrics = read_json_lines(run.sft_metrics)
        assert run.adapters() == {"sft": run.sft_adapter}, "trained anew since: the decision was about another adapter"
    said = capsys.readouterr().err
    assert {"ddp": "fused layers; scaled_dot_product_attention", "fsdp": "not the fused ones: "}[way] in said, (
        "what the first worker says is seen"
    )
    assert [row["step"] for row in metrics] == [1, 2, 3, 4]
    assert metrics[0]["label_tokens"] == 8 * 127, (
        "both workers' tokens are counted: 2 workers x 2 rows x 2 micro-batches"
    )
    assert metrics[-1]["tokens"] == 4 * 8 * 128
    assert metrics[-1]["effective_epochs"] == metrics[-1]["flop_epochs"] == 0.5
    assert metrics[0]["loss"] == pytest.approx(10.8, abs=0.1), "a mean over tokens, ln(49152) for an untrained model"
    assert read_json(run.sft_meta)["steps"] == 4 and (run.sft_adapter / "adapter_model.safetensors").exists()


def test_two_workers_know_of_each_others_documents(local_ray: None, tmp_path: Path) -> None:
    """Half of all 64 documents is 32, of those that one worker saw it would be 16."""
    from app.training.sft import run_sft

    changes = [*TWO_WORKERS, "sft.max_steps=null", "sft.epochs=3", "sft.data_dropout=dbpd", "sft.checkpoint_every=100"]
    profile = with_overrides(smoke(), changes)
    with open_run(tmp_path / "run", profile, resume=False) as run:
        corpus(run)
        run_sft(run, profile)
        metrics, meta = read_json_lines(run.sft_metrics), read_json(run.sft_meta)
    assert [row["effective_epochs"] for row in metrics[7::4]] == [1.0, 1.5, 2.0, 2.5], "8 steps, 4, and 8"
    assert meta["steps"] == len(metrics) == 20 and meta["flop_epochs"] == 2.5


def kill_a_worker(run: Run, killed: list[tuple[int, list[dict[str, Any]]]]) -> None:
    """End one training worker of this process's Ray with SIGKILL, once Ray has taken a checkpoint and steps came after
    it. That checkpoint's step and the metrics of the time go to `killed`."""
    deadline = time.monotonic() + 600
    while not 0 < (step := _step_of_checkpoint(run)) < len(rows := read_json_lines(run.sft_metrics)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    max(below("ray::RayTrainWorker"), key=lambda worker: worker.pid).kill()
    killed.append((step, rows))


def _step_of_checkpoint(run: Run) -> int:
    """Of the newest checkpoint that Ray's controller knows of, which is seconds after the worker reported it; 0 while
    there is none, and while the list is being written."""
    try:
        snapshot = read_json(run.sft_work / "train" / "checkpoint_manager_snapshot.json")
    except (OSError, BrokenFileError):
        return 0
    newest = snapshot["latest_checkpoint_result"]
    return newest["metrics"]["step"] if newest else 0


@pytest.mark.timeout(900)
def test_a_training_whose_worker_is_killed_ends_as_an_undisturbed_one(
    local_ray: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from app.training.sft import run_sft

    changes = ["sft.num_workers=2", "sft.micro_batch=1", "sft.grad_accumulation=2", "sft.max_steps=9"]
    profile = with_overrides(smoke(), [*changes, "sft.checkpoint_every=2"])
    adapters, metrics, killed = [], [], []
    for name in ("whole", "killed"):
        with open_run(tmp_path / name, profile, resume=False) as run:
            corpus(run)
            if name == "killed":
                killer = threading.Thread(target=kill_a_worker, args=(run, killed), daemon=True)
                killer.start()
            run_sft(run, profile)
            metrics.append(read_json_lines(run.sft_metrics))
            adapters.append(load_file(run.sft_adapter / "adapter_model.safetensors"))
    killer.join()
    said = capsys.readouterr().err
    assert said.count("was lost") == 1 and "training goes on from its last checkpoint" in said
    [(kept, rows)] = killed
    assert len(rows) < 9, "the worker was killed in the middle"
    assert [row["step"] for row in metrics[1]] == list(range(1, 10)), "no step is lost, none is there twice"
    assert metrics[1][:kept] == rows[:kept], "the training went on from a checkpoint: its steps were not made again"
    assert [row["loss"] for row in metrics[0]] == pytest.approx([row["loss"] for row in metrics[1]], rel=1e-5)
    assert adapters[0].keys() == adapters[1].keys()
    for name, tensor in adapters[0].items():
        assert (tensor - adapters[1][name]).abs().max() <= 1e-5, name
