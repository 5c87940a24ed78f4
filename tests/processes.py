"""Processes that tests look for, which may end at any moment."""

import psutil


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
