"""vLLM's process: it changes torch for the process that it is in, and takes ten seconds of a core to be imported."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

TIMEOUT_SECONDS = 240
InVllm = Callable[..., Any]


@pytest.fixture(scope="session")
def in_vllm() -> Iterator[InVllm]:
    """Call a function in the one process in which the tests here make their engines, one after the other."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result(TIMEOUT_SECONDS)
