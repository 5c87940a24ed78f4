"""The evaluate command as its users start it: other suites of a run, any model, prompts, contamination, bad input."""

import json
import shutil
from pathlib import Path

import pytest

from app.files.json_files import read_json, read_json_lines
from app.runs import Run
from tests.conftest import Cli
from tests.e2e.test_cli import one_sentence

FEW = ("--set", "evaluation.num_problems=4", "--set", "evaluation.max_new_tokens=8")


def test_a_run_is_measured_on_other_suites_without_changing_it(finished: Run, cli: Cli) -> None:
    before = finished.info.read_text(), finished.suite_result("humaneval-chat-6", "base").read_text()
    done = cli("evaluate", "--run", finished.root, "--suite", "repo,search_docs", *FEW, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    labels = ["repo-chat-4", "search_docs-chat-4"]
    assert [(r["suite"], r["candidate"]) for r in found["results"]] == [(n, c) for c in ("base", "sft") for n in labels]
    assert all(r["pass_at"]["1"]["num_problems"] == 4 for r in found["results"])
    assert found["results"][1]["tiers"] == {"structure": 4}
    assert [c["suite"] for c in found["comparisons"]] == labels
    settings = json.loads(before[0])["settings"]
    assert read_json(finished.info)["settings"] == settings and settings["evaluation"]["suites"] == ["humaneval"]
    assert finished.suite_result("humaneval-chat-6", "base").read_text() == before[1]
    for label in labels:
        result = read_json(finished.suite_result(label, "sft"))
        assert result["contamination"]["problems"] == 4 and result["adapter"] == str(finished.sft_adapter)
        assert result["sampling"]["temperature"] == 0 and len(result["template_sha256"]) == 64
    assert cli("report", "--run", finished.root).returncode == 0
    assert "repo-chat-4" in finished.report_md.read_text()


def test_several_samples_of_any_model_folder_are_drawn_and_kept(smoke_model: Path, cli: Cli, tmp_path: Path) -> None:
    hot = ("--set", "evaluation.num_samples=10", "--set", "evaluation.temperature=0.8")
    place = ("--model", smoke_model, "--run", tmp_path / "r", "--profile", "smoke")
    arguments = ("evaluate", *place, *FEW, *hot, "--best-of", "2", "--json")
    done = cli(*arguments)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    (result,), (system,) = shown["results"], shown["best_of"]
    assert (result["candidate"], result["num_samples"], set(result["pass_at"])) == ("base", 40, {"1", "10"})
    rows = read_json_lines(Run(tmp_path / "r").suite_samples("humaneval-chat-4-n10-t0.8", "base"))
    names = {(row["draft"]["problem_id"], row["draft"]["sample"]) for row in rows}
    assert len(names) == 40 and len({row["draft"]["text"] for row in rows}) > 10
    assert (system["suite"], system["num_drafts"], system["score"]["num_problems"]) == ("humaneval", 2, 4)
    assert sum(system["chosen_by"].values()) == 4 and system["tokens_a_problem"] > 2
    assert system["against_pass_at_1"]["num_problems"] == 4
    again = cli(*arguments)
    assert json.loads(again.stdout) == shown and "evaluate: complete" in again.stderr


def test_a_result_is_never_shown_for_other_settings(finished: Run, cli: Cli) -> None:
    longer = ("--set", "evaluation.max_new_tokens=17")
    sentence = one_sentence(cli("evaluate", "--run", finished.root, *longer))
    assert "measured with other settings (sampling.max_new_tokens: 16 -> 17)" in sentence, sentence
    slower = ("--set", "sandbox.timeout_s=9")
    assert "sandbox.timeout_s: 3.0 -> 9.0" in one_sentence(cli("evaluate", "--run", finished.root, *slower))


def test_an_adapter_of_another_base_is_refused_before_anything_is_measured(
    finished: Run, cli: Cli, tmp_path: Path, smoke_model: Path
) -> None:
    adapter = tmp_path / "other"
    shutil.copytree(finished.sft_adapter, adapter)
    from safetensors.torch import load_file, save_file

    weights = load_file(adapter / "adapter_model.safetensors")
    wide = {name: w.repeat(1, 2) if "lora_A" in name else w.repeat(2, 1) for name, w in weights.items()}
    save_file(wide, adapter / "adapter_model.safetensors")
    done = cli("evaluate", "--run", finished.root, "--suite", "repo", *FEW, "--adapter", adapter)
    assert "was made for another base model" in one_sentence(done) and "started Ray" not in done.stderr
    missing = cli(
        "evaluate", "--model", smoke_model, "--run", tmp_path / "r", "--profile", "smoke", "--adapter", tmp_path
    )
    assert "is no PEFT folder" in one_sentence(missing)


def test_contamination_names_each_problems_longest_overlap(finished: Run, cli: Cli) -> None:
    done = cli("evaluate", "--contamination", "--run", finished.root, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {"humaneval", "repo", "search_docs"} <= found.keys() and found["humaneval"]["problems"] == 164
    rows = read_json(finished.contamination("humaneval"))["problems"]
    assert len(rows) == 164 and all(len(row["text"].split()) == row["words"] for row in rows)
    # what shares ten words with a benchmark was left out of the corpus; runs of numbers may be left
    assert rows[0]["words"] == found["humaneval"]["longest_words"] < 40


def test_the_exact_prompt_of_a_problem_is_shown(finished: Run, cli: Cli) -> None:
    chat = cli("evaluate", "--run", finished.root, "--show-prompt", "HumanEval/0").stdout
    assert chat.startswith("<|im_start|>") and chat.endswith("<|im_start|>assistant\n\n")
    completion = ("--set", "evaluation.protocols=[completion]")
    text = cli("evaluate", "--profile", "smoke", *completion, "--show-prompt", "HumanEval/0").stdout
    assert text.startswith("from typing import List") and text.endswith('"""\n')


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["--run DIR or --model NAME_OR_PATH"]),
        (["--run", "/no/run"], ["/no/run holds no run.json"]),
        (["--model", "/no/model"], ["--model /no/model does not exist", "a GGUF file"]),
        (["--samples", "/no/file"], ["--samples /no/file can't be read"]),
        (["--samples", "x", "--model", "y"], ["--model and --samples can't go together"]),
        (["--samples", "x", "--best-of", "4"], ["--samples and --best-of can't go together"]),
        (["--model", "y", "--best-of", "1"], ["--best-of 1 is no choice: give 2 to 64 drafts"]),
        (["--samples", "x", "--suite", ""], ["unknown suite ''"]),
        (["--samples", "x", "--set", "sft.max_steps=2"], ["sft.max_steps=2 changes nothing about given samples"]),
        (["--samples", "x", "--suite", "humanevl"], ["unknown suite 'humanevl'", "did you mean 'humaneval'"]),
        (["--profile", "smoke", "--show-prompt", "HumanEval/999"], ["no problem 'HumanEval/999'", "did you mean"]),
        (["--profile", "smoke", "--contamination"], ["--contamination needs --run"]),
    ],
    ids=lambda value: " ".join(value) if value else "nothing",
)
def test_bad_input_gives_one_sentence(cli: Cli, arguments: list[str], words: list[str]) -> None:
    sentence = one_sentence(cli("evaluate", *arguments))
    assert all(word in sentence for word in words), sentence


def test_a_suite_whose_problems_are_nowhere_says_where_to_get_them(
    finished: Run, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    sentence = one_sentence(cli("evaluate", "--run", finished.root, "--suite", "mbpp"))
    assert "mbpp is not here" in sentence and "google-research-datasets/mbpp" in sentence and "--problems" in sentence
