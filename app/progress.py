"""Progress for people: a rich bar on a terminal, a plain line now and then otherwise. Everything goes to standard
error."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

PLAIN_EVERY_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Doing:
    """How far this process is with what it counts. Made by `progress`; read by `app.running.heartbeat`."""

    label: str
    done: int
    total: int
    unit: str
    note: str


_listener: Callable[[str], None] | None = None
_said = ""
_counted: list[Doing] = []
"""The last one was begun last."""


def doing() -> Doing | None:
    return _counted[-1] if _counted else None


def last_said() -> str:
    return _said


def say(text: str) -> None:
    global _said
    _said = text
    print(text, file=sys.stderr, flush=True)
    if _listener is not None:
        _listener(text)


def forward_to(listener: Callable[[str], None]) -> None:
    """Hand what this process says from now on to a listener as well: what a Ray worker prints is not seen."""
    global _listener
    _listener = listener


Update = Callable[..., None]
"""update(done, note=""): how many units are done, and a short note such as the loss."""


@contextlib.contextmanager
def progress(label: str, total: int, unit: str) -> Iterator[Update]:
    place = len(_counted)
    _counted.append(Doing(label=label, done=0, total=total, unit=unit, note=""))
    with _rich_bar(label, total, unit) if sys.stderr.isatty() else _plain_lines(label, total, unit) as show:

        def update(done: int, note: str = "") -> None:
            if place < len(_counted):  # threads may end in another order than they began
                _counted[place] = Doing(label=label, done=done, total=total, unit=unit, note=note)
            show(done, note)

        try:
            yield update
        finally:
            del _counted[place:]


@contextlib.contextmanager
def _plain_lines(label: str, total: int, unit: str) -> Iterator[Update]:
    start = last = time.monotonic()

    def update(done: int, note: str = "") -> None:
        nonlocal last
        if time.monotonic() - last >= PLAIN_EVERY_SECONDS:
            last = time.monotonic()
            say(f"  {label}: {done}/{total} {unit} {note} ({last - start:.0f} s)")

    yield update


@contextlib.contextmanager
def _rich_bar(label: str, total: int, unit: str) -> Iterator[Update]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    note = TextColumn(unit + " {task.fields[note]}")
    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), note)
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, note="")

        def update(done: int, note: str = "") -> None:
            bar.update(task, completed=done, note=note)

        yield update
