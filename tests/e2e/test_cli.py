"""A user's mistake ends with exit code 2 and one sentence: the value, the cause, the way out. Never a traceback."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from app.models.adapters import WEIGHTS, check_adapter, load_merged
from app.profiles import smoke
from app.runs import Run
from app.settings import SftSettings
from tests.conftest import ROOT, Cli


def one_sentence(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pull", "--profile", "labtop"], ["'labtop'", "did you mean 'laptop'"]),
        (["pull", "--profile", "smoke", "--set", "sft.lora_r=0"], ["sft.lora_r=0", ">= 1"]),
        (["pull", "--profile", "smoke", "--set", "sft.rank=4"], ["unknown key 'rank'"]),
        (["pull", "--profile", "smoke", "--set", "corpus.recipe=no.yaml"], ["'no.yaml'", "corpus.recipe"]),
        (
            ["pull", "--profile", "smoke", "--set", "model.source=path", "--set", "model.name=/no/model"],
            ["/no/model", "config.json"],
        ),
        (["plan", "--profile", "smoke", "--run", "/no/run"], ["/no/run", "no complete corpus"]),
        (["pipeline", "--profile", "smoke", "--resume"], ["--resume needs --run"]),
        (["pipeline", "--profile", "smoke", "--run", "s3://bucket/run"], ["'s3://bucket/run' is a URL", "cluster.md"]),
        (["report", "--run", "/no/run"], ["/no/run", "is no run directory"]),
        (["report", "--tune", "/no/tune"], ["/no/tune", "runs/NAME/evolve/tune"]),
        (["status", "--run", "/no/run"], ["/no/run", "is not there"]),
        (["serve", "--profile", "labtop"], ["'labtop'", "did you mean 'laptop'"]),
        (["serve", "--profile", "smoke", "--config", "/no/serve.yaml"], ["/no/serve.yaml", "serve_configs/*.yaml"]),
        (["serve", "--profile", "smoke", "--run", "/no/run"], ["/no/run", "is no run"]),
        (
            ["serve", "--profile", "smoke", "--run", "none", "--set", "serving.max_lora_rank=7"],
            ["max_lora_rank=7", "8"],
        ),
        (["keys", "remove", "nobody"], ["nobody"]),
        (
            ["grm", "--profile", "smoke", "--run", "/no/run", "--set", "grm.rate_band=[1,0]"],
            ["grm.rate_band=(1.0, 0.0) holds no solve rate"],
        ),
        (["truncate", "--adapter", "/no/adapter", "--rank", "4"], ["/no/adapter", "adapter_config.json"]),
        (["export", "--run", "/no/run", "--gguf", "F16"], ["/no/run", "holds no run.json"]),
        (["truncate", "--adapter", "/no/adapter", "--rank", "0"], ["--rank 0", "give 1 or more"]),
    ],
    ids=lambda value: " ".join(value[:1] + value[-1:]) if isinstance(value, list) else None,
)
def test_bad_input_gives_one_sentence(cli: Cli, arguments: list[str], words: list[str]) -> None:
    sentence = one_sentence(cli(*arguments))
    assert all(word in sentence for word in words), sentence


@pytest.mark.parametrize(
    ("source", "words"),
    [("our", "unknown source of problems 'our': did you mean 'ours'"), ("/no/own.jsonl", "/no/own.jsonl")],
)
def test_problems_that_are_not_there_are_told_before_anything_starts(
    cli: Cli, cache: Path, tmp_path: Path, source: str, words: str
) -> None:
    done = cli("grm", "--profile", "smoke", "--run", tmp_path / "run", "--set", f"grm.problems=[{source}]")
    assert words in one_sentence(done) and "started Ray" not in done.stderr


def test_a_model_that_can_not_be_fetched_says_from_where(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    sentence = one_sentence(cli("pull", "--profile", "rtx3070"))
    for word in ("'Qwen/Qwen3-1.7B' is missing", "Hugging Face Hub", "model.source=path"):
        assert word in sentence, sentence


@pytest.mark.parametrize("command", ["corpus", "pipeline", "evaluate"])
def test_a_model_without_a_chat_template_is_told_so_before_anything_is_built(
    cli: Cli, smoke_model: Path, tmp_path: Path, command: str
) -> None:
    base = tmp_path / "base"
    shutil.copytree(smoke_model, base, ignore=shutil.ignore_patterns("chat_template.jinja"))
    run = tmp_path / "run"
    model = ["--set", "model.source=path", "--set", f"model.name={base}"]
    options = ["--model", base, "--profile", "smoke"] if command == "evaluate" else ["--profile", "smoke", *model]
    sentence = one_sentence(cli(command, *options, "--run", run))
    assert "the model has no chat template, which " in sentence and " needs: " in sentence
    assert not list(run.rglob("*.parquet")) and not (run / "corpus").exists() and not (run / "evaluation").exists()


@pytest.fixture(scope="module")
def adapter(smoke_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter of rank 8 on all linear layers of the smoke model, both of whose sides are drawn at random."""
    from transformers import AutoModelForCausalLM

    from app.training import lora

    base = AutoModelForCausalLM.from_pretrained(smoke_model, dtype=torch.float32)
    model = lora.attach(base, SftSettings(lora_r=8, lora_alpha=16), seed=0)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    folder = tmp_path_factory.mktemp("adapters") / "whole"
    lora.save(model, folder)
    return folder


