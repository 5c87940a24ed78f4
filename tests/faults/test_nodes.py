"""Work is spread over the nodes of a cluster, and goes on where one is lost in the middle."""

import json
import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.processes import end_group


@pytest.fixture(scope="module")
def found(cache: Path) -> dict[str, Any]:
    """What `tests.faults.nodes` prints."""
    command = [sys.executable, "-m", "tests.faults.nodes"]
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        env = os.environ | {
            "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_TMPDIR": folder, "RAY_ADDRESS": "",
        }  # fmt: skip
        with subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        ) as process:  # fmt: skip
            try:
                said, errors = process.communicate(timeout=600)
            finally:
                end_group(process.pid)
    assert process.returncode == 0, errors[-3000:]
    found: dict[str, Any] = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
    return found


def test_tasks_of_a_queue_run_on_all_nodes_and_those_of_a_lost_one_again(found: dict[str, Any]) -> None:
    assert found["queued"]["nodes"] == 3 and found["queued"]["answers"] == 24


def test_judges_are_on_all_nodes_and_those_of_a_lost_one_are_replaced(found: dict[str, Any]) -> None:
    assert found["judged"]["nodes"] == 3 and found["judged"]["passed"] == 60 and found["judged"]["replaced"] >= 1


def test_individuals_learn_on_several_nodes_and_those_of_a_lost_one_on_another(found: dict[str, Any]) -> None:
    assert found["evolved"]["nodes"] == 2 and found["evolved"]["errors"] == 0 and found["evolved"]["lives"] == 8


def test_engines_draw_on_all_nodes_and_a_lost_one_is_told(found: dict[str, Any]) -> None:
    assert found["drawn"]["nodes"] == 3 and "the generator's process ended (" in found["drawn"]["said"]
