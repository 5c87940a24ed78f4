"""Serve configs are held strictly: Serve itself ignores what it does not know, and would listen on every address."""

import copy
import json
import os
import socket
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from app.errors import UserError
from app.models.base import load_tokenizer
from app.profiles import PROFILES, get_profile, rtx3070
from app.serving import engine
from app.serving.arguments import LLMArguments
from app.serving.command import config_of, prepare, require_free_port
from app.serving.config import check_config, is_public, load_config
from app.serving.plan import plan_serving
from tests.conftest import ROOT

FILES = sorted((ROOT / "serve_configs").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_config_is_strictly_valid_local_and_names_a_profile(path: Path) -> None:
    config = load_config(path)
    assert not is_public(config)
    for application in config["applications"]:
        get_profile(application["args"]["profile"])


def test_there_is_one_for_each_place() -> None:
    assert [path.stem for path in FILES] == ["cluster", "laptop", "rtx3070"]
    assert {config_of(name).stem for name in PROFILES} == {"laptop", "rtx3070"}


def _deployment(config: dict[str, Any]) -> dict[str, Any]:
    scale = {"min_replicas": 1, "max_replicas": 2}
    (deployment,) = config["applications"][0].setdefault(
        "deployments", [{"name": "LLMServer", "autoscaling_config": scale}]
    )
    return deployment


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda c: c.update(http_option={}), "unknown key 'http_option' in the file; did you mean 'http_options'"),
        (lambda c: c["http_options"].update(hots="x"), "unknown key 'hots' in http_options; did you mean 'host'"),
        (lambda c: _deployment(c).update(max_ongoing_request=3), "did you mean 'max_ongoing_requests'"),
        (lambda c: _deployment(c)["autoscaling_config"].update(max_replica=3), "did you mean 'max_replicas'"),
        (lambda c: _deployment(c).update(ray_actor_options={"num_cpu": 1}), "did you mean 'num_cpus'"),
        (
            lambda c: c["applications"][0]["args"].update(profil="x"),
            "profil = 'x' is not possible (Extra inputs are not permitted)",
        ),
        (lambda c: c["applications"][0].update(import_path="a:b"), "import_path 'a:b' is none of this project's"),
        (lambda c: c["http_options"].pop("host"), "Serve would listen on every address: write 127.0.0.1"),
        (lambda c: c["http_options"].update(port="x"), "http_options.port = 'x' is not possible"),
        (lambda c: c.update(applications=3), "applications"),
    ],
)
def test_a_mistake_is_named_with_its_place(spoil: Callable[[Any], Any], said: str) -> None:
    config = copy.deepcopy(yaml.safe_load((ROOT / "serve_configs/cluster.yaml").read_text()))
    spoil(config)
    with pytest.raises(UserError) as caught:
        check_config(config, "x.yaml", ServeDeploySchema)
    assert said in str(caught.value)


def test_a_file_that_is_no_config_is_one_sentence(tmp_path: Path) -> None:
    for text in ("a: [", "just text", "[]"):
        (tmp_path / "x.yaml").write_text(text)
        with pytest.raises(UserError, match="x.yaml"):
            load_config(tmp_path / "x.yaml")
    with pytest.raises(UserError, match="there is no serve config"):
        load_config(tmp_path / "none.yaml")


def test_the_command_line_changes_the_config_and_its_profile_everywhere() -> None:
    arguments = Namespace(
        profile="smoke", config=None, run="runs/x", host="0.0.0.0", port=9, overrides=["sandbox.timeout_s=1"]
    )
    config, profile = prepare(arguments)
    assert config["http_options"] | {"host": "0.0.0.0", "port": 9} == config["http_options"] and is_public(config)
    assert profile.sandbox.timeout_s == 1
    llm, tools, ide = (application["args"] for application in config["applications"])
    assert llm == {"profile": "smoke", "overrides": ["sandbox.timeout_s=1"], "run": os.path.abspath("runs/x")}
    assert ide == llm
    assert tools == {"profile": "smoke", "overrides": ["sandbox.timeout_s=1"], "env": "offline"}


@pytest.mark.parametrize(
    ("env", "said"), [("online", "online"), ("training", "offline"), ("Online", "offline"), ("", "offline")]
)
@pytest.mark.parametrize("in_file", [{}, {"env": "online"}])
def test_the_commands_own_env_says_whether_the_network_may_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, env: str, said: str, in_file: dict[str, str]
) -> None:
    config = yaml.safe_load(FILES[0].read_text())
    config["applications"][1]["args"].update(in_file)
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("ENV", env)
    given = Namespace(profile=None, config=tmp_path / "own.yaml", run=None, host=None, port=None, overrides=[])
    assert [application["args"].get("env") for application in prepare(given)[0]["applications"]] == [None, said, None]


def test_a_run_of_a_card_is_served_in_float32_where_there_is_none(tmp_path: Path) -> None:
    trained = rtx3070().model_dump_json()
    (tmp_path / "run.json").write_text(json.dumps({"settings": json.loads(trained)}))
    place = LLMArguments(profile="laptop", run=str(tmp_path), session_keys=("0" * 64,)).resolve()
    assert (place.profile.model.name, place.profile.model.dtype) == ("Qwen/Qwen3-1.7B", "float32")


@pytest.mark.parametrize("name", PROFILES)
def test_every_profiles_engine_arguments_are_ones_that_vllm_knows(
    name: str, smoke_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed")
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    monkeypatch.setattr(engine, "card_gib", lambda: 24.0)
    profile = get_profile(name)
    serving = profile.serving.model_copy(update={"kv_offload_gib": 4.0, "speculation": "draft_model"})
    plan = plan_serving(smoke_model, profile.model, serving)
    tokenizer = load_tokenizer(smoke_model)
    arguments = engine.server_arguments(smoke_model, profile.model, serving, plan, tokenizer)
    parsed = make_arg_parser(FlexibleArgumentParser()).parse_args(arguments)
    by_plugin = {"bitsandbytes"}  # vllm-bnb-plugin, of the extra `gpu`
    assert parsed.quantization in {None, *QUANTIZATION_METHODS, *by_plugin}
    assert parsed.speculative_config["method"] == "draft_model"
    if serving.use_gpu:
        assert parsed.gpu_memory_utilization == pytest.approx(0.9 * serving.vram_gib / 24.0)


def test_nothing_is_served_before_there_is_a_key(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="app keys add NAME"):
        LLMArguments(profile="smoke", run="none", keys_file=str(tmp_path / "keys.json")).resolve()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no run"):
        LLMArguments(profile="smoke", run=str(tmp_path), session_keys=("0" * 64,)).resolve()


def test_a_port_that_is_taken_is_told_before_ray_is_started() -> None:
    """Serve would listen beside whoever does, and clients would reach now the one, now the other."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} of 127.0.0.1 .*--port PORT"):
            require_free_port("127.0.0.1", port)
    require_free_port("127.0.0.1", port)
