"""Ray's workers without their imports: a process that has made them forks one a worker, as `tests/commands.py` has one
a command.

A worker that trains takes seven to thirteen seconds of a core to import torch, peft and Ray Train, each of Ray Train's
seven helpers about two, one that serves by vLLM ten. Ray's own processes in Python are forked too: its dashboard and
two agents, a second each. Only a Ray that is started under `forking` has them so, and only a shell in which
`tests.commands.programs` come first has its commands so. A job's driver and its workers import the repository's modules
from the job's own copy all the same.
"""

import contextlib
import gc
import importlib
import marshal
import multiprocessing
import os
import runpy
import select
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.ask_for_worker import FORKS, is_script
from tests.forked_children import fork_in_advance, to_its_end

READ_BY_IMPORTS = ("HF_", "TRANSFORMERS_", "OMP_", "TORCH_")  # imports themselves set some of TORCHINDUCTOR_

ROOT = Path(__file__).resolve().parent.parent
OF_REPOSITORY = ("app", "actors", "tune_spaces")


def before_imports(env: Mapping[str, str]) -> dict[str, str]:
    """What of an environment decides how modules are imported."""
    return {name: value for name, value in env.items() if name.startswith(READ_BY_IMPORTS)}


def read_by_ray() -> dict[str, str]:
    """What Ray's library has to find in the environment when the process that forks imports it: it reads these two but
    once, and no worker starts without them. The job is that of a worker that is started before its job is known, the
    raylet whose end ends the worker is this process; of the real one `tests/ask_for_worker.py` knows."""
    return {"RAY_JOB_ID": "ffffffff", "RAY_RAYLET_PID": str(os.getpid())}


@contextlib.contextmanager
def forking(place: Path) -> Iterator[None]:
    """A Ray that this process starts in the block has its workers forked by whoever listens at this socket. It has no
    log monitor and no autoscaler's monitor, which nobody needs here, at a second of a core each.

    By private members of Ray 2.60: `ray.init` takes none of these."""
    from ray._private import parameter, services

    usual: Any = parameter.RayParams
    interpreter = "_build_python_executable_command_memory_profileable"  # of the dashboard and the agents
    usual_interpreter = getattr(services, interpreter)
    asker = str(Path(__file__).with_name("ask_for_worker.py"))

    wanted = {"worker_path": asker, "setup_worker_path": asker, "include_log_monitor": False, "no_monitor": True}

    def params(**given: Any) -> Any:
        return usual(**given | wanted)

    os.environ[FORKS] = str(place)
    parameter.RayParams = params  # type: ignore[assignment, misc]
    setattr(services, interpreter, lambda *_, **__: [sys.executable, asker])
    try:
        yield
    finally:
        parameter.RayParams = usual  # type: ignore[misc]
        setattr(services, interpreter, usual_interpreter)
        del os.environ[FORKS]


