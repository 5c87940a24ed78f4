"""The Generator actor: one process that owns the model for drafting and evaluation.

A shell over the engines: it holds one and hands calls through. A stream runs a few drafts ahead of its consumer and
then waits for it, so a slow consumer costs no memory. vLLM on a card draws for several callers at the same time, who
may have an adapter each; any other engine takes one call after the other.
"""

import os
import time
from collections.abc import Iterator, Sequence
from typing import Any, cast

import ray

from actors.answers import answer
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
CARD_BESIDE_TRAINER = 0.5
"""The share of a card that is reserved where a trainer reserves the rest. It is for scheduling alone: the two take
turns, and each takes what its settings allow."""


@ray.remote
class Generator:
    _engine: GeneratorProtocol

    def pid(self) -> int:
        """The process id, once the actor has its place."""
        return os.getpid()

    def load(self, model: ModelSettings, settings: GenerationSettings, beside_trainer: bool, sharers: int) -> None:
        if beside_trainer:  # which waits while this draws; Ray allows no more threads than cores are reserved
            os.environ.pop("OMP_NUM_THREADS", None)
        if settings.engine == "vllm":
            from app.generation.vllm_engine import VllmEngine

            self._engine = VllmEngine(model, settings, sharers=sharers)
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

    def score_ids(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], adapter: str) -> list[list[float]]:
        return self._engine.score_ids(pairs, adapter=adapter)

    def sleep(self) -> None:
        self._engine.sleep()


class GeneratorClient:
    """Calls the actor as if it were local; implements `records.Generator`. A copy in another process calls the same
    actor, which ends with the first one."""

    def __init__(
        self, model: ModelSettings, settings: GenerationSettings, *, beside_trainer: bool = False, sharers: int = 1
    ) -> None:
        """beside_trainer: leave a core, and half of the card, to a trainer of the same cluster. sharers: who draw at
        the same time, with an adapter each, where the engine can.

        Raises UserError where the cluster has no room for the actor within PLACE_SECONDS, where its process ends,
        and where the engine isn't there within LOAD_SECONDS."""
        options = _resources(settings.use_gpu, beside_trainer)
        at_once = sharers if settings.engine == "vllm" and settings.use_gpu else 1
        self._actor = cast(Any, Generator).options(**options, max_concurrency=at_once).remote()
        try:
            place, engine = f"waits for {options}", f"loads {model.name}"
            self._wait(place, self._actor.pid.remote(), PLACE_SECONDS, "end what holds them, or add a node")
            self._wait(
                engine,
                self._actor.load.remote(model, settings, beside_trainer, at_once),
                LOAD_SECONDS,
                "see its log in Ray's session",
            )
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

    def score_ids(
        self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], *, adapter: str = ""
    ) -> list[list[float]]:
        return _get(self._actor.score_ids.remote(pairs, adapter))

    def sleep(self) -> None:
        _get(self._actor.sleep.remote())

    def close(self) -> None:
        ray.kill(self._actor)


def _resources(use_gpu: bool, beside_trainer: bool) -> dict[str, float]:
    """A card leaves the cores to the judges; without one, decoding takes every core of a machine."""
    if use_gpu:
        return {"num_cpus": 1, "num_gpus": CARD_BESIDE_TRAINER if beside_trainer else 1}
    cores = max(int(node["Resources"].get("CPU", 1)) for node in ray.nodes() if node["Alive"])
    return {"num_cpus": max(1, cores - beside_trainer), "num_gpus": 0}


def _free() -> str:
    return f"the cluster has {ray.available_resources()} free"


def _get(reference: Any) -> Any:
    return answer(reference, _ended)


def _ended(cause: str) -> str:
    return (
        f"the generator's process ended ({cause}), most often for lack of memory: lower generation.batch_size or "
        "generation.max_model_len; its log is in Ray's session folder"
    )
