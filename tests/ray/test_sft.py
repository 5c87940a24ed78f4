"""Ray Train with two workers: one adapter, every row once, the loss of the whole batch."""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.corpus.assemble import TRAIN_SCHEMA
from app.overrides import with_overrides
from app.profiles import smoke
from app.runs import open_run, read_json, read_json_lines, write_json


def test_two_workers_train_one_adapter(local_ray: None, tmp_path: Path) -> None:
    from app.training.sft import run_sft

    profile = with_overrides(
        smoke(), ["sft.num_workers=2", "sft.micro_batch=2", "sft.max_steps=4", "sft.lora_dropout=0"]
    )
    draw = random.Random(0)
    texts = [[draw.randrange(10, 49_000) for _ in range(128)] for _ in range(64)]
    rows = [{"input_ids": ids, "labels": ids, "position_ids": list(range(128))} for ids in texts]
    with open_run(tmp_path / "run", profile, resume=False) as run:
        run.train_shards.mkdir(parents=True)
        for index in range(4):
            table = pa.Table.from_pylist(rows[16 * index : 16 * index + 16], TRAIN_SCHEMA)
            pq.write_table(table, run.train_shards / f"part-{index:05d}.parquet")
        write_json(run.corpus_manifest, {"rows": len(rows)})
        run_sft(run, profile)
        metrics = read_json_lines(run.sft_metrics)
    assert [row["step"] for row in metrics] == [1, 2, 3, 4]
    assert metrics[0]["label_tokens"] == 8 * 127, (
        "both workers' tokens are counted: 2 workers x 2 rows x 2 micro-batches"
    )
    assert metrics[-1]["tokens"] == 4 * 8 * 128
    assert metrics[0]["loss"] == pytest.approx(10.8, abs=0.1), "a mean over tokens, ln(49152) for an untrained model"
    assert read_json(run.sft_meta)["steps"] == 4 and (run.sft_adapter / "adapter_model.safetensors").exists()
