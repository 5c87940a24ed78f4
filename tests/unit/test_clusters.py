"""docs/cluster.md, the files of `docs/clusters/` and `cluster.yaml`, as far as they can be checked without a cluster:
by Ray's own schemas, by this program's command line, and what KubeRay's custom resources require. The jobs themselves
are run in `tests/e2e/test_jobs.py`.

POCKETCODER_CRDS may name a folder with KubeRay's `ray.io_rayjobs.yaml` and `ray.io_rayservices.yaml`: then the two
resources are held to them whole.
"""

import copy
import os
import re
import shlex
import subprocess
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click import ClickException
from jsonschema import ValidationError
from packaging.requirements import Requirement

from app.cli import _parser
from app.cluster.signals import STOP_S
from app.errors import UserError
from app.profiles import get_profile
from app.serving.config import check_config, is_public
from tests.conftest import ROOT
from tests.e2e import documented

FOLDER = ROOT / "docs" / "clusters"
LAUNCHED = [ROOT / "cluster.yaml", FOLDER / "aws.yaml"]
ENVIRONMENTS = [FOLDER / "prepared.yaml", FOLDER / "bare.yaml"]
RAY = next(Requirement(line) for line in (ROOT / "constraints/gpu.txt").read_text().splitlines() if line[:5] == "ray==")
VERSION = next(iter(RAY.specifier)).version


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def validate_launched(config: dict[str, Any]) -> None:
    """As `ray up` does before it starts anything."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(config))


@pytest.mark.parametrize("path", LAUNCHED, ids=lambda path: path.name)
def test_the_launcher_takes_the_file(path: Path) -> None:
    validate_launched(read(path))


@pytest.mark.parametrize("path", LAUNCHED, ids=lambda path: path.name)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda c: c.update(provder=c.pop("provider")),
        lambda c: c["auth"].update(ssh_usr="x"),
        lambda c: c.update(setup_commands="make setup"),
        lambda c: c.update(max_workers="2"),
        lambda c: c["provider"].pop("head_ip") if "head_ip" in c["provider"] else c.pop("head_node_type"),
        lambda c: c.update(docker={"image": "x"}),
    ],
)
def test_the_launcher_refuses_what_is_broken(path: Path, spoil: Callable[[Any], Any]) -> None:
    config = read(path)
    spoil(config)
    with pytest.raises((ValidationError, AssertionError, ClickException, KeyError, TypeError, ValueError)):
        validate_launched(config)


@pytest.mark.parametrize("path", LAUNCHED, ids=lambda path: path.name)
def test_every_node_is_set_up_and_started_with_token_code_and_shared_folder(path: Path) -> None:
    config = read(path)
    assert config["file_mounts"] == {"~/pocketcoder": ".", "~/.ray/auth_token": "~/.ray/auth_token"}
    assert {".venv", "runs", "keys"} <= set(config["rsync_exclude"])
    assert config["setup_commands"][-2:] == ["chmod 600 ~/.ray/auth_token", "cd ~/pocketcoder && make setup"]
    assert any(f"{documented.SHARED}/runs" in command for command in config["setup_commands"])
    for start in (config["head_start_ray_commands"][-1], config["worker_start_ray_commands"][-1]):
        variables, _, command = start.partition(";")
        given = dict(pair.split("=", 1) for pair in shlex.split(variables)[1:])
        assert given["RAY_AUTH_MODE"] == "token" and given["PYTHONPATH"] == "~/pocketcoder"
        assert given["POCKETCODER_RUNS"] == f"{documented.SHARED}/runs"
        assert command.split()[:2] == ["ray", "start"] and "0.0.0.0" not in command


def test_setup_is_a_target_of_the_makefile() -> None:
    assert re.search(r"(?m)^setup:", (ROOT / "Makefile").read_text())


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.name)
def test_ray_takes_the_runtime_environment(path: Path) -> None:
    from ray.runtime_env import RuntimeEnv

    given = read(path)
    assert RuntimeEnv(**copy.deepcopy(given))["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"] == "60"
    assert given["env_vars"]["POCKETCODER_RUNS"] == f"{documented.SHARED}/runs"
    for spoiled in (
        {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": 60}},
        {"uv": {"packages": "torch"}},
        {"uv": {"packges": []}},
    ):
        with pytest.raises((TypeError, ValueError)):
            RuntimeEnv(**spoiled)


def test_a_bare_node_gets_the_pinned_set_and_the_packages_beside_it() -> None:
    uv = read(FOLDER / "bare.yaml")["uv"]
    pins, *beside = uv["packages"]
    folder, _, file = pins.removeprefix("-r ").partition("/")
    assert folder == "${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}" and (ROOT / file).is_file()
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    assert beside == groups["data"] and uv["uv_pip_install_options"] == ["--no-deps"]
    text = (FOLDER / "bare.yaml").read_text()
    assert all(package in text for package in groups["vllm-cpu"]) and f"Ray {VERSION}" in text


RESOURCES = {"RayJob": FOLDER / "rayjob.yaml", "RayService": FOLDER / "rayservice.yaml"}
CLUSTER = {"RayJob": "rayClusterSpec", "RayService": "rayClusterConfig"}
KNOWN = {
    "RayJob": "activeDeadlineSeconds backoffLimit entrypoint rayClusterSpec runtimeEnvYAML shutdownAfterJobFinishes "
    "submissionMode ttlSecondsAfterFinished",
    "RayService": "rayClusterConfig serveConfigV2",
    "cluster": "authOptions headGroupSpec rayVersion workerGroupSpecs",
    "head": "rayStartParams template",
    "workers": "groupName maxReplicas minReplicas rayStartParams replicas template",
    "pod": "containers securityContext terminationGracePeriodSeconds volumes",
    "container": "env image lifecycle name ports resources volumeMounts",
}
"""Keys of KubeRay 1.7's resources, and of a pod, of which these files make use."""
REQUIRED = {
    "RayJob": "entrypoint rayClusterSpec",
    "RayService": "rayClusterConfig serveConfigV2",
    "cluster": "headGroupSpec rayVersion authOptions",
    "head": "rayStartParams template",
    "workers": "groupName maxReplicas minReplicas template",
    "pod": "containers",
    "container": "image name resources",
}


