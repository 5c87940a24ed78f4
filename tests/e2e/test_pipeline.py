"""The main job through its real entry points: submitted to a cluster, and killed in every stage and resumed."""

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from app.evaluation.gate import read_decision
from app.files.json_files import read_json, read_json_lines
from app.runs import Run
from tests.conftest import ROOT, Cli


def test_a_submitted_job_ends_in_a_report(job: tuple[Path, str]) -> None:
    folder, output = job
    run = Run(folder)
    assert "succeeded" in output and f"report: {run.report_html}" in output and "joined the Ray cluster" in output
    text = run.report_html.read_text()
    assert text.count("data:image/png;base64,") == 3 and 'src="plots/' not in text, "the page holds its pictures"
    found = ("humaneval-chat-6", "95 % interval", "n = 6", "Contamination of humaneval", "0 of 6")
    for words in (*found, "MIT", "Loss curve", "Peak memory", "12 steps"):
        assert words in text, words


def test_the_corpus_names_its_sources_and_its_rejections(job: tuple[Path, str]) -> None:
    run = Run(job[0])
    manifest = read_json(run.corpus_manifest)
    with open(run.attribution) as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row["tokens"]) for row in rows) == manifest["tokens"]
    assert all(row["licence"] and row["distribution"] and row["version"] for row in rows)
    shards = pq.read_table(run.train_shards)
    assert shards.num_rows == manifest["rows"]
    assert {len(ids) for ids in shards["input_ids"].to_pylist()} == {128}
    rejected = pq.read_table(run.rejected).to_pylist()
    assert all(row["reason"] for row in rejected)
    assert any(row["what"] == "distribution" and row["distribution"] == "numpy" for row in rejected)


def test_base_and_adapter_are_measured_on_the_same_problems(job: tuple[Path, str]) -> None:
    run = Run(job[0])
    base, sft = (
        sorted(row["draft"]["problem_id"] for row in read_json_lines(run.suite_samples("humaneval-chat-6", c)))
        for c in ("base", "sft")
    )
    assert base == sft and len(set(base)) == 6
    assert read_json(run.suite_result("humaneval-chat-6", "sft"))["adapter"] == str(run.sft_adapter)


