"""A population without a model, for tests of the scheduler: what it learnt is the list of rates that it learnt with.

It lies in a module of its own because Tune pickles it by name, and because drivers that are to be killed import it.
"""

import contextlib
import errno
import json
import os
import signal
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray
from ray import tune

from app.evolution.lineage import Life
from app.files.json_files import append_json_line, read_json, read_json_lines, write_json
from app.profiles import smoke
from tune_spaces.gpu_slots import Slots, enforce, slots_for
from tune_spaces.scheduler import AlphaEvolve

RATES = [0.1, 0.4, 0.2, 0.3]
STEP = 0.01
"""What a child's rate has more than its parent's."""
ON_A_CORE = slots_for(smoke(), peak_gib=None, declared=None, cards=0)
"""The slot where there is no card."""


def train(config: dict[str, Any]) -> None:
    """Train generations until the trial is stopped; a config's score is its rate."""
    work, trial = Path(config["work"]), tune.get_context().get_trial_id()
    learnt: list[float] = []
    threads = _threads(Slots(**config["slots"]))
    if checkpoint := tune.get_checkpoint():
        with checkpoint.as_directory() as folder:
            learnt = read_json(Path(folder) / "state.json")["learnt"]
    while True:
        generation, start = len(learnt) + 1, time.time()
        _wait_for_others(config, work, generation)
        if _strikes(config["raises"], config["rate"], generation) and not (work / "cured").exists():
            raise ValueError("it always does in this generation")
        if _strikes(config["starves"], config["rate"], generation) and not (work / "cured").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if _strikes(config["killed"], config["rate"], generation):
            with contextlib.suppress(FileExistsError):
                (work / "killed").touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
        learnt = [*learnt, config["rate"]]
        folder = work / "states" / trial
        write_json(folder / "state.json", {"learnt": learnt})
        row = {"trial": trial, "generation": generation, "start": start, "end": time.time(), "learnt": learnt}
        append_json_line(work / "trained" / f"{trial}.jsonl", row | {"pid": os.getpid(), "threads": threads})
        has_checkpoint = not _strikes(config["forgets"], config["rate"], generation)
        tune.report(
            {"score": config["rate"], "learnt": json.dumps(learnt)},
            checkpoint=tune.Checkpoint.from_directory(folder) if has_checkpoint else None,
        )


def _threads(slots: Slots) -> int:
    """Of torch, in a slot without a card; elsewhere 0."""
    if slots.gib:
        return 0
    import torch

    enforce(slots)
    return torch.get_num_threads()


def _strikes(fault: list[float], rate: float, generation: int) -> bool:
    """fault: the rate of the individual, 0 for all, and the generation that it comes to; empty for none."""
    return bool(fault) and fault[0] in (0, rate) and generation == fault[1]


def _wait_for_others(config: dict[str, Any], work: Path, generation: int) -> None:
    """Until as many train this generation at the same time as the config says."""
    place = work / f"started-{(work / 'cured').exists()}" / str(generation)
    place.mkdir(parents=True, exist_ok=True)
    (place / str(os.getpid())).touch()
    deadline = time.monotonic() + 60
    while len(list(place.iterdir())) < config["together"]:
        assert time.monotonic() < deadline, "the others don't start"
        time.sleep(0.02)


def explore(config: dict[str, Any]) -> dict[str, Any]:
    """A child's config."""
    return config | {"rate": round(config["rate"] + STEP, 6)}


def in_slot(function: Any, slots: Slots) -> Any:
    """A remote function that asks for what a trial reserves."""
    held = slots.resources
    return ray.remote(function).options(num_cpus=held["CPU"], num_gpus=held.get("GPU", 0))


def explore_in_slot(config: dict[str, Any]) -> dict[str, Any]:
    """As `explore`, by a task that holds a slot meanwhile."""
    ray.get(in_slot(_hold, Slots(**config["slots"])).remote(config["work"]), timeout=30)
    return explore(config)


def _hold(work: str) -> None:
    start = time.time()
    append_json_line(Path(work) / "selected.jsonl", {"start": start, "end": time.time()})


def tuner(work: Path, *, slots: Slots = ON_A_CORE, max_failures: int = 0, **given: Any) -> tune.Tuner:
    """given: to the scheduler, or in the config."""
    faults = {name: given.pop(name, []) for name in ("raises", "starves", "killed", "forgets")}
    rates = given.pop("rates", RATES)
    config = {"rate": tune.grid_search(rates), "work": str(work), "together": given.pop("together", 1), **faults}
    config["slots"] = asdict(slots)
    concurrent = given.pop("max_concurrent_trials", None)
    scheduler = AlphaEvolve(
        lineage=work / "lineage.jsonl", metric="score", mode="max", **{"custom_explore_fn": explore} | given
    )
    return tune.Tuner(
        tune.with_resources(train, slots.resources),
        param_space=config,
        tune_config=tune.TuneConfig(scheduler=scheduler, reuse_actors=True, max_concurrent_trials=concurrent),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(work),
            failure_config=tune.FailureConfig(max_failures=max_failures),
            verbose=0,
        ),
    )


def restored(work: Path, *, slots: Slots = ON_A_CORE, **settings: Any) -> tune.Tuner:
    trainable = tune.with_resources(train, slots.resources)
    return tune.Tuner.restore(str(work / "tune"), trainable=trainable, **settings)


def drive(address: str, work: Path, raises: list[float], point: str, generation: int) -> None:
    """Start the experiment, or go on with it, and die by SIGKILL at a point of a boundary: `decided`, when its lines
    are written and nothing was done, or `saved`, when Tune has saved what was done. In a process of its own."""

    class Mortal:
        """Methods that stand for the scheduler's in this process."""

        act, save = AlphaEvolve._act, AlphaEvolve._save

        @staticmethod
        def acting(self: AlphaEvolve, controller: Any, life: Life) -> None:
            if point == "decided" and life.generation == generation:
                os.kill(os.getpid(), signal.SIGKILL)
            Mortal.act(self, controller, life)

        @staticmethod
        def saving(self: AlphaEvolve, controller: Any) -> None:
            Mortal.save(self, controller)
            if point == "saved" and any(row["generation"] == generation for row in read_json_lines(self._lineage)):
                os.kill(os.getpid(), signal.SIGKILL)

    AlphaEvolve._act, AlphaEvolve._save = Mortal.acting, Mortal.saving
    ray.init(address=address, log_to_driver=False)
    (restored(work) if (work / "tune").exists() else tuner(work, raises=raises)).fit()
