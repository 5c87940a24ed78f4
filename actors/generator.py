"""The Generator actors: processes that own the model for drafting and evaluation, one a card.

A shell over the engines: each holds one and hands calls through. What is to be drawn is dealt out to them
(`app.generation.dealing`), and their drafts are the same whatever their number. A stream runs a few drafts ahead of its
consumer and then waits for it, so a slow consumer costs no memory. vLLM on a card draws for several callers at the same
time, who may have an adapter each; any other engine takes one call after the other.
"""

import os
import time
from collections.abc import Iterator, Sequence
from typing import Any, cast

import ray

from actors.answers import answer
from actors.names import named
from app.errors import UserError
from app.generation.dealing import Dealing, cores_each, even_shares, in_order
from app.progress import say
from app.records import Draft, Prompt, Sampling
from app.records import Generator as GeneratorProtocol
from app.running import metrics
from app.settings import GenerationSettings, ModelSettings

SAY_EVERY_SECONDS = 60.0
PLACE_SECONDS = 600.0
"""How long the actor may wait for its cores or card: time for another job's stage to end, or for a node to be added."""
OTHERS_SECONDS = 30.0
"""How much longer it may take until the other cards are free, where no number of actors is asked for."""
LOAD_SECONDS = 3600.0
"""How long its engine may take to start, weights that are still to be fetched included."""
BUNDLE, BUNDLE_SECONDS = 16, 0.05
"""Drafts that go to the consumer together, and how long after others have gone there a draft goes with fewer. Those
that end together, fewer than a bundle, so wait for the next one to end. Ray takes half a millisecond of the engine's
process for each thing that it sends, a tenth of the time in which a card draws a draft."""
DRAFTS_AHEAD = 32 * BUNDLE
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
    @ray.method(num_returns="streaming", _generator_backpressure_num_objects=DRAFTS_AHEAD // BUNDLE)
    def stream(self, prompts: Sequence[Prompt], sampling: Sampling, adapter: str) -> Iterator[list[Draft]]:
        yield from bundled(self._engine.stream(prompts, sampling, adapter=adapter))

    def score(self, pairs: Sequence[tuple[str, str]], adapter: str) -> list[list[float]]:
        return self._engine.score(pairs, adapter=adapter)

    def score_ids(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], adapter: str) -> list[list[float]]:
        return self._engine.score_ids(pairs, adapter=adapter)

    def sleep(self) -> None:
        self._engine.sleep()


