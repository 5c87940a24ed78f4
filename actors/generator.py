"""The Generator actor: one process that owns the model for drafting and evaluation.

A shell over `app.generation`: it holds the engine and hands calls through. The vLLM engine will stand beside the
transformers one behind the same protocol (`records.Generator`).
"""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import ray

from app.progress import say
from app.records import Draft, Problem, Prompt, Sampling
from app.settings import GenerationSettings, ModelSettings

PATIENCE_SECONDS = 60.0


@ray.remote
class Generator:
    def __init__(self, model: ModelSettings, settings: GenerationSettings) -> None:
        from app.generation import TransformersEngine

        self._engine = TransformersEngine(model, batch_size=settings.batch_size, use_gpu=settings.use_gpu)

    def ready(self) -> None:
        """Returns once the engine is made."""

    def generate(
        self, requests: Sequence[Problem | Prompt], sampling: Sampling, adapter: str, protocol: str
    ) -> list[Draft]:
        return self._engine.generate(requests, sampling, adapter=adapter, protocol=protocol)

    @ray.method(num_returns="streaming")
    def stream(
        self, requests: Sequence[Problem | Prompt], sampling: Sampling, adapter: str, protocol: str
    ) -> Iterator[Draft]:
        yield from self._engine.stream(requests, sampling, adapter=adapter, protocol=protocol)


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
        ray.get(ready)

    def generate(
        self, requests: Sequence[Problem | Prompt], sampling: Sampling, *, adapter: str = "", protocol: str = "chat"
    ) -> list[Draft]:
        return ray.get(self._actor.generate.remote(requests, sampling, adapter, protocol))

    def stream(
        self, requests: Sequence[Problem | Prompt], sampling: Sampling, *, adapter: str = "", protocol: str = "chat"
    ) -> Iterator[Draft]:
        for reference in self._actor.stream.remote(requests, sampling, adapter, protocol):
            yield ray.get(reference)

    def close(self) -> None:
        ray.kill(self._actor)
