"""The page's table of a run against its plan (`app.running.status`)."""

import re
import shlex
from html import escape

from app.ide.markup import block
from app.running.deadlines import time_words
from app.running.status import RunProgress, StageProgress, State
from app.runs import Run


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
