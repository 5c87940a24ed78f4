"""What a run is doing, against its plan: what each stage was planned to take, what it has taken, and where it is now.

    python -m app status --run DIR [--json]

Read from run.json, from what the stages write while they work, and from now.json, which the process that works on the
run renews every few seconds (`app.running.heartbeat`); nothing of the run is changed, and Ray is not asked. A stage
that began and did not end is at work where a process holds the run's lock, and was interrupted elsewhere. The lock is
looked up in /proc/locks and never taken: a pipeline that starts just then would believe that another one works on its
run. From another machine, which can't see it, now.json tells.
"""

import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from app.errors import UserError
from app.files.json_files import read_json
from app.running.attempts import attempt_seconds
from app.running.deadlines import time_words
from app.running.heartbeat import STALE_S, Now, read_now
from app.running.run_settings import stored_profile
from app.runs import Run, left_out

STAGES = ("corpus", "sft", "grm", "evolve", "validate", "evaluate", "report")
"""In the order in which the pipeline runs them; run.json has `validate grm` and the like for each that is validated."""
LOCKS = Path("/proc/locks")


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """Made by `app.planning.of_run`; read by `progress`."""

    seconds: Mapping[str, float] = field(default_factory=dict)
    """By stage; a stage that is left out has none."""
    why: str = ""
    """Why there are none, in one sentence."""


class State(StrEnum):
    DONE = "done"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    WAITING = "waiting"
    LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True, kw_only=True)
