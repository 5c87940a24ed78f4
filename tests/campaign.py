"""A small pipeline with self-reward and evolution, and a killer that picks the moment and the victim by a seed.

A seed gives one to three strikes. Each falls at a moment of the undisturbed run's time, said as a stage and seconds
after its start. It ends one process, the driver, Ray's head (its raylet or its GCS), or one of Ray's workers, whatever
it does then; or it fills, until the command has ended, the run's disk or Ray's object store. What ended is started
again with `--resume`, as a user would, until the run is complete.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
import pytest

from app.files.json_files import BrokenFileError, read_json, read_json_lines
from app.runs import Run
from tests import commands
from tests.library import write_library
from tests.processes import title
from tests.same_artifacts import differences
from tests.sums import SUM, row, sums_settings

MOST_STARTS = 6
"""Of one run, the first included: a strike ends a command at most once."""
DISK_BYTES = 64 << 20
STORE = ["400"]
"""Megabytes: twice what the smoke profile's object store holds."""
LIMIT_S = 300
"""Of one command: one that hangs has failed."""
HEAD = ("raylet/raylet", "gcs_server")
RESTING = ("IDLE", "DatasetManager", "AutoscalingRequester")
"""Workers that do nothing, or nothing any more."""
POLL_S = 0.02


def settings(folder: Path) -> list[str]:
    """Changes of the smoke profile: every stage learns something, drafts are drawn one by one, each with a seed of its
    own, and speed counts for nobody."""
    folder.mkdir()
    rows = [row(f"held-{n}", f"assert f([{n}, 2]) == {n + 2}") | {"reference": SUM} for n in range(5, 9)]
    held = folder / "held.jsonl"
    held.write_text("".join(f"{json.dumps(one)}\n" for one in rows))
    return [
        *sums_settings(folder),
        f"corpus.recipe={write_library(folder)}", "corpus.max_files=12", "corpus.max_mined_files=0",
        "corpus.files_per_shard=4", "generation.batch_size=1", "sft.max_steps=6", "sft.checkpoint_every=2",
        "grm.when=always", "grm.rate_drafts=8", "grm.steps=4", "grm.num_drafts=4", "grm.max_new_tokens=16",
        "grm.checkpoint_every=1",
        "grm.imitate.batch=4", "grm.imitate.learning_rate=0.005", "grm.imitate.replay_share=0",
        "evolve.when=always", "evolve.population=2", "evolve.survivors=1", "evolve.generations=2",
        "evolve.generation_tokens=600", "evolve.drafts=2", "evolve.most_drafts=4", "evolve.better_by=0",
        "evolve.fitness.speed_worth=0", f"evolve.validation=[{held}]",
        "evaluation.num_problems=3", "validation.num_problems=3",
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Strike:
    stage: str
    """As run.json names it; empty before the first."""
    after_s: float
    """Seconds after the stage's latest start; a stage that is over by then is struck no more, but what follows."""
    whom: str
    """driver, head, worker, disk or store."""
    draw: float
    """In [0, 1): which of them."""


@dataclass(slots=True)
class Fought:
    """What came of a run."""

    began: float = 0.0
    """When the first command was started, in seconds since 1970."""
    starts: int = 0
    killed: list[str] = field(default_factory=list)
    """Moment and victim, in words."""
    ends: list[str] = field(default_factory=list)
    """How each command ended, but for the last one: killed, or the sentence it said."""


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """A run that nothing happened to. Made by `undisturbed`."""

    run: Run
    given: list[str]
    """Changes of the smoke profile."""
    stages: list[tuple[str, float]]
    """In their order, with what comes before the first as "", each with its seconds up to the next one's start."""


@pytest.fixture(scope="session")
def undisturbed(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    given, run = settings(folder / "given"), Run(folder / "run")
    fought = fight(run.root, given, [], folder / "logs")
    figures = [row for path in run.root.rglob("metrics.jsonl") for row in read_json_lines(path)]
    assert max(row.get("share_with_variance", 0) for row in figures) > 0, "a group without variance teaches nothing"
    return Undisturbed(run, given, timeline(run, fought.began))


def fight_by(seed: int, whole: Undisturbed, folder: Path) -> Fought:
    """Have a run of the same settings struck by a seed's strikes; it ends with what the undisturbed one has."""
    with own_disk(folder / "disk") as place:
        fought = fight(place, whole.given, strikes_of(seed, whole.stages), folder / "logs")
        assert not (found := differences(place, whole.run.root)), f"{fought}\n" + "\n".join(found[:20])
    return fought


def timeline(run: Run, began: float) -> list[tuple[str, float]]:
    starts = [(name, attempts[0]["start"]) for name, attempts in read_json(run.info)["stages"].items()]
    end = run.report_html.stat().st_mtime
    times = [("", began), *starts, ("", end)]
    return [(name, times[number + 1][1] - start) for number, (name, start) in enumerate(times[:-1])]


def strikes_of(seed: int, stages: Sequence[tuple[str, float]]) -> list[Strike]:
    dice = random.Random(seed)
    starts = list(accumulate((seconds for _, seconds in stages), initial=0.0))
    found = []
    for moment in sorted(dice.uniform(0, starts[-1]) for _ in range(dice.choice((1, 2, 2, 3)))):
        number = min(bisect(starts, moment), len(stages)) - 1
        whom = dice.choice(("driver", "driver", "head", "disk", "store", "worker", "worker", "worker"))
        found.append(Strike(stages[number][0], moment - starts[number], whom, dice.random()))
    return found


def fight(folder: Path, given: Sequence[str], strikes: Sequence[Strike], logs: Path) -> Fought:
    """Run the pipeline to its end, whatever is killed meanwhile. logs: a folder for what the commands say. Raises
    AssertionError for a command that hangs, ends by itself, or ends with anything but one sentence."""
    logs.mkdir(exist_ok=True)
    fought, left = Fought(), list(strikes)
    base = [word for one in given for word in ("--set", one)]
    with own_ray() as ray_folder:
        while True:
            fought.starts += 1
            assert fought.starts <= MOST_STARTS, fought
            resume = ["--resume"] if (folder / "run.json").exists() else []
            log = logs / f"{fought.starts}.log"
            arguments = ["pipeline", "--profile", "smoke", "--run", str(folder), *base, *resume]
            code, was_struck = _command(arguments, folder, log, ray_folder, left, fought)
            if code == 0:
                return fought
            fought.ends.append("killed" if code == -signal.SIGKILL else sentence(log))
            assert was_struck, f"it ended by itself, {fought}:\n{log.read_text()[-4000:]}"


@contextlib.contextmanager
def own_disk(place: Path) -> Iterator[Path]:
    """A folder for a run on a small disk of its own, if this user may mount one: else nothing can fill it."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(place)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
    try:
        yield place / "run"
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(place)], check=True)


def _fill(ballast: Path) -> int:
    """Take what is left of the disk; returns the bytes."""
    with contextlib.suppress(OSError), open(ballast, "ab", buffering=0) as file:
        while os.path.ismount(ballast.parent):
            file.write(bytes(4096))
    return ballast.stat().st_size


@contextlib.contextmanager
def own_ray() -> Iterator[Path]:
    """A temporary folder for Ray; at the end of the block nothing that wrote its output there is left."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # a socket's path has no more than 107 characters
    try:
        yield folder
    finally:
        for process in of_ray(folder):
            process.kill()
        shutil.rmtree(folder, ignore_errors=True)


def of_ray(folder: Path) -> Iterator[psutil.Process]:
    """Processes of the Rays in this temporary folder, whose outputs are files there."""
    for process in psutil.process_iter():
        try:
            if os.readlink(f"/proc/{process.pid}/fd/1").startswith(str(folder)):
                yield process
        except OSError:
            continue


def _command(
    arguments: list[str], folder: Path, log: Path, ray_folder: Path, left: list[Strike], fought: Fought
) -> tuple[int, bool]:
    """Its exit code, and whether something was struck while it ran."""
    env = os.environ | {"RAY_TMPDIR": str(ray_folder)}
    driver = commands.started(arguments, env, [log, log])
    begun, was_struck = time.monotonic(), False
    fought.began = fought.began or time.time()
    ballast, fillers = folder.parent / "ballast", list[BaseProcess]()
    try:
        while not wait([driver.sentinel], POLL_S if left else LIMIT_S):
            assert time.monotonic() - begun < LIMIT_S, f"it hangs, {fought}:\n{log.read_text()[-4000:]}"
            if left and _is_time(left[0], folder, begun):
                was_struck = True
                strike = left.pop(0)
                if strike.whom == "store":
                    outputs = [log.with_suffix(".store")] * 2
                    fillers.append(commands.started(STORE, env, outputs, module="tests.fill_store"))
                    victim = "object store"
                elif strike.whom == "disk":
                    victim = f"disk, with {_fill(ballast)} bytes"
                else:
                    victim = _killed(strike, driver.pid or 0, ray_folder)
                fought.killed.append(f"{strike.stage or 'start'} + {strike.after_s:.1f} s: {victim}")
    finally:
        for process in (driver, *fillers):
            process.kill()
            process.join()
        ballast.unlink(missing_ok=True)
    assert driver.exitcode is not None
    return driver.exitcode, was_struck


def _is_time(strike: Strike, folder: Path, begun: float) -> bool:
    if not strike.stage:
        return time.monotonic() - begun >= strike.after_s
    try:
        stages = read_json(folder / "run.json")["stages"]
    except (OSError, BrokenFileError):
        return False
    attempts = stages.get(strike.stage)
    return bool(attempts) and time.time() - attempts[-1]["start"] >= strike.after_s


def _killed(strike: Strike, driver: int, ray_folder: Path) -> str:
    """Kill one process, and say what it was."""
    name, process = _victim(strike, driver, ray_folder)
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()
    return name


def _victim(strike: Strike, driver: int, ray_folder: Path) -> tuple[str, psutil.Process]:
    there = sorted(((title(one).strip(), one) for one in of_ray(ray_folder)), key=lambda one: (one[0], one[1].pid))
    if strike.whom == "head":
        found = [(name, one) for name, one in there if any(word in name for word in HEAD)]
        found = [(next(word for word in HEAD if word in name), one) for name, one in found]
    else:
        found = [(name, one) for name, one in there if name.startswith("ray::")]
        busy = [(name, one) for name, one in found if not any(word in name for word in RESTING)]
        found = busy or found
    if strike.whom == "driver" or not found:
        return "driver", psutil.Process(driver)
    kinds = sorted({name for name, _ in found})
    kind = kinds[int(strike.draw * len(kinds))]
    return kind, next(one for name, one in found if name == kind)


def sentence(log: Path) -> str:
    """What a command that was not killed said at its end: one sentence, and no traceback."""
    said = log.read_text(errors="replace")
    last = said.strip().splitlines()[-1]
    assert last.startswith("pocketcoder: ") and "Traceback" not in said, said[-6000:]
    return last
