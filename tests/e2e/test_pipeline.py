"""The main job through its real entry points, submitted to a cluster."""

import csv
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq

from app import rights
from app.corpus.taken import in_words
from app.files.json_files import read_json, read_json_lines
from app.runs import Run
from tests.conftest import Cli


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
    places = [(row["distribution"], row["licence"], path) for row in rows for path in row["files"].split()]
    assert len(places) == len(set(places)), "a file is in one row, which says under which right it was taken"
    report = run.report_md.read_text()
    assert "### Under which right files were taken" in report
    most = max(rows, key=lambda row: len(row["files"].split()))
    assert f"| {most['distribution']} | {most['licence']} | {in_words(most['evidence'])} |" in report
    held = rights.read(run.sft_adapter)
    assert held and held.guards[0].suites and (run.sft_adapter / "attribution" / "sft.csv").exists()
    named = {holder.who for notice in held.notices for holder in notice.holders}
    assert named == {row["distribution"] for row in rows}
    assert "`NOTICES.txt` has the licence texts" in (run.sft_adapter / "README.md").read_text()
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


def test_status_tells_of_a_finished_run(finished: Run, cli: Cli) -> None:
    done = cli("status", "--run", finished.root, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    stages = {one["name"]: one for one in found["stages"]}
    assert found["outcome"] == "complete" and found["now"] is None and found["left_s"] == 0
    assert stages["sft"]["state"] == "done" and 0 < stages["sft"]["used_s"] < 600 and stages["sft"]["planned_s"] > 0
    assert stages["grm"]["state"] == "left out" and "grm.when=never" in stages["grm"]["note"]


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
