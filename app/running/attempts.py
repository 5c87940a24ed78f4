"""What run.json tells of the stages' times: each attempt's start and end, and the deadlines of those that train."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.files.json_files import read_json, write_json
from app.running import metrics
from app.running.deadlines import now
from app.running.heartbeat import Now


class Attempts:
    """This part of a run (`app.runs.Run`)."""

    info: Path

    @contextlib.contextmanager
    def attempt(self, stage: str) -> Iterator[None]:
        """Record start and end of one attempt at a stage; an attempt without an end was killed."""
        info = read_json(self.info)
        attempts = info["stages"].setdefault(stage, [])
        attempts.append({"start": now(), "end": None})
        write_json(self.info, info)
        with metrics.tagged(run=self.info.parent.name, stage=stage.split()[0]):
            yield
        info = read_json(self.info)
        info["stages"][stage][-1]["end"] = now()
        write_json(self.info, info)

    def stage_seconds(self) -> dict[str, float]:
        """Seconds of each stage, summed over its attempts."""
        stages = read_json(self.info)["stages"]
        return {name: sum(map(attempt_seconds, attempts)) for name, attempts in stages.items()}

    def deadlines(self) -> dict[str, dict[str, float]]:
        """`at` and `share_s` of the stages that have one, as `app.running.deadlines.Deadline` has them."""
        found: dict[str, dict[str, float]] = read_json(self.info).get("deadlines", {})
        return found


def attempt_seconds(attempt: dict[str, Any], at: float | None = None) -> float:
    """That an attempt of run.json has taken; at: it goes on, and this is now. One that was killed ended when it told
    last (`app.running.heartbeat`)."""
    end = attempt["end"] or at or attempt.get("seen") or attempt["start"]
    return max(0.0, float(end - attempt["start"]))


def note_killed(info: Path, told: Now | None) -> None:
    """Write down when attempts that were killed told last, before another one tells. info: a run's run.json."""
    held = read_json(info)
    killed = [one for attempts in held["stages"].values() for one in attempts if not one["end"] and "seen" not in one]
    if told and killed:
        for one in killed:
            one["seen"] = max(one["start"], told.at)
        write_json(info, held)
