"""A search for garbage that costs what vLLM's engine made, instead of what the whole process holds.

vLLM looks for garbage seven times while an engine starts and ends, and undoes all freezing. With what the process has
imported, and what its first engine did, each search takes a third of a second to a second of a core.
"""

import functools
import gc
from collections.abc import Iterator
from contextlib import contextmanager

_USUAL = gc.collect, gc.freeze, gc.unfreeze
"""Taken here, so that two engines that start at the same time leave them as they were."""


@contextmanager
def own_garbage(*, is_start: bool, use_gpu: bool) -> Iterator[None]:
    """Start or end an engine of this process in here: garbage is looked for once, before the start and after the end.
    What is there before the first start is not looked at again; the engine's own objects are never frozen, so its
    weights go with it. On a card vLLM looks as it likes: what that costs was not measured there."""
    if use_gpu:
        yield
        return
    if is_start:
        gc.collect()  # the end of an engine that is garbage by now would take this one's process group along
        _freeze()
    gc.collect, gc.freeze, gc.unfreeze = lambda generation=2: 0, lambda: None, lambda: None
    try:
        yield
    finally:
        gc.collect, gc.freeze, gc.unfreeze = _USUAL
        if not is_start:
            gc.collect()


@functools.cache
def _freeze() -> None:
    """Once in a process: a cycle among what is frozen is never freed."""
    gc.freeze()
