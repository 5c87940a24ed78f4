"""What engines that start and end leave of Python's search for garbage."""

import contextlib
import gc

from app.generation.own_garbage import own_garbage


def test_two_engines_that_end_at_the_same_time_leave_the_search_for_garbage_as_it_was() -> None:
    usual = gc.collect, gc.freeze, gc.unfreeze
    first, second = contextlib.ExitStack(), contextlib.ExitStack()
    first.enter_context(own_garbage(is_start=False, use_gpu=False))
    second.enter_context(own_garbage(is_start=False, use_gpu=False))
    assert gc.collect is not usual[0] and gc.collect(generation=1) == 0
    first.close()
    second.close()
    assert (gc.collect, gc.freeze, gc.unfreeze) == usual
