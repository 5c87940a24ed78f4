"""Ray's memory monitor, which ends workers where memory is short: a build says so, and goes on when there is memory."""

from pathlib import Path

import pytest

from app.runs import Run
from tests.conftest import Cli

SHORT = {"RAY_memory_usage_threshold": "0.005", "RAY_memory_monitor_refresh_ms": "50"}
"""A machine that is always too full."""


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("cache")
def test_a_build_whose_workers_find_no_memory_says_so_and_goes_on_later(cli: Cli, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    build = ["corpus", "--profile", "smoke", "--run", str(run.root), "--set", "corpus.max_mined_files=0"]
    ended = cli(*build, env=SHORT)
    assert ended.returncode == 2 and "Traceback" not in ended.stderr, ended.stderr[-4000:]
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("pocketcoder: ") and "OutOfMemoryError" in last and "more memory" in last
    done = cli(*build)
    assert done.returncode == 0 and run.corpus_manifest.exists(), done.stderr[-4000:]
