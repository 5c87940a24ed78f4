"""What the stages of a run were planned to take, for the page: made by a process of its own, which ends with it, since
a plan needs transformers and seconds of a core.

    python -m app.ide.planned DIR        {"seconds": {"corpus": 20.1, ...}, "why": ""}

The corpus is planned as before it was built, the rest with the run's own corpus where that is complete.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from app.errors import UserError
from app.run_settings import stored_profile
from app.runs import REPOSITORY, Run

TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """Made by `Plans`; read by `app.ide.run_progress`."""

    seconds: Mapping[str, float] = field(default_factory=dict)
    """By stage; a stage that is left out has none."""
    why: str = ""
    """Why there are none, in one sentence."""


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


def plan_of(root: Path) -> Planned:
    """Of a run directory, whose settings it takes."""
    profile = stored_profile(root)
    if profile is None:
        return Planned(why=f"{root} holds no run.json, so there is no plan")
    from app.planning.inputs import inputs_of
    from app.planning.plan import PHASES, corpus

    try:
        before = inputs_of(profile, None)
        inputs = inputs_of(profile, root) if Run(root).corpus_manifest.exists() else before
        phases = [*(phase(inputs) for phase in PHASES if phase is not corpus), corpus(before)]
    except (UserError, OSError) as error:
        return Planned(why=str(error))
    return Planned(seconds={one.name: 3600 * one.hours for one in phases if one.hours})


def _asked(root: Path) -> Planned:
    command = [sys.executable, "-m", "app.ide.planned", str(root)]
    try:
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=TIMEOUT_S)
        return Planned(**json.loads(done.stdout))
    except (subprocess.TimeoutExpired, ValueError, TypeError):
        return Planned(why="the plan could not be made: `python -m app plan` says why")


def main(root: str) -> None:
    made = plan_of(Path(root))
    print(json.dumps({"seconds": dict(made.seconds), "why": made.why}))


if __name__ == "__main__":
    main(sys.argv[1])
