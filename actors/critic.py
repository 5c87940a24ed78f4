"""The Critic actor: one process on the CPU that learns from judged drafts and ranks others.

A shell over `app.reward.critic.critic.LocalCritic`, whose folder is all that it knows: where its process ends, Ray
starts another one, which loads what the first has learnt, or goes on at its last checkpoint, and does what was asked
again.
"""

import itertools
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any, cast

import ray

from actors.answers import answer
from actors.names import named
from app.errors import UserError
from app.progress import say
from app.reward.critic.critic import Critic as CriticProtocol
from app.reward.critic.critic import LocalCritic
from app.reward.critic.questions import Claim
from app.reward.critic.training import Learnt, Ruling
from app.stage_settings.grm import CriticSettings

PLACE_SECONDS = 600.0
"""How long the actor may wait for its cores."""
SAY_EVERY_SECONDS = 60.0
MAX_RESTARTS = 3
CHUNK = 8
"""Batches that are sent at once: the actor puts those of like length together."""
CHUNKS_AHEAD = 2
"""Chunks of a stream that wait at the actor while it works on another."""


@ray.remote
class Critic:
    def __init__(self, folder: str, settings: CriticSettings, seed: int) -> None:
        self._critic = LocalCritic(Path(folder), settings, seed)

    def pid(self) -> int:
        """The process id, once the actor has its place."""
        return os.getpid()

    def learn(self, rulings: Sequence[Ruling]) -> Learnt:
        return self._critic.learn(rulings)

    def score(self, claims: Sequence[Claim]) -> list[float]:
        return self._critic.score(claims)


class CriticClient:
    """Calls the actor as if it were local; implements `app.reward.critic.critic.Critic`. Its folder has to be one that
    every node sees."""

    def __init__(self, folder: Path, settings: CriticSettings, seed: int) -> None:
        """Raises UserError where the cluster has no room for the actor within PLACE_SECONDS."""
        cores = settings.num_cpus or _free_cores()
        self._chunk = CHUNK * settings.batch_size
        self._actor = (
            cast(Any, Critic)
            .options(name=named("critic"), num_cpus=cores, max_restarts=MAX_RESTARTS, max_task_retries=MAX_RESTARTS)
            .remote(str(folder.resolve()), settings, seed)
        )
        try:
            self._wait(cores)
        except BaseException:
            self.close()
            raise

    def _wait(self, cores: int) -> None:
        placed, waited = self._actor.pid.remote(), 0.0
        while waited < PLACE_SECONDS:
            if ray.wait([placed], timeout=SAY_EVERY_SECONDS)[0]:
                _get(placed)
                return
            waited += SAY_EVERY_SECONDS
            say(f"  the critic waits for {cores} cores; the cluster has {ray.available_resources()} free")
        raise UserError(
            f"the critic waits for {cores} cores, for more than {PLACE_SECONDS:.0f} s: end what holds them, add a "
            "node, or lower grm.critic.num_cpus, and start again"
        )

    def learn(self, rulings: Sequence[Ruling]) -> Learnt:
        return _get(self._actor.learn.remote(list(rulings)))

    def score(self, claims: Sequence[Claim]) -> list[float]:
        return list(self.stream(claims))

    def stream(self, claims: Iterable[Claim]) -> Iterator[float]:
        """The score of each claim, in their order. Claims are asked for a few chunks ahead, so they may come slowly and
        without end."""
        source, sent = iter(claims), deque[Any]()
        while chunk := list(itertools.islice(source, self._chunk)):
            sent.append(self._actor.score.remote(chunk))
            if len(sent) > CHUNKS_AHEAD:
                yield from _get(sent.popleft())
        for reference in sent:
            yield from _get(reference)

    def close(self) -> None:
        ray.kill(self._actor)


def critic_on_ray(folder: Path, settings: CriticSettings, seed: int) -> AbstractContextManager[CriticProtocol]:
    """An actor of its own, as `app.reward.critic.choice.Critics` has it."""
    return closing(CriticClient(folder, settings, seed))


def _free_cores() -> int:
    """How many cores the critic may take, at least one: those that are free in the whole cluster, since Ray tells no
    more, but no more than its largest node has."""
    most = max(int(node["Resources"].get("CPU", 1)) for node in ray.nodes() if node["Alive"])
    return max(1, min(most, int(ray.available_resources().get("CPU", 1))))


def _get(reference: Any) -> Any:
    return answer(reference, _ended)


def _ended(cause: str) -> str:
    return (
        f"the critic's process ended {MAX_RESTARTS + 1} times ({cause}), most often for lack of memory: lower "
        "grm.critic.batch_size, grm.critic.micro_batch or grm.critic.seq_len; its log is in Ray's session folder"
    )
