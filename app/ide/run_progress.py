"""A pipeline against its plan: what each stage was planned to take, what it has taken, and where it is now.

Read from run.json and from what the stages write while they work; the plan is that of `python -m app plan`. A stage
that began and did not end is at work where a process holds the run's lock, and was interrupted elsewhere. The lock is
looked up in /proc/locks and never taken: a pipeline that starts just then would believe that another one works on its
run.
"""

import re
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from html import escape
from pathlib import Path
from typing import Any

from app.files.json_files import read_json
from app.ide.markup import block
from app.ide.planned import Planned
from app.run_settings import stored_profile
from app.runs import Run, left_out

STAGES = ("corpus", "sft", "grm", "evolve", "validate", "evaluate", "report")
"""In the order in which the pipeline runs them; run.json has `validate grm` and the like for each that is validated."""
LOCKS = Path("/proc/locks")


class State(StrEnum):
    DONE = "done"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    WAITING = "waiting"
    LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True, kw_only=True)
class StageProgress:
    """Made by `progress`; shown by the page.

    Example: StageProgress(name="grm", state=State.RUNNING, planned_s=540.0, used_s=210.0, note="step 5 of 8")
    """

    name: str
    state: State
    planned_s: float | None
    """None where nothing was planned."""
    used_s: float
    """Of all attempts, the one at work included."""
    note: str = ""
    """How far it is, or why it is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgress:
    stages: tuple[StageProgress, ...]
    note: str = ""
    """Why there is no plan; empty where there is one."""

    @property
    def current(self) -> StageProgress | None:
        return next((one for one in self.stages if one.state is State.RUNNING), None)

    @property
    def left_s(self) -> float:
        """By the plan, of the stages that are not complete."""
        open_ = [one for one in self.stages if one.state not in (State.DONE, State.LEFT_OUT)]
        return sum(max(0.0, (one.planned_s or 0.0) - one.used_s) for one in open_)


def progress(run: Run, plan: Planned | None) -> RunProgress:
    """plan: None while it is being made. Raises UserError for a run.json that can't be read."""
    info = read_json(run.info)
    plan = plan or Planned(why="the plan is being made")
    is_held, reasons = is_at_work(run), left_out(run)
    found = []
    for name in STAGES:
        attempts = [one for stage, some in info["stages"].items() if stage.split()[0] == name for one in some]
        state = _state(run, name, attempts, is_held=is_held, reasons=reasons)
        now = time.time() if state is State.RUNNING else None
        used = sum((one["end"] or now or one["start"]) - one["start"] for one in attempts)
        note = reasons[name] if state is State.LEFT_OUT else _how_far(run, name) if state is not State.DONE else ""
        planned_s = None if state is State.LEFT_OUT else plan.seconds.get(name)
        found.append(StageProgress(name=name, state=state, planned_s=planned_s, used_s=used, note=note))
    return RunProgress(stages=tuple(found), note=plan.why)


def is_at_work(run: Run) -> bool:
    """Whether a process holds the run's lock."""
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


def shown(run: Run, found: RunProgress) -> str:
    """As inert HTML: a row a stage, its bar the share of the planned time that it has taken."""
    current = found.current
    if current:
        head = f"<strong>{escape(current.name)}</strong> is running{_so(current.note)}"
        if found.left_s:
            head += f"; by the plan {time_words(found.left_s)} are left"
    elif any(one.state is State.INTERRUPTED for one in found.stages):
        command = f"python -m app pipeline --run {escape(shlex.quote(str(run.root)))} --resume"
        head = f"<strong>Interrupted:</strong> <code>{command}</code> goes on"
    elif all(one.state in (State.DONE, State.LEFT_OUT) for one in found.stages):
        head = f"<strong>Complete</strong> after {time_words(sum(one.used_s for one in found.stages))}"
    else:
        head = "Nothing works on this run now"
    note = f'<p class="small">No planned times: {escape(found.note)}.</p>' if found.note else ""
    names = ("stage", "", "planned", "used", "of the plan", "")
    top = "".join(f"<th>{name}</th>" for name in names)
    rows = "".join(map(_row, found.stages))
    table = f'<table class="facts plan"><tr>{top}</tr>{rows}</table>'
    return block(f'<div class="progress"><p class="said">{head}.</p><div class="wide">{table}</div>{note}</div>')


def _row(one: StageProgress) -> str:
    planned = "–" if one.planned_s is None else time_words(one.planned_s)
    used = time_words(one.used_s) if one.used_s else "–"
    bar, share = "", ""
    if one.planned_s and one.used_s:
        part = one.used_s / one.planned_s
        kind = " over" if part > 1 else ""
        bar = f'<div class="bar{kind}"><div style="width: {min(100.0, 100 * part):.0f}%"></div></div>'
        share = f"{100 * part:.0f} %"
    kind = one.state.value.replace(" ", "-")
    state = f'<span class="state {kind}">{one.state.value}</span>'
    cells = f'<td>{one.name}</td><td>{state}</td><td class="number">{planned}</td><td class="number">{used}</td>'
    cells += f'<td class="share">{bar}<span>{share}</span></td><td class="small">{_with_code(one.note)}</td>'
    return f'<tr class="{kind}">{cells}</tr>'


def _with_code(note: str) -> str:
    """Commands between backticks as code."""
    return re.sub("`([^`]*)`", r"<code>\1</code>", escape(note))


def _so(note: str) -> str:
    return f", {escape(note)}" if note else ""


def time_words(seconds: float) -> str:
    """A time in the unit that suits it: 45 s, 12 min, 3.5 h, 2.1 days."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 72 * 3600 else f"{seconds / 86400:.1f} days"
