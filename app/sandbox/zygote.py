"""A small Python process that stands ready, confined, and forks one child a run: fork instead of start, 1 ms not 20.

There are two, started alike and told their role: the candidate zygote's children run programs, the judge zygote's
children run tests. The candidate zygote never holds a program, a test or an expected value: a program reaches its
process over a pipe of its own, after the fork. The judge zygote compiles a problem's tests and forks with them.
Started by `process.Zygote` as `python -s -S -P -c ...` with an environment that it empties and one end of a socket
pair, over which it is told to spawn and to reap, one message at a time. Spawning and reaping leave nothing of a program
in its memory, which the next one gets a copy of (`children`); no descriptor of its own goes to a child.
"""

import builtins
import contextlib
import gc
import importlib
import importlib.util
import json
import os
import select
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from app.sandbox import candidate, children, confine, judge, mounts, seccomp, values, wire
from app.sandbox.evidence import Evidence
from app.sandbox.iterators import Lender

PRELOADED = {
    "candidate": "typing collections re math string functools itertools operator heapq bisect copy".split(),
    "judge": "typing math".split(),
}
"""What short programs and tests import most. The rest costs a child milliseconds; each module here costs every fork."""
MAX_FDS = 6
CONTROL, THIS_PROCESS = 24, 25
"""Descriptors of the control socket and of this process. Far from 3, so that descriptors received come as 3, 4, ... and
children find theirs there."""
THREAD_STACK = 8 << 20
RUNS: dict[str, Callable[..., NoReturn]] = {
    "calls": candidate.serve_calls,
    "script": candidate.serve_script,
    "in_process": candidate.serve_in_process,
    "judge": judge.serve,
}


class Libraries:
    """A finder of those packages beside the standard library whose folders are in the view, and of no others."""

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
    del control_fd  # a number that the frames of all children would show
    os.dup2(os.pidfd_open(os.getpid()), THIS_PROCESS, inheritable=False)
    os.closerange(3, CONTROL)
    os.closerange(THIS_PROCESS + 1, 1 << 16)
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
    own_namespaces = role == "candidate" and filter_ is not None and children.can_have_namespaces()
    report["own_namespaces"] = own_namespaces
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)  # a short run ends before its first collection
    control.send(json.dumps(report).encode())
    _serve(control, filter_, own_namespaces)


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
    own_mounts = settings["own_mounts"] and mounts.hide_all_but(settings["import_path"] + settings["paths"])
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
    report = {"landlock": landlock, "seccomp": filter_ is not None, "own_mounts": own_mounts}
    return report | {"escapes": confine.escapes()}, filter_


def _serve(control: socket.socket, filter_: confine.Filter | None, own_namespaces: bool) -> NoReturn:
    this_ended = select.poll()
    this_ended.register(THIS_PROCESS, select.POLLIN)
    while True:
        data, fds, _, _ = socket.recv_fds(control, 4096, MAX_FDS)
        if not data:
            os._exit(0)  # the supervisor is gone; children die with their parent
        message = json.loads(data)
        if message["run"] == "reap":
            children.reap(fds[0], control)
            _close(fds)
            continue
        given = [judge.read_problem(fds[0])] if message["run"] == "judge" else []
        try:
            pidfd = children.fork(own_namespaces=own_namespaces)
        except OSError as error:
            _close(fds)
            control.send(f"no new process: {error}".encode())
            continue
        if pidfd is None:
            _run_child(this_ended, message, fds, filter_, given)
        del given
        _close(fds)
        socket.send_fds(control, [b"{}"], [pidfd])
        os.close(pidfd)


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def _run_child(
    parent_ended: select.poll,
    message: dict[str, Any],
    fds: list[int],
    filter_: confine.Filter | None,
    given: list[Any],
) -> NoReturn:
    """fds: 3, 4, ...: what the run talks over (a judge: one, a candidate: two), its standard streams if it has
    some, and a /dev/null of its own for the others."""
    try:
        keep = 4 if message["run"] == "judge" else 5
        streams = fds[keep - 3 : -1]
        for stream in range(3):
            os.dup2(streams[stream] if stream < len(streams) else fds[-1], stream)
        limits = confine.Limits(memory_bytes=message["memory_bytes"], cpu_seconds=message["cpu_seconds"])
        confine.confine_child(parent_ended, keep, limits, filter_)
        RUNS[message["run"]](*given)
    finally:
        os._exit(1)