class GeneratorClient:
    """Calls the actors as if they were one engine here; implements `records.Generator`. Each actor has a card or,
    without cards, cores of one machine. A copy in another process calls the same actors, which end with the first."""

    def __init__(
        self, model: ModelSettings, settings: GenerationSettings, *, beside_trainer: bool = False, sharers: int = 1
    ) -> None:
        """beside_trainer: leave a core, and half of one card, to a trainer of the same cluster. sharers: who draw at
        the same time, with an adapter each, where the engine can.

        Starts settings.num_workers actors, or one for each card that is free by OTHERS_SECONDS after the first has its
        own. Raises UserError where the cluster has no room for them within PLACE_SECONDS, where a process ends, and
        where an engine isn't there within LOAD_SECONDS."""
        self._batch_size = settings.batch_size
        places = _places(settings, beside_trainer)
        at_once = sharers if settings.engine == "vllm" and settings.use_gpu else 1
        alike = {"scheduling_strategy": "SPREAD", "max_concurrency": at_once}
        self._actors = [
            cast(Any, Generator).options(name=named("generator"), **alike, **one).remote() for one in places
        ]
        try:
            self._place(places, settings.num_workers is not None)
            # One that has all of a machine's cores but the trainer's draws on that one as well: the trainer waits then.
            alone = beside_trainer and len(places) == 1
            loads = [actor.load.remote(model, settings, alone, at_once) for actor in self._actors]
            self._wait(f"loads {model.name}", loads, LOAD_SECONDS, "see its log in Ray's session")
        except BaseException:
            self.close()
            raise

    def _place(self, places: Sequence[dict[str, float]], wants_all: bool) -> None:
        """Wait until the actors have what they need. wants_all: else one is enough, and others may come too late."""
        placed = [actor.pid.remote() for actor in self._actors]
        needed = placed if wants_all else placed[:1]
        self._wait(f"waits for {_told(places)}", needed, PLACE_SECONDS, "end what holds them, or add a node")
        there, late = ray.wait(placed, num_returns=len(placed), timeout=OTHERS_SECONDS)
        if late:
            say(f"  {len(there)} of {len(placed)} generators draw: the cards of the others are taken ({_free()})")
        for actor, reference in zip([*self._actors], placed, strict=True):
            if reference in late:
                self._actors.remove(actor)
                ray.kill(actor)

    def _wait(self, doing: str, done: Sequence[Any], seconds: float, way_out: str) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if len(ray.wait([*done], num_returns=len(done), timeout=min(left, SAY_EVERY_SECONDS))[0]) == len(done):
                _get([*done])
                return
            say(f"  the generator {doing}; {_free()}")
        raise UserError(f"the generator {doing}, for more than {seconds:.0f} s; {_free()}: {way_out}, and start again")

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, *, adapter: str = "") -> list[Draft]:
        if len(self._actors) == 1:
            drafts: list[Draft] = _get(self._actors[0].generate.remote(prompts, sampling, adapter))
            _count(drafts)
            return drafts
        return in_order(prompts, self.stream(prompts, sampling, adapter=adapter))

    def stream(self, prompts: Sequence[Prompt], sampling: Sampling, *, adapter: str = "") -> Iterator[Draft]:
        for drafts in self._drawn(prompts, sampling, adapter):
            _count(drafts)
            yield from drafts

    def _drawn(self, prompts: Sequence[Prompt], sampling: Sampling, adapter: str) -> Iterator[list[Draft]]:
        if len(self._actors) == 1:
            for reference in self._actors[0].stream.remote(prompts, sampling, adapter):
                yield _get(reference)
            return
        dealing = Dealing(prompts, engines=len(self._actors), batch_size=self._batch_size)
        drawing: dict[Any, int] = {}
        while True:
            for number, piece in dealing.pieces():
                drawing[self._actors[number].stream.remote(piece, sampling, adapter)] = number
            if not drawing:
                return
            (stream, *_), _ = ray.wait(list(drawing), num_returns=1)
            number = drawing.pop(stream)
            if (reference := next(stream, None)) is None:
                continue
            drawing[stream] = number  # the last to be asked next time
            drafts = _get(reference)
            dealing.drawn(number, len(drafts))
            yield drafts

    def score(self, pairs: Sequence[tuple[str, str]], *, adapter: str = "") -> list[list[float]]:
        return self._scored("score", pairs, adapter)

    def score_ids(
        self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], *, adapter: str = ""
    ) -> list[list[float]]:
        return self._scored("score_ids", pairs, adapter)

    def _scored(self, method: str, pairs: Sequence[tuple[Any, Any]], adapter: str) -> list[list[float]]:
        shares = even_shares([len(given) + len(following) for given, following in pairs], len(self._actors))
        asked = [
            getattr(actor, method).remote([pairs[place] for place in share], adapter)
            for actor, share in zip(self._actors, shares, strict=False)
        ]
        scores: dict[int, list[float]] = {}
        for share, found in zip(shares, _get(asked), strict=True):
            scores |= dict(zip(share, found, strict=True))
        return [scores[place] for place in range(len(pairs))]

    def sleep(self) -> None:
        _get([actor.sleep.remote() for actor in self._actors])

    def close(self) -> None:
        for actor in self._actors:
            ray.kill(actor)


def bundled(drafts: Iterator[Draft]) -> Iterator[list[Draft]]:
    """The same, the first by itself and then up to BUNDLE together. Those that came before an error come before it."""
    bundle, sent = list[Draft](), 0.0
    try:
        for draft in drafts:
            bundle.append(draft)
            if len(bundle) >= BUNDLE or time.monotonic() - sent >= BUNDLE_SECONDS:
                yield bundle
                bundle, sent = [], time.monotonic()
    except Exception:
        if bundle:
            yield bundle
        raise
    if bundle:
        yield bundle


def _count(drafts: Sequence[Draft]) -> None:
    metrics.count("drafts_total", len(drafts))
    metrics.count("drafted_tokens_total", sum(one.num_tokens for one in drafts))


def _places(settings: GenerationSettings, beside_trainer: bool) -> list[dict[str, float]]:
    """What each actor reserves. A card leaves the cores to the judges; without one, decoding takes every core of a
    machine."""
    if settings.use_gpu:
        number = settings.num_workers or max(1, int(ray.cluster_resources().get("GPU", 1)))
        shares = [CARD_BESIDE_TRAINER if beside_trainer else 1.0, *[1.0] * (number - 1)]
        return [{"num_cpus": 1, "num_gpus": share} for share in shares]
    number = settings.num_workers or 1
    machines = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    return [{"num_cpus": cores_each(machines, number, left=int(beside_trainer)), "num_gpus": 0}] * number


def cores_left(settings: GenerationSettings) -> int:
    """Cores of the cluster that engines beside a trainer leave; at least one."""
    taken = sum(place["num_cpus"] for place in _places(settings, beside_trainer=True))
    return max(1, int(ray.cluster_resources().get("CPU", 1) - taken))


def _told(places: Sequence[dict[str, float]]) -> str:
    return str(places[0]) if len(places) == 1 else f"{len(places)} x {places[-1]}"


def _free() -> str:
    return f"the cluster has {ray.available_resources()} free"


def _get(reference: Any) -> Any:
    return answer(reference, _ended)


def _ended(cause: str) -> str:
    return (
        f"the generator's process ended ({cause}), most often for lack of memory: lower generation.batch_size or "
        "generation.max_model_len; its log is in Ray's session folder"
    )