def products(folder: Path) -> dict[str, np.ndarray]:
    """What an adapter adds to each weight, by the base model's name of it: [out, in], float64."""
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = {name: tensor.double().numpy() for name, tensor in load_file(folder / WEIGHTS).items()}
    scale = config["lora_alpha"] / config["r"]
    return {
        name.removeprefix("base_model.model.").replace("lora_A.weight", "weight"): scale
        * tensors[name.replace("lora_A", "lora_B")]
        @ a
        for name, a in tensors.items()
        if "lora_A" in name
    }


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.arange(1000, 1064)[None]).logits
    return found


def test_truncate_writes_the_best_adapter_of_its_rank(cli: Cli, adapter: Path, smoke_model: Path) -> None:
    """numpy cuts the whole products, and the base model with them in its weights is what the adapter has to make."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    done = cli("truncate", "--adapter", adapter, "--rank", "3")
    small = adapter.with_name("whole-r3")
    assert done.returncode == 0 and done.stdout.startswith("adapter of rank 3 from 8, "), done.stderr
    assert done.stdout.strip().endswith(f": {small}") and len(done.stdout.splitlines()) == 1
    expected = AutoModelForCausalLM.from_pretrained(smoke_model, dtype=torch.float32)
    weights, found = dict(expected.named_parameters()), products(small)
    left_out = total = 0.0
    for name, whole in products(adapter).items():
        u, values, v = np.linalg.svd(whole, full_matrices=False)
        best = (u[:, :3] * values[:3]) @ v[:3]
        assert np.abs(found[name] - best).max() < 1e-5 * np.abs(best).max() + 1e-7, name
        weights[name].data += torch.from_numpy(best).float()
        left_out, total = left_out + (values[3:] ** 2).sum(), total + (values**2).sum()
    assert f", {(left_out / total) ** 0.5:.2%} off what the whole one adds" in done.stdout

    settings = smoke().model
    check_adapter(small, smoke_model)
    merged = load_merged(smoke_model, settings, torch.device("cpu"), str(small))
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(smoke_model, dtype=torch.float32), small)
    for model in (merged, plain.eval()):
        torch.testing.assert_close(logits(model), logits(expected.eval()), atol=1e-4, rtol=1e-4)
    assert (
        logits(load_merged(smoke_model, settings, torch.device("cpu"), str(adapter))) - logits(merged)
    ).abs().max() > 1e-2

    assert f"{small} is there already" in one_sentence(cli("truncate", "--adapter", adapter, "--rank", "3"))
    assert "has rank 8 already" in one_sentence(cli("truncate", "--adapter", adapter, "--rank", "8"))
    assert "can't grow to 257: 256 at most" in one_sentence(cli("truncate", "--adapter", adapter, "--rank", "257"))


def test_truncate_to_more_ranks_says_that_it_fills_up(cli: Cli, adapter: Path, tmp_path: Path) -> None:
    done = cli("truncate", "--adapter", adapter, "--rank", "12", "--out", tmp_path / "large")
    assert done.stdout.strip() == (
        f"rank 12 is more than the adapter's 8, so it was filled up and does the same: {tmp_path / 'large'}"
    ), done.stderr
    whole, large = products(adapter), products(tmp_path / "large")
    assert all(np.abs(large[name] - whole[name]).max() < 1e-6 for name in whole)


def test_a_profile_that_needs_a_card_says_so_instead_of_waiting(
    job: tuple[Path, str], cli: Cli, tmp_path: Path
) -> None:
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has a card")
    folder = tmp_path / "run"
    shutil.copytree(Run(job[0]).corpus, folder / "corpus")
    arguments = ["--profile", "smoke", "--set", "sft.use_gpu=true", "--run", folder]
    (folder / "run.json").write_text(
        (job[0] / "run.json").read_text().replace('"use_gpu": false', '"use_gpu": true', 1)
    )
    assert "needs 1 GPU(s) and the Ray cluster has 0" in one_sentence(cli("sft", *arguments))


def test_stages_out_of_order_name_the_one_to_run_first(cli: Cli, cache: Path, tmp_path: Path) -> None:
    sentence = one_sentence(cli("evaluate", "--profile", "smoke", "--run", tmp_path / "r"))
    assert "lacks sft/meta.json: run `python -m app sft --profile smoke" in sentence


def test_a_read_only_run_directory_is_refused(cli: Cli) -> None:
    # /proc refuses everybody, root included
    assert "can't be written" in one_sentence(cli("pipeline", "--profile", "smoke", "--run", "/proc/pocketcoder"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
def test_a_full_disk_is_named_before_any_work(cli: Cli, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if mount.returncode:
        pytest.skip(f"no file system can be mounted here: {mount.stderr.strip()}")
    try:
        (disk / "filler").write_bytes(b"x" * 4096)
        sentence = one_sentence(cli("pipeline", "--profile", "smoke", "--run", disk / "run"))
        assert "No space left" in sentence and "another --run" in sentence
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_v8_an_address_for_others_is_refused_without_a_lasting_key(cli: Cli, tmp_path: Path) -> None:
    config = (ROOT / "serve_configs/laptop.yaml").read_text().replace("host: 127.0.0.1", "host: 0.0.0.0")
    (tmp_path / "open.yaml").write_text(config)
    keys = {"POCKETCODER_KEYS": str(tmp_path / "keys.json")}
    done = cli("serve", "--profile", "smoke", "--run", "none", "--config", tmp_path / "open.yaml", env=keys)
    assert done.returncode == 2 and "0.0.0.0" in done.stderr and "python -m app keys add NAME" in done.stderr
    assert "Traceback" not in done.stderr
