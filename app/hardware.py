"""What the machine is, and how much memory the run took."""

import multiprocessing
import os
import platform
import shutil
import subprocess
import threading
import time
from typing import Any

import psutil

MEMORY_LOOK_SHARE = 0.02
"""The share of a core that `PeakMemory` takes at most: the kernel walks every page of every process for it."""


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def can_share_locks() -> bool:
    """Whether processes can share locks: they need /dev/shm, which some containers don't have."""
    try:
        multiprocessing.get_context("fork").Lock()  # "spawn" would start a process that cleans up after it
    except OSError:
        return False
    return True


def describe() -> dict[str, Any]:
    """CPU, memory and NVIDIA cards of this machine; sizes in bytes."""
    cards = []
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
        cards = subprocess.run(query, capture_output=True, text=True).stdout.strip().splitlines()
    return {
        "cpu": _cpu_name(),
        "cores": num_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "cards": cards,
        "system": f"{platform.system()} {platform.machine()}",
    }


def card_gib() -> float:
    """Memory of this process's card, asked of the driver: a CUDA context in this process would take some of it."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0]
    card = describe()["cards"][int(first) if first.isdigit() else 0]
    return int(card.rpartition(",")[2].split()[0]) / 1024


def _cpu_name() -> str:
    with open("/proc/cpuinfo") as file:
        return next(
            (line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), platform.processor()
        )


class PeakMemory:
    """Largest proportional set size (shared pages counted once) of this process and all below it, sampled in a thread.

    A cluster that was joined does not run below this process; its memory is not in the figure.
    """

    def __init__(self, every_seconds: float = 2.0) -> None:
        self.peak_bytes = 0
        self._every = every_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        this = psutil.Process()
        took = 0.0
        while not self._stop.wait(max(self._every, took / MEMORY_LOOK_SHARE)):
            start, total = time.perf_counter(), 0
            for process in [this, *this.children(recursive=True)]:
                try:
                    total += process.memory_full_info().pss
                except (psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError):
                    continue  # ended between listing and reading
            self.peak_bytes = max(self.peak_bytes, total)
            took = time.perf_counter() - start