def check_resource(resource: dict[str, Any]) -> None:
    """Raise ValueError for what KubeRay or this project would not take."""
    kind, spec = resource["kind"], resource["spec"]
    if resource["apiVersion"] != "ray.io/v1" or not re.fullmatch(r"[a-z][a-z0-9-]{0,46}", resource["metadata"]["name"]):
        raise ValueError("apiVersion or name")
    check_keys(kind, spec)
    cluster = spec[CLUSTER[kind]]
    check_keys("cluster", cluster)
    if cluster["rayVersion"] != VERSION or cluster["authOptions"] != {"mode": "token"}:
        raise ValueError("rayVersion or authOptions")
    check_keys("head", cluster["headGroupSpec"])
    for group in cluster.get("workerGroupSpecs", ()):
        check_keys("workers", group)
        if not group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]:
            raise ValueError("replicas")
    for group in (cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", ())):
        check_pod(group["template"]["spec"])
    if kind == "RayJob":
        python, module, name, *arguments = shlex.split(spec["entrypoint"])
        parsed = _parser().parse_args(arguments)
        if (python, module, name) != ("python", "-m", "app") or not parsed.resume or not parsed.run.is_absolute():
            raise ValueError("entrypoint")
        get_profile(parsed.profile)
    else:
        from ray.serve.schema import ServeDeploySchema

        config = yaml.safe_load(spec["serveConfigV2"])
        check_config(config, "serveConfigV2", ServeDeploySchema)
        if not is_public(config) or any(not one["args"].get("keys_file") for one in config["applications"]):
            raise ValueError("a service that nobody reaches, or without keys")


def check_keys(what: str, given: dict[str, Any]) -> None:
    if unknown := given.keys() - KNOWN[what].split():
        raise ValueError(f"unknown in {what}: {unknown}")
    if missing := set(REQUIRED[what].split()) - given.keys():
        raise ValueError(f"missing in {what}: {missing}")


def check_pod(pod: dict[str, Any]) -> None:
    check_keys("pod", pod)
    volumes = {volume["name"] for volume in pod["volumes"]}
    for container in pod["containers"]:
        check_keys("container", container)
        if not all(isinstance(variable["value"], str) for variable in container["env"]):
            raise ValueError("the value of a variable is a text")
        if {"name": "PYTHONPATH", "value": "/pocketcoder"} not in container["env"]:
            raise ValueError("workers would not find the code")
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        if mounted != volumes or {"/runs", "/models"} - {mount["mountPath"] for mount in container["volumeMounts"]}:
            raise ValueError("volumes")


@pytest.mark.parametrize("path", RESOURCES.values(), ids=RESOURCES)
def test_kuberay_and_this_program_take_the_resource(path: Path) -> None:
    check_resource(read(path))


def test_a_job_that_is_deleted_has_time_for_its_checkpoint() -> None:
    resource = read(RESOURCES["RayJob"])
    pod = resource["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    waits = int(container_of(resource)["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert STOP_S < waits < pod["terminationGracePeriodSeconds"]
    assert {"name": "RAY_JOB_STOP_WAIT_TIME_S", "value": str(waits)} in container_of(resource)["env"]
    assert all(int(read(path)["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"]) > STOP_S for path in ENVIRONMENTS)


def container_of(resource: dict[str, Any]) -> dict[str, Any]:
    (container,) = resource["spec"][CLUSTER[resource["kind"]]]["headGroupSpec"]["template"]["spec"]["containers"]
    return container


@pytest.mark.parametrize("path", RESOURCES.values(), ids=RESOURCES)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda r: r.update(apiVersion="ray.io/v1alpha1"),
        lambda r: r["metadata"].update(name="Pocketcoder"),
        lambda r: r["spec"][CLUSTER[r["kind"]]].update(rayVersion="2.59.0"),
        lambda r: r["spec"][CLUSTER[r["kind"]]].pop("authOptions"),
        lambda r: r["spec"][CLUSTER[r["kind"]]].update(headGroup={}),
        lambda r: r["spec"][CLUSTER[r["kind"]]]["headGroupSpec"].pop("template"),
        lambda r: container_of(r).update(imag=container_of(r).pop("image")),
        lambda r: container_of(r)["env"].clear(),
        lambda r: container_of(r)["env"].append({"name": "X", "value": 60}),
        lambda r: container_of(r)["volumeMounts"].pop(),
    ],
)
def test_a_broken_resource_is_refused(path: Path, spoil: Callable[[Any], Any]) -> None:
    resource = read(path)
    spoil(resource)
    with pytest.raises(ValueError):
        check_resource(resource)


