"""A cluster that can't be joined is said within seconds; one is started where the usual folders won't do."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import ray

from tests import commands
from tests.conftest import ROOT

START = """
import os
import ray
from app.cluster.offline import offline
from app.cluster.session import connected
from app.hardware import can_share_locks
from app.settings import ClusterSettings
with offline(), connected(ClusterSettings(num_cpus=1, object_store_bytes=100 << 20, dashboard=False)):
    print(6 * ray.get(ray.remote(lambda: 7).remote()), ray.get(ray.remote(lambda: os.environ["ENV"]).remote()))
print(can_share_locks(), os.environ["ENV"])
"""


DEVICES = ("null", "zero", "full", "random", "urandom")
BARE = [
    "bwrap", "--unshare-user", "--uid", "54321", "--gid", "54321", "--dev-bind", "/", "/", "--tmpfs", "/dev",
    *(word for name in DEVICES for word in ("--dev-bind", f"/dev/{name}", f"/dev/{name}")),
]  # fmt: skip
"""A container without /dev/shm, as a user that has no name."""


def run(code: str, *around: str, **env: str) -> subprocess.CompletedProcess[str]:
    """around: the command that runs it."""
    everything = os.environ | {"POCKETCODER_CACHE": "/proc"} | env
    return subprocess.run(
        [*around, sys.executable, "-c", code], cwd=ROOT, env=everything, capture_output=True, text=True, timeout=100
    )


@dataclass(frozen=True)
class Joined:
    code: int | None
    last: str
    """Line that it said."""


@pytest.fixture
def join(tmp_path: Path) -> Callable[..., Joined]:
    """Try to join a cluster, with these variables, in a process of its own."""

    def call(*options: str, **env: str) -> Joined:
        log = tmp_path / "log"
        everything = os.environ | {"POCKETCODER_CACHE": "/proc"} | env
        process = commands.started([*options], everything, [log, log], module="tests.ray.join")
        process.join(timeout=100)
        process.kill()
        return Joined(process.exitcode, log.read_text().strip().splitlines()[-1])

    return call


@pytest.mark.parametrize("part", ["gcs_server", "raylet"])
def test_a_head_that_is_lost_while_ray_starts_is_said_at_once(part: str, tmp_path: Path) -> None:
    """Ray would wait for a minute, and then end the command without a word. (Of a GCS that ends before it has a port
    Ray lets nobody know for half a minute.)"""
    log = tmp_path / "log"
    env = os.environ | {"RAY_ADDRESS": "local"}
    process = commands.started([], env, [log, log], module="tests.ray.join")
    assert process.pid
    found, start = dict[str, psutil.Process](), time.monotonic()
    while "raylet" not in found:
        assert process.exitcode is None and time.monotonic() < start + 60, log.read_text()
        found = {child.name(): child for child in psutil.Process(process.pid).children()}
    found[part].kill()
    process.join(timeout=30)
    process.kill()
    process.join()
    assert process.exitcode == 2, log.read_text()
    said = f"pocketcoder: Ray's {part} on this machine has ended, most often for lack of memory: give the same command"
    assert said in log.read_text() and "Traceback" not in log.read_text()


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections and never answers, as a cluster does that is stopped."""
    with socket.socket() as listener:
        listener.bind(("", 0))
        listener.listen()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def gone() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.parametrize("address", ["gone", "silent", "no-such-host.invalid:6379"])
def test_a_cluster_that_does_not_answer_is_said_within_20_seconds(
    address: str, request: pytest.FixtureRequest, join: Callable[..., Joined]
) -> None:
    named = request.getfixturevalue(address) if address in ("gone", "silent") else address
    start = time.monotonic()
    last = join(RAY_ADDRESS=named).last
    assert time.monotonic() - start < 20
    assert f"the Ray cluster at RAY_ADDRESS='{named}' can't be joined" in last and "unset RAY_ADDRESS" in last


def test_a_cluster_that_is_lost_while_it_is_joined_is_said(gone: str, join: Callable[..., Joined]) -> None:
    """Ray would try for more than two minutes."""
    start = time.monotonic()
    joined = join("--lost", RAY_ADDRESS=gone)
    assert time.monotonic() - start < 30 and joined.code == 2
    assert joined.last.startswith(f"pocketcoder: the Ray cluster at {gone} was lost while it was joined (")
    assert joined.last.endswith("give the same command again to go on (`pipeline` with --resume)")


@pytest.mark.parametrize("address", ["ray://somewhere:10001", "http://127.0.0.1:8265", "somewhere", ":6379", "host:x"])
def test_what_is_no_address_of_a_cluster_is_said(address: str, join: Callable[..., Joined]) -> None:
    assert f"RAY_ADDRESS='{address}' is no cluster address: give HOST:6379" in join(RAY_ADDRESS=address).last


def test_v9_without_its_token_a_cluster_takes_nobody(local_ray: None, join: Callable[..., Joined]) -> None:
    """Its ports are open to this machine's network, and Ray runs whatever it is sent."""
    address = ray.get_runtime_context().gcs_address
    done = join(RAY_ADDRESS=address, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64)
    said = f"the Ray cluster at RAY_ADDRESS='{address}' can't be joined"
    assert done.code and said in done.last and "token" in done.last


def test_ray_starts_under_a_long_temporary_folder_without_a_home_shared_memory_or_a_user_that_has_a_name(
    tmp_path: Path,
) -> None:
    around = BARE if shutil.which("bwrap") and not subprocess.run([*BARE, "true"]).returncode else []
    long = tmp_path / ("job_of_somebody_" * 6)
    long.mkdir()
    done = run(START, *around, TMPDIR=str(long), HOME="/proc", RAY_ADDRESS="local", ENV="online")
    assert done.stdout.split() == ["42", "offline", str(not around), "online"], done.stderr[-3000:]
    assert "can't hold Ray's sockets" in done.stderr and "can't keep Ray's token" in done.stderr
    assert not around or "no /dev/shm: Ray's object store lies in /" in done.stderr
