"""The Generator actor: one process that owns the model for drafting and evaluation.

A shell over the engines: it holds one and hands calls through. A stream runs a few drafts ahead of its consumer and
then waits for it, so a slow consumer costs no memory.
"""

import os
import time
from collections.abc import Iterator, Sequence
from typing import Any, cast

import ray
from ray.exceptions import RayActorError

from app.errors import UserError
from app.progress import say
from app.records import Draft, Prompt, Sampling
from app.records import Generator as GeneratorProtocol
from app.settings import GenerationSettings, ModelSettings

SAY_EVERY_SECONDS = 60.0
PLACE_SECONDS = 600.0
"""How long the actor may wait for its cores or card: time for another job's stage to end, or for a node to be added."""
LOAD_SECONDS = 3600.0
"""How long its engine may take to start, weights that are still to be fetched included."""
DRAFTS_AHEAD = 256


@ray.remote
class Generator:
    _engine: GeneratorProtocol

    def pid(self) -> int:
        """The process id, once the actor has its place."""
        return os.getpid()

    def load(self, model: ModelSettings, settings: GenerationSettings) -> None:
        if settings.engine == "vllm":
            from app.generation.vllm_engine import VllmEngine

            self._engine = VllmEngine(model, settings)
        else:
            from app.generation.transformers_engine import TransformersEngine

            self._engine = TransformersEngine(model, settings)

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, adapter: str) -> list[Draft]:
        return self._engine.generate(prompts, sampling, adapter=adapter)

    # The underscore is Ray's: its documentation knows the limit under no other name.
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
        """Raises UserError where the cluster has no room for the actor within PLACE_SECONDS, where its process ends,
        and where the engine isn't there within LOAD_SECONDS."""
        # A card leaves the cores to the judges; without one, decoding takes every core of a machine.
        cores = (
            1
            if settings.use_gpu
            else max(int(node["Resources"].get("CPU", 1)) for node in ray.nodes() if node["Alive"])
        )
        options = {"num_cpus": cores, "num_gpus": int(settings.use_gpu)}
        self._actor = cast(Any, Generator).options(**options).remote()
        try:
            place, engine = f"waits for {options}", f"loads {model.name}"
            self._wait(place, self._actor.pid.remote(), PLACE_SECONDS, "end what holds them, or add a node")
            self._wait(engine, self._actor.load.remote(model, settings), LOAD_SECONDS, "see its log in Ray's session")
        except BaseException:
            self.close()
            raise

    def _wait(self, doing: str, done: Any, seconds: float, way_out: str) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if ray.wait([done], timeout=min(left, SAY_EVERY_SECONDS))[0]:
                return _get(done)
            say(f"  the generator {doing}; {_free()}")
        raise UserError(f"the generator {doing}, for more than {seconds:.0f} s; {_free()}: {way_out}, and start again")

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


def _free() -> str:
    return f"the cluster has {ray.available_resources()} free"


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
