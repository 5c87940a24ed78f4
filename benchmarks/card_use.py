"""What a command takes of the card and of main memory, all its processes together, contexts included.

The card's figure is what NVML says beyond the start, so nothing else may use the card meanwhile; main memory is the sum
of the processes' own shares (PSS), those of a Ray that the command starts too. Prints one JSON line when the command
has ended, and its code is this one's: the peaks (null without a card), what each process had of the card at its
fullest moment, and the card's peak in each tenth of the time.

Run: python -m benchmarks.card_use -- python -m app grm --profile rtx3070 --run RUN ...
"""

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import psutil

from benchmarks.card_memory import GIB, CardMemory

EVERY_SECONDS = 0.5
Moment = tuple[float, float, dict[str, float]]
"""Seconds since the start, GiB of the card, and those of each process by its name."""


def shares_gib(process: psutil.Process) -> float:
    """Main memory of the process and all below it."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        with suppress(psutil.Error, OSError):
            total += one.memory_full_info().pss
    return total / GIB


def by_process() -> dict[str, float]:
    """GiB of the card."""
    card = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0] or "0"
    command = ["nvidia-smi", f"--id={card}", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    found = dict[str, float]()
    for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
        pid, _, mebibytes = line.partition(",")
        with suppress(ValueError):
            name = f"process {pid}"
            with suppress(psutil.Error):  # in a container the driver's numbers may be the host's
                name = " ".join(psutil.Process(int(pid)).cmdline())[:40].strip() or name
            found[name] = found.get(name, 0) + round(int(mebibytes) / 1024, 2)
    return found


def peaks_of_tenths(moments: list[Moment]) -> list[float]:
    whole = moments[-1][0]
    tenths = [[gib for second, gib, _ in moments if part <= 10 * second / whole <= part + 1] for part in range(10)]
    return [round(max(tenth, default=0.0), 2) for tenth in tenths]


def main() -> int:
    command = sys.argv[2:] if sys.argv[1:2] == ["--"] else sys.argv[1:]
    if not command:
        print("give the command to watch after --", file=sys.stderr)
        return 2
    card, host, ended, moments = CardMemory(), 0.0, threading.Event(), list[Moment]()
    start = time.perf_counter()
    process = psutil.Popen(command)

    def watch() -> None:
        nonlocal host
        while not ended.wait(EVERY_SECONDS):
            with suppress(subprocess.SubprocessError, ValueError):  # a driver that did not answer once
                if card.is_there:
                    moments.append((time.perf_counter() - start, card.now_gib, by_process()))
            with suppress(psutil.Error):
                host = max(host, shares_gib(process))

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        code = process.wait()
    except KeyboardInterrupt:  # the command was told as well
        code = process.wait()
    ended.set()
    watching.join()
    card.stop()
    peak = round(card.peak_gib, 2) if card.is_there else None
    found: dict[str, Any] = {"card_gib": peak, "host_gib": round(host, 2), "code": code}
    if moments:
        found |= {"at_fullest": max(moments, key=lambda one: one[1])[2], "card_gib_by_tenths": peaks_of_tenths(moments)}
    print(json.dumps({"benchmark": "card_use", **found, "seconds": round(time.perf_counter() - start, 1)}), flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