def start_and_kill(folder: Path, ready: Callable[[Run], bool], *, resume: bool) -> None:
    """Start the pipeline, and end the driver with SIGKILL as soon as `ready`."""
    command = [sys.executable, "-m", "app", "pipeline", "--profile", "smoke", "--run", str(folder)]
    log = folder.with_suffix(".log").open("w")
    driver = subprocess.Popen(
        command + ["--resume"] * resume, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    run = Run(folder)
    deadline = time.monotonic() + 240
    while not ready(run):
        assert driver.poll() is None, "the pipeline ended before it could be killed:\n" + Path(log.name).read_text()
        assert time.monotonic() < deadline, Path(log.name).read_text()
        time.sleep(0.01)
    driver.kill()
    driver.wait()
    _end_group(driver.pid)


def _end_group(group: int) -> None:
    """Ray's workers end with their driver; its agents outlive it by half a minute, which no test need wait for."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


@pytest.mark.timeout(1200)
def test_a_run_killed_in_every_stage_ends_as_an_uninterrupted_one(
    job: tuple[Path, str], cli: Cli, tmp_path: Path
) -> None:
    folder, whole = tmp_path / "run", Run(job[0])
    run = Run(folder)

    start_and_kill(folder, lambda r: len(list(r.corpus_work.glob("documents/part-*"))) >= 1, resume=False)
    assert not run.corpus_manifest.exists()
    start_and_kill(folder, lambda r: len(read_json_lines(r.sft_metrics)) >= 5, resume=True)
    assert run.corpus_manifest.exists() and not run.sft_meta.exists()
    start_and_kill(folder, lambda r: bool(read_json_lines(r.suite_samples("humaneval-chat-6", "base"))), resume=True)
    assert run.sft_meta.exists() and not run.suite_result("humaneval-chat-6", "sft").exists()
    start_and_kill(folder, lambda r: (r.plots / "loss.png").exists(), resume=True)
    done = cli("pipeline", "--profile", "smoke", "--run", folder, "--resume")
    assert done.returncode == 0 and run.report_html.exists(), done.stderr

    for file in sorted(path for path in whole.corpus.rglob("*") if path.suffix in (".parquet", ".csv")):
        assert file.read_bytes() == (run.corpus / file.relative_to(whole.corpus)).read_bytes(), file
    ours, theirs = read_json_lines(run.sft_metrics), read_json_lines(whole.sft_metrics)
    assert [row["step"] for row in ours] == list(range(1, 13)), "no step is lost, none is there twice"
    assert [row["loss"] for row in ours] == pytest.approx([row["loss"] for row in theirs], rel=1e-4)
    for candidate in ("base", "sft"):
        samples = [read_json_lines(r.suite_samples("humaneval-chat-6", candidate)) for r in (run, whole)]
        texts = [{s["draft"]["problem_id"]: s["draft"]["text"] for s in drawn} for drawn in samples]
        assert texts[0] == texts[1] and len(samples[0]) == 6
    attempts = read_json(run.info)["stages"]
    assert [a["end"] is None for a in attempts["corpus"]] == [True, False]
    assert [a["end"] is None for a in attempts["sft"]] == [True, False]
    assert not run.corpus_work.exists() and not run.sft_work.exists(), "finished stages leave no work behind"


def test_a_finished_run_is_refused_without_resume_and_does_nothing_with_it(finished: Run, cli: Cli) -> None:
    run = finished
    refused = cli("pipeline", "--profile", "smoke", "--run", run.root)
    assert refused.returncode == 2 and "pass --resume" in refused.stderr
    other = cli("sft", "--profile", "smoke", "--set", "sft.lora_r=8", "--run", run.root)
    assert other.returncode == 2 and "sft.lora_r: 16 -> 8" in other.stderr
    before = run.corpus_manifest.stat().st_mtime_ns, run.sft_meta.stat().st_mtime_ns
    done = cli("pipeline", "--profile", "smoke", "--run", run.root, "--resume")
    assert done.returncode == 0 and "started Ray" not in done.stderr, done.stderr
    assert before == (run.corpus_manifest.stat().st_mtime_ns, run.sft_meta.stat().st_mtime_ns)


def test_sft_is_left_out_of_an_instruct_model_and_the_report_says_why(finished: Run, cli: Cli) -> None:
    run = finished
    for made in (run.sft, run.validation, *run.evaluation.glob("*/sft")):
        shutil.rmtree(made)
    done = cli("pipeline", "--profile", "smoke", "--set", "sft.when=auto", "--run", run.root, "--resume")
    assert done.returncode == 0 and "started Ray" not in done.stderr, done.stderr
    assert not run.sft.exists()
    text = run.report_md.read_text()
    assert "Nothing was trained. SFT was left out: qwen3-2-layers was taught to answer already" in text
    measured = json.loads(cli("evaluate", "--run", run.root, "--json").stdout)
    assert [result["candidate"] for result in measured["results"]] == ["base"]


def test_evaluate_prints_one_json_object(finished: Run, cli: Cli) -> None:
    done = cli("evaluate", "--run", finished.root, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [(r["candidate"], r["num_samples"]) for r in found["results"]] == [("base", 6), ("sft", 6)]
    assert [c["comparison"]["num_problems"] for c in found["comparisons"]] == [6]


def test_the_adapter_of_a_run_loads_with_plain_peft(job: tuple[Path, str], smoke_model: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(smoke_model), Run(job[0]).sft_adapter)
    trained = [p for name, p in model.named_parameters() if "lora_B" in name]
    assert trained and all(p.abs().sum() > 0 for p in trained), "B starts at zero: training has moved it"


@pytest.mark.timeout(900)
def test_a_stage_that_does_harm_is_not_kept_unless_the_user_says_so(cli: Cli, tmp_path: Path) -> None:
    """SmolLM2, trained at twenty-five times the usual rate: it solves easy problems before, and none after."""
    run, changes = Run(tmp_path / "run"), []
    for change in (
        "model.source=package",
        "model.name=SmolLM2-135M-Instruct",
        "sft.learning_rate=5e-3",
        "sft.micro_batch=2",
        "sft.grad_accumulation=1",
        "sft.max_steps=5",
        "generation.batch_size=16",
        "validation.problems=[ours=datasets/problems/basics.yaml]",
        "validation.num_problems=null",
        "validation.max_new_tokens=48",
        "evaluation.num_problems=1",
    ):
        changes += ["--set", change]
    done = cli("pipeline", "--profile", "smoke", "--run", run.root, *changes, timeout=600)
    assert done.returncode == 0, done.stderr
    decision = read_decision(run, "sft")
    assert decision and decision.comparison and decision.comparison.num_better < decision.comparison.num_worse
    assert not decision.kept and decision.reason.startswith("it solves fewer, -") and run.adapters() == {}
    assert f"sft is not kept: {decision.reason}" in done.stderr
    assert "Kept is the base model, without an adapter." in run.report_md.read_text()
    done = cli("pipeline", "--run", run.root, "--resume", "--keep-anyway")
    assert done.returncode == 0, done.stderr
    assert list(run.adapters()) == ["sft"] and "you said --keep-anyway" in run.report_md.read_text()
    assert cli("pipeline", "--run", run.root, "--resume").returncode == 0
    assert list(run.adapters()) == ["sft"], "the user's word holds for the adapter it was said of"
