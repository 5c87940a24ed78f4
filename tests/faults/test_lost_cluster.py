"""A cluster that a command has joined, whose head ends: the command ends too, with one sentence."""

import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import commands
from tests.campaign import HEAD, of_ray, own_ray, sentence
from tests.e2e.conftest import free_port
from tests.processes import title

LIMIT_S = 150
"""Ray's own limits are longer, and their ends say nothing to a user."""


@pytest.mark.timeout(400)
@pytest.mark.parametrize("victim", HEAD)
def test_a_command_whose_cluster_is_lost_says_so_and_how_to_go_on(victim: str, cache: Path, tmp_path: Path) -> None:
    log, run = tmp_path / "log", tmp_path / "run"
    with own_ray() as folder:
        port = free_port()
        options = ["--head", "--block", f"--port={port}", "--num-cpus=2", "--object-store-memory=200000000"]
        start = ["start", *options, "--include-dashboard=false", f"--temp-dir={folder}"]
        logs = [tmp_path / "head"] * 2
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
        head = commands.started(start, os.environ | token, logs, module="ray.scripts.scripts", folder=tmp_path)
        until(lambda: logs[0].exists() and "Ray runtime started" in logs[0].read_text())
        env = os.environ | token | {"RAY_ADDRESS": f"127.0.0.1:{port}"}
        driver = commands.started(["corpus", "--profile", "smoke", "--run", str(run)], env, [log, log])
        until(lambda: (run / "corpus" / "work" / "documents").exists() or driver.exitcode is not None)
        assert driver.exitcode is None, log.read_text()[-4000:]
        next(one for one in of_ray(folder) if victim in title(one)).kill()
        driver.join(LIMIT_S)
        code = driver.exitcode
        for process in (driver, head):
            process.kill()
            process.join()
    assert code == 2, log.read_text()[-4000:]
    assert "cluster" in sentence(log) and "give the same command again" in sentence(log)


def until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.05)
