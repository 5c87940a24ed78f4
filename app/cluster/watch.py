"""A watch over the Ray that a command runs on, and what to say where a part of it is lost.

Where Ray's head or this machine's raylet ends, Ray 2.60 has the driver wait for a minute and more, then ends it without
a word, or raises what no user can read. The watch ends the command at once, with one sentence. What the run has is on
the disk, and the same command goes on from it.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import psutil

from app.errors import first_line

LOOK_EVERY_S = 1.0
ASK_EVERY_S = 3.0
"""How often a cluster that was joined is asked: that goes over the network."""
SILENT_S = 60.0
"""How long a cluster that was joined may answer nothing: one that is busy, or restarts its head, needs a moment."""
SILENT_JOINING_S = 20.0
"""The same while it is joined, so it is said within half a minute. Ray was seen to try for more than two minutes."""
HEAD = ("raylet", "gcs_server")
AGAIN = "give the same command again to go on (`pipeline` with --resume)"


def watched(joined: str) -> AbstractContextManager[None]:
    """Watch the Ray that this process is connected to. joined: a cluster's address; empty for one that this process has
    started, or starts in the block."""
    return _watching(_Joined(joined), ASK_EVERY_S) if joined else _watching(_lost_here, LOOK_EVERY_S)


def watched_joining(address: str, ask: Callable[[], None]) -> AbstractContextManager[None]:
    """Watch a cluster while `ray.init` joins it. ask: raises ConnectionError where it answers nothing."""
    return _watching(_Joining(address, ask), ASK_EVERY_S)


@contextlib.contextmanager
def _watching(look: Callable[[], str], every: float) -> Iterator[None]:
    """look: what is lost, empty where nothing is."""
    ended = threading.Event()
    thread = threading.Thread(target=_watch, args=(look, every, ended), name="watch-ray", daemon=True)
    thread.start()
    try:
        yield
    except Exception:  # of a Ray that is gone, before the watch has looked
        if lost := look():
            _end(f"{lost}: {AGAIN}")
        raise
    finally:
        ended.set()


def sentence_of(error: BaseException) -> str | None:
    """What to tell the user of an error by which Ray says that it has lost something; None for any other error."""
    if "ray" not in sys.modules:
        return None
    from ray import exceptions

    memory = exceptions.OutOfMemoryError, exceptions.ObjectStoreFullError, exceptions.OutOfDiskError
    lost = (
        exceptions.RayActorError, exceptions.WorkerCrashedError, exceptions.NodeDiedError,
        exceptions.LocalRayletDiedError, exceptions.ObjectLostError, exceptions.RaySystemError,
    )  # fmt: skip
    if isinstance(error, memory):
        return f"Ray has no room ({first_line(error)}): give the machine more memory and disk, then {AGAIN}"
    if isinstance(error, lost):
        return f"Ray has lost a process that the command needs ({first_line(error)}): {AGAIN}"
    return None


def _watch(look: Callable[[], str], every: float, ended: threading.Event) -> None:
    while not ended.wait(every):
        if (lost := look()) and not ended.is_set():
            _end(f"{lost}: {AGAIN}")


def _lost_here() -> str:
    """Which of the processes that this one started has ended; empty where they run.

    By private members of Ray 2.60, which has no public word for it."""
    import ray

    node = ray._private.worker._global_node
    gone = [name for name, _ in node.dead_processes() if name in HEAD] if node else _ended_children()
    return f"Ray's {gone[0]} on this machine has ended, most often for lack of memory" if gone else ""


def _ended_children() -> list[str]:
    """Names of HEAD's processes that have ended while `ray.init` still runs, when there is no node to ask yet. They
    stay this process's children, as zombies, until it asks how they ended."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if child.status() == psutil.STATUS_ZOMBIE and child.name() in HEAD:
                found.append(child.name())
    return found


class _Joining:
    """Asks the cluster whether it still answers."""

    def __init__(self, address: str, ask: Callable[[], None]) -> None:
        self._address, self._ask, self._answered = address, ask, time.monotonic()

    def __call__(self) -> str:
        try:
            self._ask()
        except ConnectionError as error:
            silent = time.monotonic() - self._answered
            told = f"the Ray cluster at {self._address} was lost while it was joined ({first_line(error)})"
            return told if silent > SILENT_JOINING_S else ""
        self._answered = time.monotonic()
        return ""


class _Joined:
    """Asks the cluster whether this machine is still one of its nodes."""

    def __init__(self, address: str) -> None:
        import ray

        self._address, self._node = address, ray.get_runtime_context().get_node_id()
        self._client = ray._raylet.GcsClient(address=ray.get_runtime_context().gcs_address)
        self._answered = time.monotonic()

    def __call__(self) -> str:
        from ray.core.generated import gcs_pb2

        try:
            alive = self._client.get_all_node_info(
                timeout=ASK_EVERY_S, state_filter=gcs_pb2.GcsNodeInfo.GcsNodeState.ALIVE
            )
        except Exception as error:  # Ray's library raises several kinds for a head that is gone
            silent = time.monotonic() - self._answered
            why = f"({first_line(error)}) for {silent:.0f} s"
            return f"the Ray cluster at {self._address} answers nothing {why}" if silent > SILENT_S else ""
        self._answered = time.monotonic()
        if self._node in {node.hex() for node in alive}:
            return ""
        return f"this machine is no longer a node of the Ray cluster at {self._address}: its raylet has ended"


def _end(sentence: str) -> None:
    """End this process as the command line does for a mistake. Nothing is cleaned up: that would wait for Ray."""
    import ray

    print(f"pocketcoder: {sentence}", file=sys.stderr, flush=True)
    if node := ray._private.worker._global_node:
        with contextlib.suppress(Exception):
            node.kill_all_processes(check_alive=False)
    os._exit(2)
