"""Processes that tests look for, which may end at any moment, and commands that tests end."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from tests import commands


def title(process: psutil.Process) -> str:
    """Its command line, or what it has put in that place; empty where it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def below(words: str, pid: int | None = None) -> list[psutil.Process]:
    """Processes below this one, or the one of that number, with these words in their titles. Ray names a worker after
    what it runs."""
    return [process for process in psutil.Process(pid).children(recursive=True) if words in title(process)]


def started_and_killed(arguments: Sequence[str], log: Path, ready: Callable[[], bool]) -> None:
    """Start `python -m app`, and end the driver with SIGKILL as soon as `ready`."""
    driver = commands.started(arguments, os.environ, [log, log])
    deadline = time.monotonic() + 240
    while not ready():
        assert driver.exitcode is None, "the command ended before it could be killed:\n" + log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.01)
    driver.kill()
    driver.join()
    assert driver.pid
    end_group(driver.pid)


def end_group(group: int) -> None:
    """Ray's workers end with their driver; its agents outlive it by half a minute, which no test need wait for."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
