"""A small Python process that stands ready, confined, and forks one child a run: fork instead of start, 1 ms not 20.

There are two, started alike and told their role: the candidate zygote's children run programs, the judge zygote's
children run tests. The candidate zygote never holds a program, a test or an expected value: a program reaches its
process over a pipe of its own, after the fork. The judge zygote compiles a problem's tests and forks with them.
Started by `process.Zygote` as `python -s -S -P -c ...` with an environment that it empties and one end of a socket
pair, over which it is told to spawn and to reap, one message at a time.
"""

import builtins
import contextlib
import gc
import importlib
import importlib.util
import json
import os
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from app.sandbox import candidate, confine, judge, seccomp, values, wire
from app.sandbox.evidence import Evidence
from app.sandbox.iterators import Lender

PRELOADED = {
    "candidate": "typing collections re math string functools itertools operator heapq bisect copy".split(),
    "judge": "typing math".split(),
}
"""What short programs and tests import most. The rest costs a child milliseconds; each module here costs every fork."""
CONTROL = 24
"""Far from 3, so that descriptors received come as 3, 4, ... and children find theirs there."""
THREAD_STACK = 8 << 20
RUNS: dict[str, Callable[..., NoReturn]] = {
    "calls": candidate.serve_calls,
    "script": candidate.serve_script,
    "in_process": candidate.serve_in_process,
    "judge": judge.serve,
}


class Libraries:
    """Finds the packages beside the standard library whose folders are in the view; other installed ones are not."""

    def __init__(self, folders: dict[str, str]) -> None:
        self._folders = folders

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        folder = self._folders.get(name)
        if folder is None:
            return None
        os.environ["OPENBLAS_NUM_THREADS"] = "1"  # each takes 100 MB of address space
        place = os.path.join(folder, "__init__.py")
        return importlib.util.spec_from_file_location(name, place, submodule_search_locations=[folder])


def main(control_fd: int, role: str) -> NoReturn:
    if control_fd != CONTROL:
        os.dup2(control_fd, CONTROL, inheritable=False)
    os.closerange(3, CONTROL)
    os.closerange(CONTROL + 1, 1 << 16)
    control = socket.socket(fileno=CONTROL)
    settings = json.loads(control.recv(1 << 20))
    try:
        _preload(role)
        sys.path[:] = settings["import_path"]
        sys.meta_path.append(Libraries(settings["libraries"]))
        report, filter_ = _confine(settings, role)
    except Exception as error:
        control.send(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
        os._exit(1)
    os.environ.clear()
    sys.orig_argv[:] = []
    builtins.exit = builtins.quit = sys.exit  # type: ignore[assignment]  # scripts use them; `site` would make them
    threading.stack_size(THREAD_STACK)
    for name in [name for name in sys.modules if name.partition(".")[0] == "app"]:
        del sys.modules[name]  # a program finds the standard library only
    _warm_up()
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)  # a short run ends before its first collection
    control.send(json.dumps(report).encode())
    _serve(control, filter_)


def _preload(role: str) -> None:
    register_at_fork = os.register_at_fork
    os.register_at_fork = lambda **_: None  # random would draw a new state at each fork, in 0.1 ms
    import random

    os.register_at_fork = register_at_fork
    random.seed(0)  # every child starts from this state
    for name in PRELOADED[role]:
        importlib.import_module(name)


def _warm_up() -> None:
    """Do once what every child does first, so that what Python sets up lazily is there before the fork."""
    source = "def check(candidate):\n    assert __assertion__(0, (candidate([{1: (2.5, 'three')}, None]) == 1)), 'text'"
    problem = {
        "style": "check",
        "prelude": "from typing import List\n",
        "tests": source,
        "setup": "",
        "entry_point": "f",
    }
    ours, theirs = socket.socketpair()
    with ours, theirs:
        wire.send(ours, problem)
        tests = judge.Tests(judge.read_problem(theirs.fileno()))
    program = candidate._load("from typing import List\ndef f(x: List[int]) -> int:\n    return len(x)\n", "warm_up")
    request = wire.unpack(
        wire.pack({"id": 1, "args": values.to_json([[{1: (2.5, "three")}, None]]), "kwargs": {"d": []}})[4:]
    )
    candidate._call(program["f"], request, Lender())
    del sys.modules["warm_up"]
    with contextlib.suppress(AssertionError):
        space: dict[str, Any] = {**Evidence().names()}
        exec(tests.checks.code, space)
        space["check"](lambda x: 2)


def _confine(settings: dict[str, Any], role: str) -> tuple[dict[str, Any], confine.Filter | None]:
    """Give up what no child needs. Returns what is in force, and the filter that children add."""
    confine.no_new_privileges()
    confine.hide_from_ptrace()
    confine.drop_capabilities()
    confine.limit_resources()
    landlock = 0
    if settings["landlock"]:
        landlock = confine.allow_reading_only(settings["listed"], settings["folders"], settings["files"])
    filter_ = None
    if settings["seccomp"]:
        confine.Filter(seccomp.zygote_filter(), seccomp.REFUSE).install()
        rules = seccomp.judge_filter() if role == "judge" else seccomp.child_filter()
        filter_ = confine.Filter(rules, seccomp.ALLOW)
    return {"landlock": landlock, "seccomp": filter_ is not None, "escapes": confine.escapes()}, filter_


def _serve(control: socket.socket, filter_: confine.Filter | None) -> NoReturn:
    parent = os.getpid()
    while True:
        data, fds, _, _ = socket.recv_fds(control, 4096, 5)
        if not data:
            os._exit(0)  # the supervisor is gone; children die with their parent
        message = json.loads(data)
        if "reap" in message:
            _, status, usage = os.wait4(message["reap"], 0)
            answer = [status, usage.ru_utime + usage.ru_stime]
            control.send(json.dumps(answer).encode())
            continue
        given = [judge.read_problem(fds[0])] if message["run"] == "judge" else []
        try:
            pid = os.fork()
        except OSError as error:
            _close(fds)
            control.send(f"no new process: {error}".encode())
            continue
        if pid == 0:
            _run_child(parent, message, len(fds), filter_, given)
        del given
        _close(fds)
        pidfd = os.pidfd_open(pid)
        socket.send_fds(control, [str(pid).encode()], [pidfd])
        os.close(pidfd)


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def _run_child(
    parent: int, message: dict[str, Any], num_fds: int, filter_: confine.Filter | None, given: list[Any]
) -> NoReturn:
    try:
        for stream in range(num_fds - 2):  # after requests and responses: standard input, output and, if given, error
            os.dup2(5 + stream, stream)
        keep = 4 if message["run"] == "judge" else 5
        limits = confine.Limits(memory_bytes=message["memory_bytes"], cpu_seconds=message["cpu_seconds"])
        confine.confine_child(parent, keep, limits, filter_)
        RUNS[message["run"]](*given)
    finally:
        os._exit(1)
