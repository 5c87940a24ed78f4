"""Where a program that ran as a script failed, and what to say beside that line: an assertion's values, or the error.

Read from the traceback that the program's process printed. A program can print such lines itself; it then marks a line
of its own, and no more.
"""

import re
from dataclasses import dataclass

from app.files.python_source import source_lines
from app.records import Status
from app.sandbox.script import ScriptRun

ASSERTION = "AssertionError"
MOST_CHARACTERS = 160
"""Of what is said beside a line."""
_FRAME = re.compile(r'^  File "<candidate>", line (\d+)', re.MULTILINE)
_WITH_PLACE = (Status.RUNTIME_ERROR, Status.LOAD_ERROR, Status.MEMORY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Made by `failure_of`; shown by the page.

    Example: Failure(line=7, note="double(3) was 5")
    """

    line: int
    """Of the program, from 1."""
    note: str


def failure_of(run: ScriptRun, source: str) -> Failure | None:
    """None where the program did not fail at a line of its own."""
    places = [int(number) for number in _FRAME.findall(run.errors)]
    places = [line for line in places if 1 <= line <= len(source_lines(source))]
    if run.status not in _WITH_PLACE or not places:
        return None
    said = run.detail.removeprefix(ASSERTION).removeprefix(": ") if run.detail.startswith(ASSERTION) else run.detail
    note = re.sub(r" \(<candidate>, line \d+\)$", "", said) or "does not hold"
    return Failure(line=places[-1], note=note if len(note) <= MOST_CHARACTERS else f"{note[:MOST_CHARACTERS]}…")
