"""`python -m app` as a test's user starts it, without its imports: a process that has made them forks one a command.

Torch, transformers and peft take five to seven seconds of a core to import, and the tests start dozens of commands.
What an environment says before those imports (Hugging Face's variables, threads) holds for the process that made them:
where a command's differs, it is started as any other.
"""

import atexit
import functools
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver, get_context
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.ask_for_worker import FORKS
from tests.forked_workers import before_imports, fork_for_all, forking, read_by_ray

ROOT = Path(__file__).resolve().parent.parent
Done = subprocess.CompletedProcess[str]


@functools.cache
def context() -> ForkServerContext:
    """Starts processes by a fork of the one that has made the imports. That one is started at the first call, whoever
    calls, so that all that are forked find in Ray's library what it reads but once."""
    forks = get_context("forkserver")
    forks.set_forkserver_preload(["tests.preloaded"])
    os.environ |= read_by_ray()
    forkserver.ensure_running()
    for name in read_by_ray():
        del os.environ[name]
    return forks


@functools.cache
def workers_socket(imports: tuple[str, ...] = ()) -> Path:
    """Where workers of a Ray are forked (`tests/forked_workers.py`), until this process ends. At the first call, which
    comes before the first command, its environment is still the one that it was begun with. imports: modules, besides
    those of `tests/preloaded.py`."""
    folder = Path(tempfile.mkdtemp(prefix="forks-", dir="/tmp"))  # a socket's path has no more than 107 characters
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen()
        server = context().Process(
            target=fork_for_all, args=(listener, before_imports(os.environ), imports), daemon=True
        )
        server.start()
    return folder / "socket"


def programs(folder: Path) -> Path:
    """A new folder with a `python` and a `ray` for the front of a PATH: `python -m app`, modules of it and `ray` are
    forked, where the imports hold for their environment, and all else is this Python's."""
    folder.mkdir()
    ask = f"exec {sys.executable} -S {Path(__file__).with_name('ask_for_worker.py')}"
    forks = f"#!/bin/sh\nexport {FORKS}={workers_socket()}\n"
    is_ours = 'case "$1 $2" in "-m app" | "-m app."*)'
    (folder / "python").write_text(f'{forks}{is_ours} {ask} "$@";; esac\nexec {sys.executable} "$@"\n')
    (folder / "ray").write_text(f'{forks}{ask} -m ray.scripts.scripts "$@"\n')
    for program in folder.iterdir():
        program.chmod(0o755)
    return folder


def run(
    arguments: Sequence[str],
    env: Mapping[str, str],
    imported_under: Mapping[str, str],
    timeout: float,
    *,
    module: str = "app",
) -> Done:
    """Run `python -m MODULE` in the repository root. imported_under: `before_imports` of the environment that this
    process was begun with. Raises subprocess.TimeoutExpired, with the command ended."""
    if before_imports(env) != imported_under:
        command = [sys.executable, "-m", module, *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, env=dict(env))
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder, name) for name in ("stdout", "stderr")]
        process = started(arguments, env, outputs, module=module)
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(list(arguments), timeout, *(path.read_bytes() for path in outputs))
        return subprocess.CompletedProcess(
            list(arguments), process.exitcode, *(path.read_text(errors="replace") for path in outputs)
        )


def started(
    arguments: Sequence[str],
    env: Mapping[str, str],
    outputs: Sequence[Path],
    *,
    module: str = "app",
    folder: Path = ROOT,
    workers_import: tuple[str, ...] = (),
) -> BaseProcess:
    """`python -m MODULE` in this folder, in a session of its own. outputs: files for standard output and error, which
    may be one. workers_import: what workers of its Ray find imported besides `tests/preloaded.py`."""
    workers = workers_socket(workers_import)
    process = context().Process(target=_be, args=(module, list(arguments), dict(env), folder, list(outputs), workers))
    process.start()
    return process


def _be(
    module: str, arguments: list[str], env: dict[str, str], folder: Path, outputs: list[Path], workers: Path
) -> None:
    """The forked process: from here on the command."""
    from ray._raylet import Config

    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
    for fd, path in zip((1, 2), outputs, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND), fd)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    Config.initialize("")  # reads the environment again, RAY_AUTH_MODE too
    sys.argv = [module, *arguments]
    try:
        with forking(workers):
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:  # multiprocessing ends a process without what Python does at its end
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
