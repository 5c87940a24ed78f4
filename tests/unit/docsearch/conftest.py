"""Servers on loopback that stand for the documentation sites, the mode that lets them be reached, a Redis server."""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.loopback_sites import Answer, Sites, certificates, serving

Serve = Callable[[Answer], Sites]


@pytest.fixture(scope="session")
def certificate_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis server of the file's own."""
    pytest.importorskip("redis", reason="the package redis is not installed")
    if (program := shutil.which("redis-server")) is None:
        pytest.skip("no redis-server here: apt-get install redis-server")
    place = tmp_path_factory.mktemp("redis") / "socket"
    where = ["--port", "0", "--unixsocket", str(place), "--dir", str(place.parent)]
    keeps_nothing = ["--save", "", "--appendonly", "no"]
    server = subprocess.Popen([program, *where, *keeps_nothing], stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 10
        while not place.exists():
            assert time.monotonic() < end and server.poll() is None, "redis-server does not start"
            time.sleep(0.02)
        yield f"unix://{place}"
    finally:
        server.terminate()
        server.wait(timeout=10)


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENV", "online")


@pytest.fixture
def serve(certificate_folder: Path, online: None) -> Iterator[Serve]:
    """Start a stand-in with this answer; ENV is online."""
    with contextlib.ExitStack() as stack:
        yield lambda answer: stack.enter_context(serving(certificate_folder, answer))
