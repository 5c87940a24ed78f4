"""A real Ray cluster with its dashboard, in a process group of its own, and a run made on it by `ray job submit`."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Cluster:
    dashboard: str
    env: dict[str, str]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def cluster(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """`ray start --head --block` with a token, ended by its process group; `ray stop` would hit other people's Ray."""
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # socket paths allow no more than 107 characters
    port = free_port()
    env = os.environ | {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "POCKETCODER_RUNS": str(tmp_path_factory.mktemp("job-runs")),
    }
    options = [f"--port={free_port()}", "--num-cpus=2", f"--temp-dir={folder}", f"--dashboard-port={port}"]
    ports = [
        f"--{name}-port={free_port()}" for name in ("ray-client-server", "dashboard-agent-listen", "metrics-export")
    ]
    head = subprocess.Popen(
        [str(BIN / "ray"), "start", "--head", "--block", "--object-store-memory=200000000", *options, *ports],
        env=env,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(address, head)
        yield Cluster(address, env)
    finally:
        os.killpg(head.pid, signal.SIGTERM)
        try:
            head.wait(timeout=5)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(address: str, head: subprocess.Popen[bytes]) -> None:
    for _ in range(120):
        assert head.poll() is None, "ray start ended"
        try:
            urllib.request.urlopen(f"{address}/api/gcs_healthz", timeout=2)
            return
        except OSError:
            time.sleep(1)
    raise TimeoutError("the Ray dashboard did not answer within two minutes")


@pytest.fixture(scope="session")
def job(cluster: Cluster) -> tuple[Path, str]:
    """Run directory and output of the whole pipeline, run without interruption as a submitted job."""
    command = [str(BIN / "ray"), "job", "submit", "--address", cluster.dashboard, "--working-dir", "."]
    done = subprocess.run(
        [*command, "--", "python", "-m", "app", "pipeline", "--profile", "smoke"],
        cwd=ROOT,
        env=cluster.env,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (run,) = Path(cluster.env["POCKETCODER_RUNS"]).iterdir()
    return run, done.stdout + done.stderr
