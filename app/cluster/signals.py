"""SIGTERM ends a command as Control-C does: what it started ends too, what it saved is whole, and it says how to go on.

`ray job stop`, Kubernetes, systemd and containers send it.
"""

import signal
import threading
from typing import NoReturn

STOP_S = 50.0
"""For the step that an interrupted training is in, and its checkpoint: less than the minute that docs/cluster.md has
`ray job stop` wait."""


def interrupt_by_sigterm() -> None:
    """From now on SIGTERM raises KeyboardInterrupt in the main thread; nothing happens where another thread calls.

    `ray.init` takes SIGTERM for itself, so that it has to be taken again afterwards.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
