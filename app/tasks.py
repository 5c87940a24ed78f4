"""Work over shards on Ray Data: one task a shard, each returning a few numbers, so that memory stays flat."""

import json
from collections.abc import Callable
from typing import Any

import ray.data

from app.progress import progress

Task = Callable[[dict[str, Any]], dict[str, Any]]
"""A function of a module, from one JSON object to another; both hold `index`."""


def run_tasks(label: str, task: Task, jobs: list[dict[str, Any]], at_once: int | None = None) -> list[dict[str, Any]]:
    """The results by index. at_once: tasks that run at a time; None: as many as there are cores. Needs a connected
    Ray."""
    items = [{"job": json.dumps(job)} for job in jobs]
    dataset = ray.data.from_items(items, override_num_blocks=len(items))
    dataset = dataset.map(_call, fn_args=(task,), compute=ray.data.TaskPoolStrategy(size=at_once))
    results: list[dict[str, Any]] = []
    with progress(label, len(jobs), "shards") as update:
        for row in dataset.iter_rows():
            results.append(json.loads(row["result"]))
            update(len(results))
    return sorted(results, key=lambda result: result["index"])


def _call(item: dict[str, str], task: Task) -> dict[str, str]:
    return {"result": json.dumps(task(json.loads(item["job"])))}
