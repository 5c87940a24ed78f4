"""Ray Train with two workers: one adapter, every row once, the loss of the whole batch."""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.corpus.rows.assemble import TRAIN_SCHEMA
from app.files.json_files import read_json, read_json_lines, write_json
from app.overrides import with_overrides
from app.profiles import smoke
from app.runs import Run, open_run


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
        run_sft(run, profile)
        metrics = read_json_lines(run.sft_metrics)
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
