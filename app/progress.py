"""Progress for people: a rich bar on a terminal, a plain line now and then otherwise. Everything goes to standard
error."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

PLAIN_EVERY_SECONDS = 10.0


_listener: Callable[[str], None] | None = None


def say(text: str) -> None:
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
    with _rich_bar(label, total, unit) if sys.stderr.isatty() else _plain_lines(label, total, unit) as update:
        yield update


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
