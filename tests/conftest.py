"""Shared fixtures. Weights are made once a session in a cache of their own; commands run as a user runs them."""

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from filelock import FileLock

from tests import commands

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "True")  # Gradio sets it, and commands would be forked no more
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait for each other leave the core to what else runs
os.environ.setdefault("RAY_worker_niceness", "0")  # at Ray's 15, other tests beside them would take the cores
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("LOG_NAME_UPDATE_INTERVAL_S", "3600")  # nobody reads what Ray would forward of its workers' logs
os.environ.setdefault("REPORTER_UPDATE_INTERVAL_MS", "3600000")  # nor at its processes' memory and time
os.environ.setdefault("RAY_SERVE_METRICS_EXPORT_INTERVAL_MS", "3600000")
os.environ.setdefault("RAY_SERVE_CONTROL_LOOP_INTERVAL_S", "0.3")  # for a tenth: an engine starts for ten seconds
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:  # as many threads as are this process's share of the machine
    SHARE = len(os.sched_getaffinity(0)) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, SHARE)))
IMPORTED_UNDER = commands.before_imports(os.environ)  # a test may change it later
Cli = Callable[..., subprocess.CompletedProcess[str]]


ON_RAY = ("e2e/test_pipeline", "e2e/test_serve", "e2e/test_evaluate", "e2e/test_whole_runs", "ray/")
"""Tests that start Ray and engines keep two cores busy by themselves. Two at once on two cores were seen to pass over
the limits of time that tests of lost engines have. Beside the other tests the two of e2e/test_whole_runs took three
times as long."""


LATE = ("ray/test_cluster", "ray/test_evolve_scheduler", "ray/test_evolve_replay")
"""Tests on a Ray that keep no more than one core busy. They come after most of the unit tests: whole runs, the last of
those above, leave them that core."""


SHORT = ("unit/sandbox", "unit/serving", "unit/t")
"""Files that come last, so that neither process waits long for the other's last file."""


GROUPS = {"late": LATE, "Ray": ON_RAY, "vLLM": ("unit/generation/test_vllm",)}
"""Files that share more than their own fixtures."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What collecting the tests makes is there to the end: garbage is looked for afterwards, once, and where all tests
    are collected never again among what is left, and seldom among what they make. A generator of Hypothesis's own is
    registered before: it would not see who holds it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        if "hypothesis" in sys.modules:
            with sys.modules["hypothesis.internal.entropy"].deterministic_PRNG():
                gc.freeze()
        gc.set_threshold(10_000)


@pytest.hookimpl(tryfirst=True)  # xdist then puts the groups into the tests' names
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Under xdist (`--dist loadgroup`) what starts Ray runs in one process, and first, since it takes longest. A file's
    other tests go to one process too, in their order, so that what they share is made once."""
    if "PYTEST_XDIST_WORKER" not in os.environ:  # its workers are not told the option, and it is they who sort
        return
    turns = {"Ray": 0, "late": 2, "e2e": 3, "short": 4}
    groups: dict[pytest.Item, str] = {}
    kinds: dict[pytest.Item, str] = {}
    for item in items:
        place = item.path.relative_to(ROOT / "tests").as_posix()
        groups[item] = next((name for name, places in GROUPS.items() if place.startswith(places)), place)
        item.add_marker(pytest.mark.xdist_group(groups[item]))
        kinds[item] = "short" if place.startswith(SHORT) else groups[item].partition("/")[0]
    items.sort(key=lambda item: turns.get(kinds[item], 1))


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
        env = os.environ | {"POCKETCODER_CACHE": str(folder)}
        done = commands.run(["pull", "--profile", "smoke"], env, IMPORTED_UNDER, timeout=240)
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
        return commands.run([*map(str, arguments)], os.environ | (env or {}), IMPORTED_UNDER, timeout)

    return call
