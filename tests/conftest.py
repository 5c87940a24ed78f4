"""Shared fixtures. Weights are made once a session in a cache of their own; commands run as a user runs them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait for each other leave the core to what else runs
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:  # as many threads as are this process's share of the machine
    SHARE = len(os.sched_getaffinity(0)) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, SHARE)))
Cli = Callable[..., subprocess.CompletedProcess[str]]


ON_RAY = ("e2e/test_serve", "e2e/test_pipeline", "e2e/test_evaluate", "e2e/test_cli", "ray/")
"""Tests that start Ray and engines keep two cores busy by themselves: one after the other."""


@pytest.hookimpl(tryfirst=True)  # xdist then puts the groups into the tests' names
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Under xdist (`--dist loadgroup`) what starts Ray runs in one worker, and first, since it takes longest. A file's
    other tests go to one worker too, in their order, so that what they share is made once."""
    if "PYTEST_XDIST_WORKER" not in os.environ:  # its workers are not told the option, and it is they who sort
        return
    places = {item: item.path.relative_to(ROOT / "tests").as_posix() for item in items}
    for item, place in places.items():
        item.add_marker(pytest.mark.xdist_group("Ray" if place.startswith(ON_RAY) else place))
    items.sort(key=lambda item: not places[item].startswith(ON_RAY))


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first worker makes and the others wait for; without xdist there is one worker."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{folder}.lock"):
        if not (folder / ".whole").exists():
            folder.mkdir(exist_ok=True)
            make(folder)
            (folder / ".whole").touch()
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weight cache that holds the smoke model, fetched through the real command."""

    def pull(folder: Path) -> None:
        command = [sys.executable, "-m", "app", "pull", "--profile", "smoke"]
        env = os.environ | {"POCKETCODER_CACHE": str(folder)}
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr

    folder = made_once(tmp_path_factory, "cache", pull)
    os.environ["POCKETCODER_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def smoke_model(cache: Path) -> Path:
    from app.models.base import ensure_model
    from app.profiles import smoke

    return ensure_model(smoke().model)


@pytest.fixture
def cli() -> Cli:
    """Run `python -m app` with these arguments in the repository root."""

    def call(
        *arguments: str | Path, timeout: float = 240, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "app", *map(str, arguments)]
        everything = os.environ | (env or {})
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, env=everything)

    return call
