"""vLLM's process: it changes torch for the process that it is in, and takes ten seconds of a core to be imported."""

import gc
import importlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from app.generation.vllm_engine import QUIET
from app.models.base import load_tokenizer
from app.prompting.protocols import chat_prompt
from tests.commands import context
from tests.forked_children import fork_in_advance
from tests.unit.prompting.test_turn_ends import first_token, relabelled

TIMEOUT_SECONDS = 240
InVllm = Callable[..., Any]
HELLO = [{"role": "user", "content": "Say hello."}]


@pytest.fixture(scope="session")
def in_vllm(cache: Path) -> Iterator[InVllm]:
    """Call a function in the one process in which the tests here make their engines, one after the other."""
    with ProcessPoolExecutor(1, context(), initializer=_take, initargs=(dict(os.environ),)) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result(TIMEOUT_SECONDS)


def _take(environment: dict[str, str]) -> None:
    """The process that forks was begun under an earlier one. What a served engine spawns finds vLLM imported."""
    os.environ.update(environment)
    os.environ |= QUIET
    for name in ("app.generation.vllm_cpu", "vllm.engine.arg_utils", "vllm.v1.engine.async_llm"):
        importlib.import_module(name)
    gc.freeze()
    fork_in_advance()


@pytest.fixture(scope="session")
def silent(smoke_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that draws the template's end first, when asked to say hello; its configs name another token."""
    prompt = chat_prompt(load_tokenizer(smoke_model), HELLO)
    return relabelled(smoke_model, tmp_path_factory.mktemp("models") / "base", first_token(smoke_model, prompt))
