"""What all processes together hold of a card, contexts included, as the driver counts it (NVML, by nvidia-smi)."""

import math
import os
import shutil
import subprocess
import threading
from typing import Any

EVERY_SECONDS = 0.1
GIB = 1 << 30


class CardMemory:
    """Samples the card's memory in a thread. Figures are what is held beyond the start; NaN without a card."""

    def __init__(self) -> None:
        self.is_there = shutil.which("nvidia-smi") is not None
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
        if not self.is_there:
            return math.nan
        card = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0] or "0"
        command = ["nvidia-smi", f"--id={card}", f"--query-gpu={what}", "--format=csv,noheader,nounits"]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) / 1024


class Watched:
    """A generator; notes the card's peak from its start until it first slept, while it draws, and while it sleeps."""

    def __init__(self, engine: Any, card: CardMemory) -> None:
        self._engine, self._card, self._phase = engine, card, "starting"
        self.peaks: dict[str, float] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def generate(self, *given: Any, **named: Any) -> Any:
        if self._phase != "starting":
            self.goes_on("drawing")
        return self._engine.generate(*given, **named)

    def stream(self, *given: Any, **named: Any) -> Any:
        self.goes_on("drawing")
        return self._engine.stream(*given, **named)

    def sleep(self) -> None:
        self._engine.sleep()
        self.goes_on("learning")

    def goes_on(self, phase: str) -> None:
        peak = round(self._card.peak_gib, 2)
        self.peaks[self._phase] = max(self.peaks.get(self._phase, peak), peak)
        self._phase = phase
        self._card.restart()


def leave_room(card: CardMemory, gib: float) -> None:
    """Let torch's allocator take no more than what is left of so many GiB of the card now. What a sleeping engine of
    this process has given back still counts in the allocator's books, so a plain fraction would forbid it."""
    import torch

    held = torch.cuda.memory_reserved() / GIB
    torch.cuda.set_per_process_memory_fraction(min(1.0, (held + gib - card.now_gib) / card.total_gib))
