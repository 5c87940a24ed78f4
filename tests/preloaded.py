"""What the process that forks commands and workers imports, once for all of them (`tests/commands.py`)."""

import gc
import importlib
import os
import pkgutil
from types import SimpleNamespace

import ray.actor
import ray.dashboard.modules
from ray._raylet import ActorClassID

from app.problem_sets.own import tasks_of
from app.sandbox.tiers import confinement

# A class that becomes an actor gets a random number when it is imported. Drawn by Ray's library, it would seed what all
# forked processes draw from: two workers' first objects then have one number, and one of the workers ends.
ray.actor.ActorClassID = SimpleNamespace(  # type: ignore[attr-defined]
    from_random=lambda: ActorClassID(os.urandom(ActorClassID.size()))
)
gc.disable()
for name in (
    *("peft", "transformers.models.auto.tokenization_auto", "transformers.models.qwen3.modeling_qwen3"),
    *(
        "app.cli",
        "app.pipeline",
        "app.stages",
        "app.training.sft",
        "app.reward.stage",
        "app.evaluation.stage",
        "tests.commands",
    ),
    *("actors.generator", "actors.judges", "ray.data", "ray.train.v2.api.data_parallel_trainer"),
    *("tune_spaces.experiment", "gigatoken", "matplotlib.figure", "matplotlib.backends.backend_agg"),
    *("ray.dashboard.dashboard", "ray.dashboard.agent", "ray._private.runtime_env.agent.main"),
):
    importlib.import_module(name)
for module in pkgutil.walk_packages(ray.dashboard.modules.__path__, "ray.dashboard.modules."):
    importlib.import_module(module.name)
tasks_of()  # our own problems, which most stages read
confinement(unsafe=True)  # what programs may read, and what keeps them from the rest: three processes to find out
gc.freeze()  # who is forked looks for garbage among its own objects, and copies no others by it
gc.set_threshold(10_000)  # and seldom: most of them live for seconds
gc.enable()
