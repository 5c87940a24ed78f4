"""One judge: a Ray actor around a sandbox supervisor, on the node that has the fewest for its cores."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.names import named
from app.records import Problem, Verdict
from app.sandbox.supervisor import Supervisor
from app.sandbox.tiers import confinement
from app.settings import SandboxSettings


@ray.remote
class Judge:
    def __init__(self, settings: SandboxSettings, unsafe: bool) -> None:
        self._supervisor = Supervisor(settings, confinement(unsafe=unsafe))

    def ready(self) -> None:
        """Return once the worker is made."""

    def judge(self, problem: Problem, programs: Sequence[str]) -> list[Verdict]:
        return [self._supervisor.judge(problem, program) for program in programs]

    def close(self) -> None:
        self._supervisor.close()


def start_judge(settings: SandboxSettings, homes: Iterable[str], *, unsafe: bool, restarts: int) -> tuple[Any, str]:
    """The actor and its node. homes: the node of each judge that is there. restarts: how often Ray starts it again."""
    cores = {node["NodeID"]: node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]}
    home = home_of_next(cores, homes)
    # No CPU is reserved: without a card the model decodes on all of them, and judging is short.
    where = NodeAffinitySchedulingStrategy(home, soft=True)
    options = {"num_cpus": 0, "max_restarts": restarts, "scheduling_strategy": where}
    return cast(Any, Judge).options(name=named("judge"), **options).remote(settings, unsafe), home


def home_of_next(cores: Mapping[str, float], homes: Iterable[str]) -> str:
    """The node with the fewest judges for its cores: what reserves nothing, Ray would put anywhere. cores: by node;
    homes: the node of each judge that is there."""
    held = Counter(homes)
    return min(cores, key=lambda node: (held[node] + 1) / (cores[node] or 1e-9))
