"""What actors are called, so that Ray's dashboard reads like the pipeline: generator 1, judge 1, judge 2, critic 1."""

import itertools
from collections import defaultdict
from collections.abc import Iterator

import ray

_numbers: defaultdict[str, Iterator[int]] = defaultdict(lambda: itertools.count(1))


def named(role: str) -> str:
    """A name that no other actor of this job has. What a worker process starts is numbered there, and told apart by
    that process."""
    context = ray.get_runtime_context()
    name = f"{role} {next(_numbers[role])}"
    return f"{name} of {context.get_worker_id()[:6]}" if context.worker.mode == ray.WORKER_MODE else name
