"""What Ray starts for each worker of a Ray under `tests.forked_workers.forking`, and for each of Ray's own processes in
Python, whose script is then the first argument: it asks for one and waits for its end. With `-m MODULE` it stands for
`python -m MODULE` (`tests.commands.programs`): signals are passed on, and its exit code is the other's.

It hands over its arguments, environment, folder and streams. It runs some hundred times, so it imports little.
"""

import marshal
import os
import select
import signal
import socket
import sys

FORKS = "POCKETCODER_TESTS_FORKS"
"""Names the socket of the process that forks workers."""


def main() -> None:
    asked = marshal.dumps((sys.argv[1:], dict(os.environ), os.getcwd()))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(os.environ[FORKS])
        socket.send_fds(client, [len(asked).to_bytes(8, "big")], [0, 1, 2])
        client.sendall(asked)
        pid = int.from_bytes(client.recv(8, socket.MSG_WAITALL), "big")
        if pid and sys.argv[1] == "-m":
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda number, _: os.kill(pid, number))
            sys.exit(int.from_bytes(client.recv(1) or bytes([128 + signal.SIGKILL]), "big"))
        if pid:
            wait_for(pid, os.getppid())
    if not pid:
        be_usual(sys.argv[1:])


def be_usual(arguments: list[str]) -> None:
    """Be what Ray starts otherwise; to set up a worker's environment, and then to be the worker."""
    if arguments[0] == "-m" or is_script(arguments):
        os.execv(sys.executable, [sys.executable, *arguments])
    sys.path.pop(0)  # this folder, in which `ray` holds tests
    from ray._private import workers

    name = "default_worker.py" if arguments[0].startswith("--") else "setup_worker.py"
    os.execv(sys.executable, [sys.executable, os.path.join(workers.__path__[0], name), *arguments])


def is_script(arguments: list[str]) -> bool:
    """Whether this stands for a process of Ray's own; for a worker it would be this file's own path, or an option."""
    return arguments[0].endswith(".py") and arguments[0] != __file__


def wait_for(worker: int, raylet: int) -> None:
    """Wait for the worker's end, and be its end where the process that started this one is gone."""
    try:
        end = os.pidfd_open(worker)
    except ProcessLookupError:
        return
    while not select.select([end], [], [], 1.0)[0]:
        if os.getppid() != raylet:
            signal.pidfd_send_signal(end, signal.SIGKILL)


if __name__ == "__main__":
    main()
