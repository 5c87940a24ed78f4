"""What all processes together hold of a card, contexts included, as the driver counts it (NVML, by nvidia-smi)."""

import math
import os
import shutil
import subprocess
import threading

EVERY_SECONDS = 0.1
GIB = 1 << 30


class CardMemory:
    """Samples the card's memory in a thread. Figures are what is held beyond the start; NaN without a card."""

    def __init__(self) -> None:
        self._is_there = shutil.which("nvidia-smi") is not None
        self.total_gib = self._ask("memory.total")
        self._before = self._peak = self._ask("memory.used")
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    @property
    def now_gib(self) -> float:
        return self._ask("memory.used") - self._before

    @property
    def peak_gib(self) -> float:
        return self._peak - self._before

    def restart(self) -> None:
        self._peak = self._ask("memory.used")

    def stop(self) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(EVERY_SECONDS):
            self._peak = max(self._peak, self._ask("memory.used"))

    def _ask(self, what: str) -> float:
        if not self._is_there:
            return math.nan
        card = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0] or "0"
        command = ["nvidia-smi", f"--id={card}", f"--query-gpu={what}", "--format=csv,noheader,nounits"]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) / 1024


def leave_room(card: CardMemory, gib: float) -> None:
    """Let torch's allocator take no more than what is left of so many GiB of the card now. What a sleeping engine of
    this process has given back still counts in the allocator's books, so a plain fraction would forbid it."""
    import torch

    held = torch.cuda.memory_reserved() / GIB
    torch.cuda.set_per_process_memory_fraction(min(1.0, (held + gib - card.now_gib) / card.total_gib))