@pytest.mark.parametrize(
    "entrypoint",
    ["python -m app pipline --resume --run /runs/x",
     "python -m app pipeline --profile workstaton --resume --run /runs/x",
     "python -m app pipeline --profile workstation --resume --run runs/x", "pipeline --profile workstation"],
)  # fmt: skip
def test_an_entrypoint_that_could_not_run_is_refused(entrypoint: str) -> None:
    resource = read(RESOURCES["RayJob"])
    resource["spec"]["entrypoint"] = entrypoint
    with pytest.raises((ValueError, UserError, SystemExit)):
        check_resource(resource)


@pytest.mark.parametrize(
    ("old", "new"),
    [("host: 0.0.0.0", "host: 127.0.0.1"), ("http_options", "http_option"), (", keys_file: /keys/keys.json", ""),
     ("actors.ide:build", "actors.ide:bild"), ("profile: workstation", "profil: workstation")],
)  # fmt: skip
def test_a_service_that_would_not_serve_is_refused(old: str, new: str) -> None:
    resource = read(RESOURCES["RayService"])
    assert old in resource["spec"]["serveConfigV2"]
    resource["spec"]["serveConfigV2"] = resource["spec"]["serveConfigV2"].replace(old, new)
    with pytest.raises((ValueError, UserError)):
        check_resource(resource)


@pytest.mark.parametrize("kind", RESOURCES)
def test_the_resource_is_one_of_kuberays_schema(kind: str) -> None:
    folder = os.environ.get("POCKETCODER_CRDS")
    if not folder:
        pytest.skip("POCKETCODER_CRDS names no folder with KubeRay's definitions")
    definition = read(Path(folder) / f"ray.io_{kind.lower()}s.yaml")
    (schema,) = (v["schema"]["openAPIV3Schema"] for v in definition["spec"]["versions"] if v["name"] == "v1")
    schema["properties"]["metadata"] = {"type": "object"}
    validator = jsonschema.Draft7Validator(strict(schema))
    resource = read(RESOURCES[kind])
    assert not [error.message for error in validator.iter_errors(resource)]
    container_of(resource)["imag"] = "x"
    assert list(validator.iter_errors(resource)), "an unknown key is found"


def strict(schema: Any) -> Any:
    """The schema, as the API server reads it: keys that it does not know are refused, formats are its own."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {name: strict(part) for name, part in schema.items() if name != "format"}
    if "properties" in kept and "additionalProperties" not in kept:
        kept["additionalProperties"] = False
    return {} if kept.get("x-kubernetes-int-or-string") else kept


def sent_by_a_job(folder: Path, place: Path) -> set[str]:
    from ray._private.runtime_env.packaging import create_package

    create_package(str(folder), place / "sent.zip", include_gitignore=True)
    with zipfile.ZipFile(place / "sent.zip") as package:
        return {name for name in package.namelist() if not name.endswith("/")}


def test_a_job_sends_all_that_it_may_read(tmp_path: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a working copy of git's")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    left = ("docs/", "tests/", "benchmarks/")
    code = {name for name in listed if not name.startswith(left) and (ROOT / name).exists()}
    sent = sent_by_a_job(ROOT, tmp_path)
    assert code <= sent and not [name for name in sent if name.startswith(left)]


def test_a_job_sends_no_secrets_and_no_runs(tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    for name in ("app/cli.py", "keys/keys.json", ".env", "runs/a/run.json", ".venv/bin/python"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    (folder / ".rayignore").write_text((ROOT / ".rayignore").read_text())
    assert sent_by_a_job(folder, tmp_path) == {"app/cli.py", ".rayignore"}


def documented_commands() -> list[str]:
    parts = [
        block for head in ("A job", "Stop and go on", "Nodes without the project") for block in documented.blocks(head)
    ]
    return [line.partition(" -- ")[2] for part in parts for line in part.splitlines() if " -- " in line]


@pytest.mark.parametrize("command", documented_commands())
def test_what_the_page_submits_are_commands_of_this_program(command: str) -> None:
    python, module, name, *arguments = shlex.split(command)
    assert (python, module, name) == ("python", "-m", "app")
    assert _parser().parse_args(arguments).run.is_absolute()


def test_the_page_shows_every_stage_as_a_job() -> None:
    shown = {shlex.split(command)[3] for command in documented_commands()}
    assert shown == {"pipeline", "corpus", "sft", "grm", "evolve", "evaluate", "report"}