def fork_for_all(listener: socket.socket, imported_under: Mapping[str, str], imports: Sequence[str]) -> None:
    """Import these modules, and fork a worker for each who asks, until the process that started this one is gone. Who
    asks under another environment than `imported_under`, as `before_imports` has it, is told to be a usual worker."""
    from ray._private import workers

    parent = multiprocessing.parent_process()
    assert parent is not None
    for name in imports:
        importlib.import_module(name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody here waits for the workers
    while parent.sentinel not in select.select([listener, parent.sentinel], [], [])[0]:
        client, _ = listener.accept()
        with client, contextlib.suppress(EOFError, OSError):  # who asks may be ended meanwhile, with its Ray
            length, streams, *_ = socket.recv_fds(client, 8, 3)
            arguments, env, folder = marshal.loads(client.recv(int.from_bytes(length, "big"), socket.MSG_WAITALL))
            is_worker = not (arguments[0] == "-m" or is_script(arguments))
            arguments, context = _without_setup(arguments) if is_worker else _as_it_is(arguments)
            changes, own_folder = (context.env_vars, _own_folder(context)) if context else ({}, None)
            can_fork = context is not None and before_imports(env | changes) == imported_under
            pid = os.fork() if can_fork else None
            if pid == 0:
                listener.close()
                if not is_worker:
                    threading.Thread(target=_end_with, args=(client,), daemon=True).start()
                    _work(arguments, env, {}, folder, streams, client)
                client.close()
                worker = str(Path(workers.__path__[0], "default_worker.py"))
                _work([worker, *arguments], env, changes, own_folder or folder, streams)
            for stream in streams:
                os.close(stream)
            client.sendall((pid or 0).to_bytes(8, "big"))


def _as_it_is(arguments: Sequence[str]) -> tuple[Sequence[str], Any]:
    """As `_without_setup`, for a command and for a process of Ray's own. A dashboard that serves pages is no fork: it
    starts processes, which multiprocessing allows no daemon."""
    from ray._private.runtime_env.context import RuntimeEnvContext

    serves_pages = arguments[0].endswith("dashboard.py") and "--disable-frontend" not in arguments
    return arguments, None if serves_pages else RuntimeEnvContext()


def _without_setup(arguments: Sequence[str]) -> tuple[Sequence[str], Any]:
    """A worker's own arguments, and what its runtime environment changes: variables, and the folder that it works in.
    None where that is more.

    Ray starts a worker through a process that imports Ray, sees to the runtime environment and is then the worker."""
    from ray._private.runtime_env.context import RuntimeEnvContext
    from ray._private.workers.setup_worker import parser

    setup, (_, *others) = parser.parse_known_args(arguments)
    context = RuntimeEnvContext.deserialize(setup.serialized_runtime_env_context or "{}")
    folder = _own_folder(context)
    known = RuntimeEnvContext(
        command_prefix=["cd", shlex.quote(folder), "&&"] if folder else [], env_vars=context.env_vars
    )
    return others, context if known.serialize() == context.serialize() else None


def _own_folder(context: Any) -> str | None:
    """The copy of a job's `--working-dir`."""
    return shlex.split(context.command_prefix[1])[0] if context.command_prefix[:1] == ["cd"] else None


def _import_from(places: Sequence[str]) -> None:
    """Find modules here first, and the repository's nowhere else: those of another copy of it, or of a worker that is
    not told where it is, are forgotten."""
    sys.path[:] = [*places, *(place for place in sys.path if place not in ("", str(ROOT)))]
    if next((place for place in places if Path(place, "app").is_dir()), None) != str(ROOT):
        for name in [name for name in sys.modules if name.partition(".")[0] in OF_REPOSITORY]:
            del sys.modules[name]


def _end_with(asker: socket.socket) -> None:
    """End this process with the one that asked for it: whoever starts processes of Ray's own kills those it knows."""
    asker.recv(1)
    os.kill(os.getpid(), signal.SIGKILL)


def _work(
    arguments: Sequence[str],
    env: Mapping[str, str],
    changes: dict[str, str],
    folder: str,
    streams: Sequence[int],
    asker: socket.socket | None = None,
) -> None:
    """The forked process: from here on what runs this script, or `-m` and a module, and it does not come back. asker:
    who is told with what code it ends."""
    from ray._private import utils
    from ray._raylet import Config
    from ray.dashboard import consts

    with to_its_end(asker):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setpgid(0, 0)  # as a raylet's workers have it, which ends whole groups
        for fd, stream in enumerate(streams):
            os.dup2(stream, fd)
            os.close(stream)
        os.environ.clear()
        os.environ.update(env)
        utils.update_envs(changes)
        os.chdir(folder)
        _import_from([*filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), folder])
        multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]  # may have children
        Config.initialize("")  # reads the environment again
        if "vllm" in sys.modules and arguments[0].endswith("default_worker.py"):
            fork_in_advance()
        sys.stdin = os.fdopen(0, closefd=False)  # an agent sees its raylet's end by it, and multiprocessing closed it
        consts.PARENT_HEALTH_CHECK_BY_PIPE = True  # by its number the parent would not be the raylet
        if arguments[0] == "-m":
            signal.signal(signal.SIGINT, signal.default_int_handler)
            sys.argv = [*arguments[1:]]
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
            return
        sys.argv = [*arguments]
        sys.path.insert(0, str(Path(arguments[0]).parent))
        runpy.run_path(sys.argv[0], run_name="__main__")
