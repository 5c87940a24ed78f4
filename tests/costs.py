"""What a hostile input may cost, told apart from what else happens in the tests' process."""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def takes_less_than(seconds: float) -> Iterator[None]:
    """Processor time of this thread. No garbage is collected meanwhile: of all that other tests have left that takes a
    second, and falls to whoever makes many objects."""
    was_enabled = gc.isenabled()
    gc.disable()
    start = time.thread_time()
    try:
        yield
        taken = time.thread_time() - start
    finally:
        if was_enabled:
            gc.enable()
    assert taken < seconds, f"{taken:.2f} s"
