"""Dockerfile and compose files, as far as they can be checked without an engine: by a parser of Compose's format, by
hadolint and docker-compose where they are installed, and against what the project itself says.
"""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.cli import _parser
from app.errors import UserError
from app.profiles import get_profile
from app.serving.command import _check, prepare
from app.serving.config import is_public
from tests.conftest import ROOT

COMPOSE, CARD = ROOT / "compose.yaml", ROOT / "compose.card.yaml"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
DIGEST = re.compile(r"@sha256:[0-9a-f]{64}\b")


def filled_in(path: Path) -> str:
    """The file as Compose reads it where no variable is set."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", r"\2", path.read_text())


def services(path: Path = COMPOSE) -> dict[str, Any]:
    return yaml.safe_load(filled_in(path))["services"]


def instructions(name: str) -> list[str]:
    """What stands after each instruction of this name, lines that go on joined."""
    return re.findall(rf"(?m)^{name} (.+)$", DOCKERFILE.replace("\\\n", " "))


@pytest.mark.parametrize("path", [COMPOSE, CARD], ids=lambda path: path.name)
def test_compose_reads_the_file(path: Path) -> None:
    compose = pytest.importorskip("compose_spec", reason="compose-spec comes with `make setup-dev`").PyCompose
    assert compose.from_yaml(filled_in(path)).service_names()
    with pytest.raises(ValueError, match="prots"):
        compose.from_yaml("services: {a: {image: x, prots: []}}")


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed")
@pytest.mark.parametrize("files", [[COMPOSE], [COMPOSE, CARD]], ids=len)
def test_docker_compose_accepts_the_files(files: list[Path]) -> None:
    options = [option for path in files for option in ("--file", str(path))]
    done = subprocess.run(["docker-compose", *options, "config", "--quiet"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed")
def test_hadolint_finds_nothing() -> None:
    done = subprocess.run(["hadolint", "Dockerfile"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_image_is_pinned_by_its_digest() -> None:
    stages = re.findall(r" AS (\w+)$", "\n".join(f" {line}" for line in instructions("FROM")), re.MULTILINE)
    for image in instructions("FROM"):
        assert DIGEST.search(image) or image.split()[0] in stages, image
    for service in services().values():
        assert DIGEST.search(service["image"]) or "build" in service


def test_nothing_runs_as_root_or_may_become_it() -> None:
    assert instructions("USER") == ["${UID}"] and "USER" not in DOCKERFILE.rpartition("FROM base")[0]
    for name, service in services().items():
        assert service.get("user", "") == ("redis" if name == "redis" else ""), "the image's own user, or Redis'"
        assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
        assert "privileged" not in service and "cap_add" not in service


def test_only_this_machine_reaches_the_server_and_only_the_server_redis() -> None:
    found = services()
    (port,) = found["server"]["ports"]
    assert port == "127.0.0.1:8000:8000" and "ports" not in found["redis"]
    networks = yaml.safe_load(COMPOSE.read_text())["networks"]
    assert found["redis"]["networks"] == ["cache"] and networks["cache"]["internal"] is True


def test_every_service_says_when_it_works_and_the_server_waits_for_redis() -> None:
    found = services()
    assert all(service["healthcheck"]["test"][0] == "CMD" for service in found.values())
    assert found["server"]["depends_on"] == {"redis": {"condition": "service_healthy"}}
    check = found["server"]["healthcheck"]["test"][-1]
    assert check in " ".join(instructions("HEALTHCHECK")) and "/health" in check
    compile(check, "healthcheck", "exec")


@pytest.mark.parametrize("path", [COMPOSE, CARD], ids=lambda path: path.name)
def test_the_server_starts_with_options_that_the_command_takes(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = _parser().parse_args(services(path)["server"]["command"])
    config, profile = prepare(arguments)
    assert is_public(config) and config["http_options"]["port"] == 8000
    assert profile.docsearch.redis_url == "redis://redis:6379/0"
    assert profile.name == ("laptop" if path == COMPOSE else "rtx3070")
    monkeypatch.setenv("POCKETCODER_KEYS", str(tmp_path / "none.json"))
    config["applications"] = config["applications"][1:]  # of the first, weights would be looked for
    with pytest.raises(UserError, match="no lasting API key"):
        _check(config)


def test_keys_weights_and_runs_come_from_outside() -> None:
    (env,) = instructions("ENV")
    places = dict(re.findall(r'(\w+)="?([^\s"]+)"?', env))
    server, secret = services()["server"], yaml.safe_load(filled_in(COMPOSE))["secrets"]["keys"]
    volumes = dict(volume.split(":")[::-1] for volume in server["volumes"])
    assert {places["POCKETCODER_CACHE"], places["POCKETCODER_RUNS"]} == set(volumes)
    assert places["POCKETCODER_KEYS"] == f"/run/secrets/{server['secrets'][0]['target']}"
    assert secret == {"file": "./keys/keys.json"} and "keys/" in (ROOT / ".gitignore").read_text().split()


def test_the_image_holds_what_serving_reads_and_nothing_of_the_users() -> None:
    copied = {name for line in instructions("COPY") if "--from" not in line for name in line.split()[:-1]}
    let_in = {line[1:].rstrip("/") for line in (ROOT / ".dockerignore").read_text().split("\n") if line[:1] == "!"}
    assert copied == let_in and all((ROOT / name).exists() for name in copied)
    assert {"app", "actors", "tune_spaces", "datasets", "serve_configs"} <= copied
    assert not copied & {"runs", "keys", ".git", "tests"}


def test_the_image_holds_the_client_of_redis() -> None:
    """No set of dependencies has it, and without it the server would not start."""
    (install,) = [line for line in instructions("RUN") if "make setup" in line]
    assert re.search(r"uv pip install .*--constraint constraints/cpu.txt redis$", install)
    assert "\nredis==" in (ROOT / "constraints/cpu.txt").read_text()


@pytest.mark.parametrize(("path", "profiles"), [(COMPOSE, ["smoke", "laptop"]), (CARD, ["rtx3070", "workstation"])])
def test_memory_that_processes_share_is_enough_for_rays_object_store(path: Path, profiles: list[str]) -> None:
    size = int(services(path)["server"]["shm_size"].removesuffix("gb")) << 30
    assert size >= max(get_profile(name).cluster.object_store_bytes for name in profiles) + (1 << 30)
