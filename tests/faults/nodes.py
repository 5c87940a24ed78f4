"""A cluster of three nodes on this machine, on which each kind of work is spread, and goes on where a node is lost.

Runs in a process of its own, since the tests' process has another Ray. Prints one JSON object: for each kind of work
the number of nodes that it ran on, and what came of it. Nothing computes on the cards that the nodes say they have.
Run: RAY_AUTH_MODE=token RAY_AUTH_TOKEN=WHATEVER python -m tests.faults.nodes [KIND ...]
"""

import contextlib
import dataclasses
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from actors.generator import GeneratorClient
from actors.judges import JudgePool
from app.cluster.job_queue import run_tasks
from app.errors import UserError
from app.evolution.lineage import read_lineage
from app.profiles import smoke
from app.records import Problem, Prompt, Sampling, Status
from app.settings import SandboxSettings
from tests.processes import below
from tests.ray.evolving import ON_A_CORE, tuner

NODE = {"num_cpus": 2, "object_store_memory": 100 << 20}
SLOW = Problem(
    id="slow", source="ours", licence="MIT", prompt="def f():\n", prelude="", entry_point="f",
    tests="def check(candidate):\n    assert candidate() == 1\n",
)  # fmt: skip
PROGRAM = "import time\ndef f():\n    time.sleep(0.2)\n    return 1\n"


@dataclasses.dataclass(frozen=True)
class Job:
    index: int


def where(job: Job) -> str:
    """A task of a queue: on which node it ran."""
    time.sleep(0.3)
    return ray.get_runtime_context().get_node_id()


class Nodes:
    """The three, of which the last can be lost and comes again."""

    def __init__(self) -> None:
        self.cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        self.others = [self.cluster.add_node(**NODE, num_gpus=1) for _ in range(2)]
        ray.init(address=self.cluster.address, log_to_driver=False)
        self.cluster.wait_for_nodes()

    def lose(self) -> None:
        self.cluster.remove_node(self.others.pop(), allow_graceful=False)

    def mend(self) -> None:
        self.others.append(self.cluster.add_node(**NODE, num_gpus=1))
        self.cluster.wait_for_nodes()

    @contextlib.contextmanager
    def lost_when(self, is_so: Callable[[], Any]) -> Any:
        """Lose one as soon as that is so, while the block is at work."""

        deadline = time.monotonic() + 30

        def lose() -> None:
            while not is_so() and time.monotonic() < deadline:
                time.sleep(0.02)
            self.lose()

        thread = threading.Thread(target=lose, daemon=True)
        thread.start()
        yield
        thread.join()
        self.mend()


def homes(title: str) -> set[int]:
    """The nodes, as the processes that started them, of workers with this title."""
    found = set()
    for process in below(title):
        with contextlib.suppress(Exception):
            found.add(process.ppid())
    return found


def queued(nodes: Nodes) -> dict[str, Any]:
    before = run_tasks("queue", where, [Job(n) for n in range(12)])
    started: list[float] = [time.monotonic()]
    with nodes.lost_when(lambda: time.monotonic() - started[0] > 1.0):
        answers = run_tasks("queue", where, [Job(n) for n in range(24)])
    return {"nodes": len(set(before)), "answers": len(answers)}


def judged(nodes: Nodes) -> dict[str, Any]:
    seen: set[int] = set()
    with contextlib.closing(JudgePool(SandboxSettings(num_workers=6))) as judges:
        with nodes.lost_when(lambda: len(seen) == 3):
            found = []
            for verdicts in judges.judge_all([(SLOW, [PROGRAM])] * 60):
                seen |= homes("ray::Judge")
                found += [one.status for one in verdicts]
        replaced = judges.num_replaced
    return {"nodes": len(seen), "passed": found.count(Status.PASSED), "replaced": replaced}


def evolved(nodes: Nodes) -> dict[str, Any]:
    """Two individuals learn at a time, each by a card; what was lost with a node learns again on the other."""
    seen: set[int] = set()

    def learn_on_both() -> bool:
        seen.update(homes("ray::ImplicitFunc"))
        return len(seen) == 2

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        slots = dataclasses.replace(ON_A_CORE, number=2, resources={"CPU": 1, "GPU": 1})
        with nodes.lost_when(learn_on_both):
            results = tuner(work, slots=slots, max_failures=2, generations=2).fit()
        lives = read_lineage(work / "lineage.jsonl")
    return {"nodes": len(seen), "errors": results.num_errors, "lives": len(lives)}


def drawn(nodes: Nodes) -> dict[str, Any]:
    settings = smoke().generation.model_copy(update={"num_workers": 3})
    prompts = [Prompt(id="x", text="x", samples=tuple(range(3000)))]
    with contextlib.closing(GeneratorClient(smoke().model, settings)) as generator:
        number = len(homes("ray::Generator"))
        stream = generator.stream(prompts, Sampling(max_new_tokens=16, temperature=1.0))
        next(stream)
        nodes.lose()
        try:
            said = f"{len(list(stream))} drafts"
        except UserError as error:
            said = str(error)
    return {"nodes": number, "said": said}


def main() -> None:
    nodes = Nodes()
    found = {}
    for kind in (queued, judged, evolved, drawn):
        if sys.argv[1:] and kind.__name__ not in sys.argv[1:]:
            continue
        start = time.monotonic()
        found[kind.__name__] = kind(nodes) | {"seconds": round(time.monotonic() - start, 1)}
    print(json.dumps(found), flush=True)
    ray.shutdown()
    nodes.cluster.shutdown()


if __name__ == "__main__":
    main()
