"""Plans of the runs that the page shows: each is made by a process of its own, which ends with it, since a plan needs
transformers and seconds of a core.
"""

import json
import subprocess
import sys
import threading
from pathlib import Path

from app.running.status import Planned
from app.runs import REPOSITORY, Run

TIMEOUT_S = 300.0


class Plans:
    """Plans of runs, each made once, one at a time, in threads that hold up no exit."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, bool], Planned | None] = {}
        """None: asked for, and not there yet."""
        self._turn = threading.Lock()

    def of(self, run: Run) -> Planned | None:
        """None while it is being made."""
        key = str(run.root), run.corpus_manifest.exists()
        if key not in self._made:
            self._made[key] = None
            threading.Thread(target=self._make, args=(key, run.root), daemon=True).start()
        return self._made[key]

    def _make(self, key: tuple[str, bool], root: Path) -> None:
        with self._turn:
            self._made[key] = _asked(root)


def _asked(root: Path) -> Planned:
    command = [sys.executable, "-m", "app.planning.of_run", str(root)]
    try:
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=TIMEOUT_S)
        return Planned(**json.loads(done.stdout))
    except (subprocess.TimeoutExpired, ValueError, TypeError):
        return Planned(why="the plan could not be made: `python -m app plan` says why")
