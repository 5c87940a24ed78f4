"""A real Ray cluster with its dashboard, in a process group of its own, and a run made on it by `ray job submit`."""

import contextlib
import dataclasses
import os
import random
import secrets
import shutil
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from app.files.json_files import read_json, read_json_lines, write_json
from app.runs import Run
from tests import commands
from tests.conftest import made_once
from tests.e2e import documented
from tests.e2e.documented import Person
from tests.processes import end_group

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Cluster:
    dashboard: str
    env: dict[str, str]


def free_port() -> int:
    """A port that nothing listens on, of those that the kernel gives to nobody's outgoing connections (from 32768) and
    Ray to no worker (up to 19999), so that it is still free when a server comes to it."""
    for port in random.Random().sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("none of 100 ports between 20000 and 32000 is free")


@contextlib.contextmanager
def started_cluster(runs: Path, *workers_import: str, token: str = "") -> Iterator[Cluster]:
    """`ray start --head --block` with a token, ended by its process group; `ray stop` would hit other people's Ray.
    workers_import: as in `commands.started`. token: left out, a new one."""
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # socket paths allow no more than 107 characters
    port, agent = free_port(), free_port()
    env = os.environ | {
        "PATH": f"{commands.programs(Path(folder, 'programs'))}:{BIN}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token or secrets.token_hex(16),
        "POCKETCODER_RUNS": str(runs),
    }
    options = [f"--port={free_port()}", "--num-cpus=2", f"--temp-dir={folder}", f"--dashboard-port={port}"]
    ports = [f"--{name}-port={free_port()}" for name in ("ray-client-server", "metrics-export")]
    ports.append(f"--dashboard-agent-listen-port={agent}")
    start = ["start", "--head", "--block", "--object-store-memory=200000000", *options, *ports]
    log = Path(folder, "start.log")
    where = {"module": "ray.scripts.scripts", "folder": Path(folder)}
    head = commands.started(start, env, [log, log], workers_import=workers_import, **where)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{address}/api/gcs_healthz", head)
        _wait_for(f"http://127.0.0.1:{agent}/api/local_raylet_healthz", head)  # the one that jobs are submitted to
        yield Cluster(address, env)
    finally:
        assert head.pid
        end_group(head.pid)  # at SIGTERM it would wait for a node that ends with it
        head.join()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(url: str, head: BaseProcess) -> None:
    for _ in range(600):
        assert head.exitcode is None, "ray start ended"
        try:
            urllib.request.urlopen(url, timeout=2)
            return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(f"{url} did not answer within two minutes")


@pytest.fixture(scope="module")
def cluster(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with started_cluster(tmp_path_factory.mktemp("job-runs"), "tests.e2e.preloaded") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def jobs(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of what came of the commands of docs/cluster.md on one cluster: `shared` as its nodes see it, and the
    outputs of the pipeline, run without interruption (first.txt), and of those that `_try_jobs` types."""

    def submit(folder: Path) -> None:
        (folder / "shared").mkdir()
        (folder / "shared" / "cache").symlink_to(cache)
        (folder / "home").mkdir()
        person = Person(folder / "home", folder / "shared", commands.programs(folder / "programs"))
        made = person.types(documented.blocks("The token")[0], before="")
        assert made.returncode == 0, made.stdout
        token = person.home / ".ray" / "auth_token"
        with started_cluster(folder / "elsewhere", token=token.read_text()) as cluster:
            _try_jobs(folder, dataclasses.replace(person, dashboard=cluster.dashboard))

    return made_once(tmp_path_factory, "jobs", submit)


def _try_jobs(folder: Path, person: Person) -> None:
    """A stranger's job is refused, the pipeline runs, and a training is stopped and goes on."""
    first, (begin, stop, go_on) = documented.blocks("A job")[0], documented.blocks("Stop and go on")[0].splitlines()
    stranger = dataclasses.replace(person, home=folder / "stranger")
    stranger.home.mkdir()
    typed = {"refused": stranger.types(first, before="")}
    typed["first"] = person.types(first)
    assert typed["first"].returncode == 0, typed["first"].stdout[-6000:]
    runs = folder / "shared" / "runs"
    staged = Run(runs / "staged")
    shutil.copytree(runs / "first", staged.root)
    shutil.rmtree(staged.sft)
    _have_steps(staged, 40)
    typed["begun"] = person.types(begin)
    for _ in range(600):  # a minute
        if len(read_json_lines(staged.sft_metrics)) >= 2:
            break
        time.sleep(0.1)
    typed["stopped"] = person.types(stop)
    typed["log"] = person.types("ray job logs training")
    shutil.copytree(staged.sft, folder / "at_stop")
    _have_steps(staged, len(read_json_lines(staged.sft_metrics)) + 1)  # the rest is short
    typed["gone_on"] = person.types(go_on)
    for name, done in typed.items():
        (folder / f"{name}.txt").write_text(f"{done.stdout}\nexit code {done.returncode}\n")


def _have_steps(run: Run, steps: int) -> None:
    """No checkpoint comes before the last."""
    info = read_json(run.info)
    info["settings"]["sft"] |= {"max_steps": steps, "checkpoint_every": 40}
    write_json(run.info, info)


@pytest.fixture(scope="session")
def job(jobs: Path) -> tuple[Path, str]:
    """Run directory and output of the whole pipeline, run without interruption as a submitted job."""
    return jobs / "shared" / "runs" / "first", (jobs / "first.txt").read_text()


@pytest.fixture
def finished(job: tuple[Path, str], tmp_path: Path) -> Run:
    """A copy of the job's run, to change at will: the run itself is read by tests in other processes too."""
    shutil.copytree(job[0], tmp_path / "run")
    return Run(tmp_path / "run")
