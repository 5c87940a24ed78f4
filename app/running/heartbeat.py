"""A sign of life: what the process that works on a run is doing, written beside the run every few seconds, for whoever
looks at the run from elsewhere and for the time that a killed attempt has taken."""

import contextlib
import os
import platform
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from app import progress
from app.files.json_files import read_json, write_json

EVERY_S = 5.0
STALE_S = 60.0
"""After which nobody on another machine is taken to be at work any more: its file may come late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """Made by `beating`, kept in now.json; read by `app.running.status`.

    Example: Now(at=1789000000.0, host="node-1", pid=4711, label="sft", done=3, total=12, unit="steps", note="loss 2.1",
                 said="  fused layers; ...")
    """

    at: float
    """Seconds since 1970."""
    host: str
    pid: int
    label: str = ""
    """What has a count, and how far that is; empty where nothing has."""
    done: int = 0
    total: int = 0
    unit: str = ""
    note: str = ""
    said: str = ""
    """The last line of the log."""

    def words(self) -> str:
        if not self.label:
            return self.said.strip() or "starting"
        return f"{self.label}: {self.done}/{self.total} {self.unit} {self.note}".strip()


@contextlib.contextmanager
def beating(path: Path) -> Iterator[None]:
    """Keep the file up to date until the block ends."""
    over = threading.Event()
    thread = threading.Thread(target=_beat, args=(path, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _beat(path: Path, over: threading.Event) -> None:
    pause = 0.0
    while True:
        is_last, pause = over.wait(pause), EVERY_S
        doing = progress.doing()
        now = Now(at=time.time(), host=platform.node(), pid=os.getpid(), said=progress.last_said())
        with contextlib.suppress(OSError):  # a full disk ends what needs it, with a sentence of its own
            write_json(path, asdict(now) | (asdict(doing) if doing else {}))
        if is_last:
            return


def read_now(path: Path) -> Now | None:
    """None where there is none that can be read."""
    try:
        return Now(**read_json(path))
    except (OSError, ValueError, TypeError):
        return None
