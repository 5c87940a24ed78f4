"""Shared fixtures. Weights are made once a session in a cache of their own; commands run as a user runs them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weight cache that holds the smoke model, fetched through the real command."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["POCKETCODER_CACHE"] = str(folder)
    done = subprocess.run(
        [sys.executable, "-m", "app", "pull", "--profile", "smoke"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
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
