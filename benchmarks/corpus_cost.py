"""What a whole corpus build costs in this checkout beside another one: CPU seconds, one after the other in turn.

Builds the same recipe under the same settings by both checkouts, A B A B, `--pairs` times, with the interpreter that
runs this. The figure is user and system time of all processes of a build, the sandbox's among them. Other work on the
machine lengthens the wall time, which is given beside it, and with it what Ray's own daemons use while they wait: their
time is left out and given beside it too. A process that ends between two looks is counted where its parent waits for
it. Prints one JSON line with every build and the ratio of the medians.

The other checkout: `git worktree add FOLDER COMMIT`.
Run: python -m benchmarks.corpus_cost --against FOLDER [--pairs 3] [--profile laptop] [--set KEY=VALUE ...]
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import psutil

LOOK_S = 0.25
DAEMONS = re.compile(r"gcs_server|raylet/raylet|ray/dashboard|log_monitor|/monitor\.py|ray::\w*Agent|runtime_env/agent")
Key: TypeAlias = tuple[int, float]
"""Number and start of a process: numbers are given again."""


@dataclass(slots=True)
class Seen:
    """A process: its own CPU seconds and those of the children that it has waited for."""

    process: psutil.Process
    is_daemon: bool = False
    own: float = 0.0
    waited: float = 0.0
    children: list[Key] = field(default_factory=list)


class ProcessTree:
    """The CPU time of a process and all that come from it, also where a parent ends first."""

    def __init__(self, root: int) -> None:
        process = psutil.Process(root)
        self._root = _key(process)
        self._seen = {self._root: Seen(process)}
        self._alive = {root: self._root}

    def look(self) -> None:
        """Note new processes and what the known ones have used until now."""
        parents = {process.pid: process for process in psutil.process_iter()}
        for pid, process in parents.items():
            try:
                if pid not in self._alive and (parent := self._alive.get(process.ppid())):
                    key = _key(process)
                    self._seen[key] = Seen(process)
                    self._seen[parent].children.append(key)
                    self._alive[pid] = key
            except psutil.Error:
                continue
        for pid, key in list(self._alive.items()):
            seen = self._seen[key]
            try:
                used = seen.process.cpu_times()
                seen.is_daemon = bool(
                    DAEMONS.search(" ".join(seen.process.cmdline()[:3]))
                )  # workers name them further on
            except psutil.Error:
                del self._alive[pid]
                continue
            seen.own, seen.waited = used.user + used.system, used.children_user + used.children_system

    def cpu_seconds(self) -> tuple[float, float]:
        """Of the work, with what came and went between two looks; and of Ray's daemons."""
        daemons = sum(seen.own for seen in self._seen.values() if seen.is_daemon)
        return self._used(self._root), daemons

    def _used(self, key: Key) -> float:
        seen = self._seen[key]
        return (0 if seen.is_daemon else seen.own) + max(seen.waited, sum(map(self._used, seen.children)))


def _key(process: psutil.Process) -> Key:
    return process.pid, process.create_time()


def build(checkout: Path, profile: str, settings: list[str]) -> dict[str, Any]:
    """Build once. Raises CalledProcessError where the build fails; its last words are on standard error then."""
    with tempfile.TemporaryDirectory(prefix="cost-") as name:
        run = Path(name) / "run"
        command = [sys.executable, "-m", "app", "corpus", "--profile", profile, "--run", str(run)]
        command += [word for setting in ("cluster.dashboard=false", *settings) for word in ("--set", setting)]
        environment = os.environ | {"RAY_TMPDIR": name, "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        begin = time.perf_counter()
        with (Path(name) / "said").open("w+") as said:
            started = subprocess.Popen(command, cwd=checkout, env=environment, stdout=said, stderr=said)
            tree = ProcessTree(started.pid)
            while started.poll() is None:
                tree.look()
                time.sleep(LOOK_S)
            wall = time.perf_counter() - begin
            if started.returncode:
                said.seek(0)
                print(said.read()[-2000:], file=sys.stderr)
                raise subprocess.CalledProcessError(started.returncode, command)
        manifest = json.loads((run / "corpus" / "manifest.json").read_text())
    used, waiting = (round(seconds, 1) for seconds in tree.cpu_seconds())
    figures = {"cpu_s": used, "daemons_cpu_s": waiting, "wall_s": round(wall, 1)}
    return figures | {key: manifest[key] for key in ("documents", "tokens")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, required=True, help="root of the other checkout")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    given = parser.parse_args()
    checkouts = {"ours": Path.cwd(), "other": given.against.resolve()}
    held: dict[str, list[dict[str, Any]]] = {name: [] for name in checkouts}
    for _ in range(given.pairs):
        for name, checkout in checkouts.items():
            held[name].append(build(checkout, given.profile, given.settings))
            print(name, held[name][-1], file=sys.stderr, flush=True)
    cpu = {name: statistics.median(one["cpu_s"] for one in builds) for name, builds in held.items()}
    wall = {name: statistics.median(one["wall_s"] for one in builds) for name, builds in held.items()}
    ratios = {key: round(of["ours"] / of["other"], 3) for key, of in (("cpu_ratio", cpu), ("wall_ratio", wall))}
    print(json.dumps({"benchmark": "corpus_cost", **held, **ratios}))


if __name__ == "__main__":
    main()
