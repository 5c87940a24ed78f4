"""A command given a run knows the run's settings, and paths of every option may begin with a tilde."""

import argparse
import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from app.cli import _parser, _pull, _stage
from app.errors import UserError
from app.files.user_files import user_path
from app.overrides import with_overrides
from app.profiles import smoke
from app.running.run_settings import chosen_profile
from app.runs import open_run
from tests.conftest import ROOT, Cli
from tests.tiny_model import write_model


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A run with settings of its own."""
    with open_run(tmp_path / "run", with_overrides(smoke(), ["sft.max_steps=7"]), resume=False) as run:
        return run.root


def test_a_command_with_a_run_has_the_runs_settings(own: Path) -> None:
    assert chosen_profile(own, None).sft.max_steps == 7
    assert chosen_profile(own, "smoke").sft.max_steps == 7, "the run is of this profile"
    assert chosen_profile(own, "laptop").name == "laptop", "what it holds decides whether that is possible"
    assert chosen_profile(own.parent / "new", "smoke").sft.max_steps == 12


def test_a_command_that_can_not_know_its_settings_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs --profile P .smoke, laptop"):
        chosen_profile(None, None)
    with pytest.raises(UserError, match="holds no run.json, so it is no run"):
        chosen_profile(tmp_path, None)


def test_a_command_without_a_stage_of_its_own_does_not_do_another_one_s(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own / "sft").mkdir()
    (own / "sft/meta.json").write_text("{}")
    given = {"run": own, "profile": None, "overrides": []}
    _stage(argparse.Namespace(command="sft", **given))
    assert capsys.readouterr().out == f"sft: {own / 'sft'}\n"
    with pytest.raises(KeyError):
        _stage(argparse.Namespace(command="report", **given))


@pytest.mark.parametrize("command", ["plan", "pull"])
def test_the_profile_may_be_left_out_where_there_is_a_run(own: Path, cli: Cli, command: str, cache: Path) -> None:
    (own / "corpus").mkdir()
    held = {"rows": 10, "tokens": 1280, "fill": 0.9, "settings": {"seq_len": 128}}
    (own / "corpus/manifest.json").write_text(json.dumps(held))
    done = cli(command, "--run", own)
    assert done.returncode == 0 and "qwen3-2-layers" in done.stdout, done.stderr


def test_pull_fetches_what_self_reward_needs_beside_the_base(
    capsys: pytest.CaptureFixture[str], cache: Path, tmp_path: Path
) -> None:
    write_model(tmp_path, ["a"])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.eos_token = "<pad>"
    tokenizer.save_pretrained(tmp_path)
    of_rft = ["grm.arm=rft", "grm.critic.train=always"]
    not_taught = ["model.source=path", f"model.name={tmp_path}"]
    for settings, critics in (
        ([], 0),
        (["grm.when=always", *of_rft], 1),
        (["grm.when=auto", *of_rft, *not_taught], 0),
        (["grm.when=always", *of_rft, *not_taught], 1),
    ):
        _pull(argparse.Namespace(run=None, profile="smoke", overrides=settings))
        assert capsys.readouterr().out.count("grm.critic.model qwen3-2-layers is at") == critics, settings


def commands_of_make(*arguments: str) -> list[str]:
    done = subprocess.run(["make", "-n", "run", *arguments], cwd=ROOT, capture_output=True, text=True)
    return [line for line in done.stdout.splitlines() if "-m app" in line]


def test_make_leaves_the_profile_to_a_run_that_is_there(own: Path) -> None:
    pull, pipeline = commands_of_make(f"RUN={own}")
    assert "--profile" not in pull + pipeline and f'--run "{own}" --resume' in pipeline and f'--run "{own}"' in pull
    assert all("--profile smoke" in line for line in commands_of_make(f"RUN={own}", "PROFILE=smoke"))
    assert all("--profile" in line for line in commands_of_make(f"RUN={own}-new"))
    assert all("--profile" in line and "--run" not in line for line in commands_of_make())


def test_make_takes_a_run_whatever_its_name(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("my run", "r[1]", "plain"):
        shutil.copytree(own, tmp_path / name)
        for path in (f"{tmp_path / name}", f"{tmp_path / name}/", f"~/{name}", os.path.relpath(tmp_path / name, ROOT)):
            pull, pipeline = commands_of_make(f"RUN={path}")
            assert "--profile" not in pull + pipeline, path
            assert user_path(shlex.split(pipeline)[-2]).resolve() == tmp_path / name


@pytest.mark.parametrize(
    ("command", "option"),
    [
        *((command, "--run") for command in ("pull", "plan", "pipeline", "corpus", "sft", "grm", "evaluate", "report")),
        *(("evaluate", option) for option in ("--adapter", "--samples", "--against")),
        ("serve", "--config"),
        ("sandbox", "--cases"),
    ],
)
def test_every_option_that_takes_a_path_takes_a_tilde(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str, option: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    parsed = vars(_parser().parse_args([command, f"{option}=~/x"]))
    assert parsed[option.removeprefix("--")] == tmp_path / "x"


def test_settings_that_are_paths_take_a_tilde(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/LICENSE").write_text((ROOT / "LICENSE").read_text())
    (tmp_path / "own/m.py").write_text("def f():\n    return 1\n")
    sources = [{"kind": "tree", "path": "~/own"}]
    (tmp_path / "r.yaml").write_text(f"name: own\nsources: {json.dumps(sources)}\n")
    home = {"HOME": str(tmp_path)}
    done = cli("corpus", "--check", "--profile", "smoke", "--set", "corpus.recipe=~/r.yaml", env=home)
    assert done.returncode == 0 and "recipe own can be built" in done.stdout, done.stderr
    model = ["--set", "model.source=path", "--set", "model.name=~/none"]
    assert "'~/none' is no model folder" in cli("plan", "--profile", "smoke", *model, env=home).stderr
    served = cli("serve", "--profile", "smoke", "--run", "~/none", env=home | {"POCKETCODER_KEYS": "~/keys.json"})
    assert f"{tmp_path / 'none'} holds no run.json" in served.stderr