class StageProgress:
    """Made by `progress`; shown by the page and by `python -m app status`.

    Example: StageProgress(name="grm", state=State.RUNNING, planned_s=540.0, used_s=210.0, note="step 5 of 8")
    """

    name: str
    state: State
    planned_s: float | None
    """None where nothing was planned."""
    used_s: float
    """Of all attempts, the one at work included."""
    note: str = ""
    """How far it is, what its deadline has cut, or why it is left out."""
    deadline_s: float | None = None
    """Seconds until its deadline, where it is at work and has one; below 0 when that has passed."""

    @property
    def left_s(self) -> float | None:
        """By the plan; None where nothing was planned, and of what is not to be done any more."""
        if self.planned_s is None or self.state in (State.DONE, State.LEFT_OUT):
            return None
        return max(0.0, self.planned_s - self.used_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgress:
    stages: tuple[StageProgress, ...]
    note: str = ""
    """Why there is no plan; empty where there is one."""
    now: Now | None = None
    """What the process at work was doing when it told last; None where none is at work."""

    @property
    def current(self) -> StageProgress | None:
        return next((one for one in self.stages if one.state is State.RUNNING), None)

    @property
    def left_s(self) -> float:
        """By the plan, of the stages that are not complete."""
        return sum(one.left_s or 0.0 for one in self.stages)


def progress(run: Run, plan: Planned | None) -> RunProgress:
    """plan: None while it is being made. Raises UserError for a run.json that can't be read."""
    info = read_json(run.info)
    plan = plan or Planned(why="the plan is being made")
    is_held, reasons, deadlines = is_at_work(run), left_out(run), run.deadlines()
    found = []
    for name in STAGES:
        attempts = _attempts(info, name)
        state = _state(run, name, attempts, is_held=is_held, reasons=reasons)
        is_running = state is State.RUNNING
        note = reasons[name] if state is State.LEFT_OUT else _how_far(run, name) if state is not State.DONE else ""
        one = StageProgress(
            name=name,
            state=state,
            planned_s=None if state is State.LEFT_OUT else plan.seconds.get(name),
            used_s=sum(attempt_seconds(each, at=time.time() if is_running else None) for each in attempts),
            note=note or run.cuts().get(name, ""),
            deadline_s=deadlines[name]["at"] - time.time() if is_running and name in deadlines else None,
        )
        found.append(one)
    return RunProgress(stages=tuple(found), note=plan.why, now=read_now(run.now) if is_held else None)


def seconds_by_stage(run: Run) -> dict[str, float]:
    """That stages have taken, all attempts together, those that were killed until they told last."""
    info = read_json(run.info)
    return {name: sum(map(attempt_seconds, _attempts(info, name))) for name in STAGES}


def _attempts(info: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    return [one for stage, some in info["stages"].items() if stage.split()[0] == name for one in some]


def is_at_work(run: Run) -> bool:
    """Whether a process works on the run: one of this machine that holds its lock, or one of another that has told
    just now."""
    now = read_now(run.now)
    if now and now.host != platform.node():
        return time.time() - now.at < STALE_S
    try:
        number = (run.root / "run.lock").stat().st_ino
        locks = LOCKS.read_text()
    except OSError:
        return False
    return any(line.split()[-3].rpartition(":")[2] == str(number) for line in locks.splitlines() if "FLOCK" in line)


def _state(run: Run, name: str, attempts: list[dict[str, Any]], *, is_held: bool, reasons: Mapping[str, str]) -> State:
    if name in reasons:
        return State.LEFT_OUT
    if attempts and attempts[-1]["end"] is None:
        return State.RUNNING if is_held else State.INTERRUPTED
    if attempts:
        return State.DONE
    is_over = run.report_html.exists() and not is_held
    return State.DONE if is_over and name == "report" else State.WAITING


def _how_far(run: Run, name: str) -> str:
    """Of a stage that is at work, as far as its files say."""
    profile = stored_profile(run.root)
    if profile is None:
        return ""
    if name == "sft" and run.sft_metrics.exists():
        return f"step {_lines(run.sft_metrics)}"
    if name == "grm" and (metrics := run.arm(profile.grm.arm).metrics).exists():
        return f"step {_lines(metrics)} of {profile.grm.steps}"
    if name == "evolve" and run.evolve_individuals.exists():
        decided = len(list(run.evolve_boundaries.glob("*.json")))
        return f"generation {min(decided + 1, profile.evolve.generations)} of {profile.evolve.generations}"
    if name == "evaluate" and (done := list(run.evaluation.glob("*/*/result.json"))):
        return f"{len(done)} results"
    return ""


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def outcome(found: RunProgress) -> str:
    """The run as a whole, in a word or two."""
    if found.current:
        return "running"
    if any(one.state is State.INTERRUPTED for one in found.stages):
        return "interrupted"
    if all(one.state in (State.DONE, State.LEFT_OUT) for one in found.stages):
        return "complete"
    return "at work" if found.now else "not running"


def require_run(root: Path) -> Run:
    """Raises UserError where there is none."""
    run = Run(root.resolve())
    if not run.info.exists():
        what = "holds no run.json, so it is no run" if root.is_dir() else "is not there"
        raise UserError(f"{root} {what}: name the run directory that the pipeline printed, or see `ls runs`")
    return run


def as_json(run: Run, found: RunProgress) -> dict[str, Any]:
    return {
        "run": str(run.root),
        "outcome": outcome(found),
        "stages": [asdict(one) | {"left_s": one.left_s} for one in found.stages],
        "left_s": found.left_s,
        "now": asdict(found.now) if found.now else None,
        "note": found.note,
    }


def as_text(run: Run, found: RunProgress) -> str:
    """For a person: a line a stage, and what is being done now."""
    rows = [("stage", "state", "used", "planned", "left", "")]
    for one in found.stages:
        planned, left = ("-" if time is None else time_words(time) for time in (one.planned_s, one.left_s))
        note = one.note
        if one.deadline_s is not None:
            until = f"deadline in {time_words(one.deadline_s)}" if one.deadline_s > 0 else "its deadline has passed"
            note = f"{note}, {until}" if note else until
        rows.append((one.name, one.state.value, time_words(one.used_s) if one.used_s else "-", planned, left, note))
    said = [f"run {run.root}: {outcome(found)}", ""]
    said += ["{:10}{:13}{:>9}{:>9}{:>9}  {}".format(*row).rstrip() for row in rows]
    said.append("")
    if now := found.now:
        said.append(f"now: {now.words()} ({time_words(max(0.0, time.time() - now.at))} ago, on {now.host})")
    elif outcome(found) in ("interrupted", "not running"):
        said.append(f"nothing works on it: `python -m app pipeline --run {run.root} --resume` goes on")
    if found.note:
        said.append(f"no planned times: {found.note}")
    elif found.left_s:
        said.append(f"by the plan {time_words(found.left_s)} are left")
    return "\n".join(said).rstrip()
