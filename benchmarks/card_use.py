"""What a command takes of the card and of main memory, all its processes together, contexts included.

The card's figure is what NVML says beyond the start, so nothing else may use the card meanwhile; main memory is the sum
of the processes' own shares (PSS), those of a Ray that the command starts too. Prints one JSON line when the command
has ended, and its code is this one's.

Run: python -m benchmarks.card_use -- python -m app grm --profile rtx3070 --run RUN ...
"""

import json
import sys
import threading
import time
from contextlib import suppress

import psutil

from benchmarks.card_memory import GIB, CardMemory

EVERY_SECONDS = 1.0


def shares_gib(process: psutil.Process) -> float:
    """Of the process and all below it."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        with suppress(psutil.Error, OSError):
            total += one.memory_full_info().pss
    return total / GIB


def main() -> int:
    command = sys.argv[2:] if sys.argv[1:2] == ["--"] else sys.argv[1:]
    if not command:
        print("give the command to watch after --", file=sys.stderr)
        return 2
    card, peak, ended = CardMemory(), 0.0, threading.Event()
    start = time.perf_counter()
    process = psutil.Popen(command)

    def watch() -> None:
        nonlocal peak
        while not ended.wait(EVERY_SECONDS):
            with suppress(psutil.Error):
                peak = max(peak, shares_gib(process))

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        code = process.wait()
    except KeyboardInterrupt:  # the command was told as well
        code = process.wait()
    ended.set()
    watching.join()
    card.stop()
    found = {"card_gib": round(card.peak_gib, 2), "host_gib": round(peak, 2), "code": code}
    print(json.dumps({"benchmark": "card_use", **found, "seconds": round(time.perf_counter() - start, 1)}), flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
