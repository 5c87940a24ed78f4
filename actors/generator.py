"""The Generator actor: one process that owns the model for drafting and evaluation.

A shell over the engines: it holds one and hands calls through. A stream runs a few drafts ahead of its consumer and
then waits for it, so a slow consumer costs no memory.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any, cast

import ray
from ray.exceptions import RayActorError

from app.errors import UserError
from app.progress import say
from app.records import Draft, Prompt, Sampling
from app.records import Generator as GeneratorProtocol
from app.settings import GenerationSettings, ModelSettings

PATIENCE_SECONDS = 60.0
DRAFTS_AHEAD = 256


@ray.remote
class Generator:
    def __init__(self, model: ModelSettings, settings: GenerationSettings) -> None:
        self._engine: GeneratorProtocol
        if settings.engine == "vllm":
            from app.generation.vllm_engine import VllmEngine

            self._engine = VllmEngine(model, settings)
        else:
            from app.generation.transformers_engine import TransformersEngine

            self._engine = TransformersEngine(model, settings)

    def ready(self) -> int:
        """The process id, once the engine is made."""
        return os.getpid()

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, adapter: str) -> list[Draft]:
        return self._engine.generate(prompts, sampling, adapter=adapter)

    @ray.method(num_returns="streaming", _generator_backpressure_num_objects=DRAFTS_AHEAD)
    def stream(self, prompts: Sequence[Prompt], sampling: Sampling, adapter: str) -> Iterator[Draft]:
        for draft in self._engine.stream(prompts, sampling, adapter=adapter):  # noqa: UP028
            yield draft  # `yield from` would hand what Ray sends here down to iterators that take nothing

    def score(self, pairs: Sequence[tuple[str, str]], adapter: str) -> list[list[float]]:
        return self._engine.score(pairs, adapter=adapter)

    def sleep(self) -> None:
        self._engine.sleep()


class GeneratorClient:
    """Calls the actor as if it were local; implements `records.Generator`."""

    def __init__(self, model: ModelSettings, settings: GenerationSettings) -> None:
        # A card leaves the cores to the judges; without one, decoding takes every core of a machine.
        cores = (
            1
            if settings.use_gpu
            else max(int(node["Resources"].get("CPU", 1)) for node in ray.nodes() if node["Alive"])
        )
        options = {"num_cpus": cores, "num_gpus": int(settings.use_gpu)}
        self._actor = cast(Any, Generator).options(**options).remote(model, settings)
        ready = self._actor.ready.remote()
        while not ray.wait([ready], timeout=PATIENCE_SECONDS)[0]:
            say(f"  the generator waits for {options}: {ray.available_resources()} is free in the cluster")
        _get(ready)

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, *, adapter: str = "") -> list[Draft]:
        return _get(self._actor.generate.remote(prompts, sampling, adapter))

    def stream(self, prompts: Sequence[Prompt], sampling: Sampling, *, adapter: str = "") -> Iterator[Draft]:
        for reference in self._actor.stream.remote(prompts, sampling, adapter):
            yield _get(reference)

    def score(self, pairs: Sequence[tuple[str, str]], *, adapter: str = "") -> list[list[float]]:
        return _get(self._actor.score.remote(pairs, adapter))

    def sleep(self) -> None:
        _get(self._actor.sleep.remote())

    def close(self) -> None:
        ray.kill(self._actor)


def _get(reference: Any) -> Any:
    """ray.get, whose error for a process that ended says nothing to a user."""
    try:
        return ray.get(reference)
    except RayActorError as error:
        if error.args and isinstance(error.args[0], BaseException):  # its constructor failed: that error says why
            raise
        cause = str(error).strip().splitlines()
        raise UserError(
            f"the generator's process ended ({cause[-1] if cause else type(error).__name__}), most often for lack of "
            "memory: lower generation.batch_size or generation.max_model_len; its log is in Ray's session folder"
        ) from None
