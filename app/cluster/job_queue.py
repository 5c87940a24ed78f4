"""Queues of untrusted jobs, as plain Ray tasks: what hangs or kills its worker is left out, and named.

A job is a record with an `index`, a task a function of a module from a job to an answer. While it runs, a task says
with `at` what it is busy with: a file, a function, a problem. A worker that dies, or that is busy with one thing for
longer than the limit, is charged to that thing alone. What was charged TRIES times is left out from then on: the job is
run again, and `at` gives the reason. Where the job was at nothing, it is left out as a whole: then `at` gives the
reason for everything. The last try runs while no other job does, so that a neighbour's memory is not charged to it.

Ray Data would not do here: it runs a task whose worker died again without end, charges the death to nothing and gives a
task no limit of time, so that one file that kills the parser would hold up a build for ever.

Exceptions are not caught here: they are bugs, mistakes of the user's, or full disks. A task catches what its inputs do.
"""

import contextlib
import json
import math
import os
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from app.errors import UserError
from app.progress import progress, say

TRIES = 3
POLL_S = 1.0
HANGS, CRASHES = LEFT_OUT = ("hangs", "crashes")
"""What the reasons begin with that `at` gives."""
MAX_LOST = 10
"""Nodes that a job may lose before the queue gives up; a lost node is charged to nothing."""


class Indexed(Protocol):
    """A job: plain data, told from the others of its queue by its number."""

    @property
    def index(self) -> int: ...


J = TypeVar("J", bound=Indexed)
A = TypeVar("A")


def run_tasks(
    label: str,
    task: Callable[[J], A],
    jobs: Sequence[J],
    at_once: int | None = None,
    *,
    notes: Path | None = None,
    limit_s: float = math.inf,
) -> list[A]:
    """The answers in the order of the jobs' numbers. Needs a connected Ray.

    at_once: jobs that run at a time; None: as many as there are cores. notes: folder for what the jobs say they are at,
    on storage that all nodes share; without it nothing is left out. limit_s: how long a job may be at one thing.
    Raises UserError for a job that keeps killing its worker although there is nothing more to leave out.
    """
    answers: dict[int, A] = {}
    with progress(label, len(jobs), "jobs") as update:
        for index, answer in _Queue(label, task, jobs, at_once, notes, limit_s).answers():
            answers[index] = answer
            update(len(answers))
    return [answers[index] for index in sorted(answers)]


_place: Path | None = None
"""Where the job that runs in this process says what it is at."""
_left_out: dict[str, str] = {}
_count = 0


def at(what: str) -> str:
    """Say what the running job is busy with from now on; "" for the job as a whole. Outside a queue nothing happens.

    Returns why it is to be left out; empty where it is not.
    """
    global _count
    if _place is None:
        return ""
    _count += 1
    temporary = _place.with_name(f".{_place.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps([_count, what]))
    os.replace(temporary, _place)
    return _left_out.get(what) or _left_out.get("", "")


def _call(task: Callable[[J], A], job: J, left_out: dict[str, str], place: Path | None) -> A:
    """What a worker runs."""
    global _place, _left_out
    _place, _left_out = place, left_out
    try:
        at("")
        return task(job)
    finally:
        _place, _left_out = None, {}


@dataclass(slots=True)
class _Running(Generic[J]):
    job: J
    seen: str = ""
    """Its note, as it was read last; empty before it has begun."""
    since: float = 0.0
    """When that note was new, by this process's clock."""
    hangs: bool = False


class _Queue(Generic[J, A]):
    def __init__(
        self,
        label: str,
        task: Callable[[J], A],
        jobs: Sequence[J],
        at_once: int | None,
        notes: Path | None,
        limit_s: float,
    ) -> None:
        import ray

        self._label, self._task, self._notes, self._limit_s = label, task, notes, limit_s
        self._at_once = at_once or max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._remote = ray.remote(_call).options(max_retries=0, num_cpus=1, name=task.__name__)
        self._waiting = deque(jobs)
        self._suspects: deque[J] = deque()
        """Jobs before their last try, each of which runs alone."""
        self._running: dict[Any, _Running[J]] = {}
        self._charges: Counter[tuple[int, str]] = Counter()
        self._left_out: defaultdict[int, dict[str, str]] = defaultdict(dict)
        self._lost: Counter[int] = Counter()
        if notes is not None:
            notes.mkdir(parents=True, exist_ok=True)

    def answers(self) -> Iterator[tuple[int, A]]:
        """Each with its job's number, in the order in which the jobs end."""
        import ray
        from ray.exceptions import NodeDiedError, OutOfMemoryError, TaskCancelledError, WorkerCrashedError

        try:
            while self._waiting or self._suspects or self._running:
                self._start()
                done, _ = ray.wait(list(self._running), num_returns=1, timeout=POLL_S)
                for reference in done:
                    running = self._running.pop(reference)
                    try:
                        yield running.job.index, ray.get(reference)
                        self._forget(running.job)
                    except NodeDiedError:
                        self._again_elsewhere(running.job)
                    except (WorkerCrashedError, OutOfMemoryError, TaskCancelledError) as error:
                        self._charge(running, type(error).__name__)
                self._end_hanging()
        finally:
            for reference in self._running:
                ray.cancel(reference, force=True)

    def _start(self) -> None:
        while self._waiting and len(self._running) < self._at_once:
            self._submit(self._waiting.popleft())
        if self._suspects and not self._running:
            self._submit(self._suspects.popleft())

    def _submit(self, job: J) -> None:
        self._forget(job)
        reference = self._remote.remote(self._task, job, self._left_out[job.index], self._place_of(job))
        self._running[reference] = _Running(job)

    def _end_hanging(self) -> None:
        import ray

        now = time.monotonic()
        for reference, running in self._running.items():
            note = self._note_of(running.job)
            if note and note != running.seen:
                running.seen, running.since = note, now
            elif running.seen and now - running.since > self._limit_s and not running.hangs:
                running.hangs = True
                ray.cancel(reference, force=True)

    def _charge(self, running: _Running[J], how: str) -> None:
        """Charge what the job was at, and have the job run again."""
        job = running.job
        note = self._note_of(job)
        what = str(json.loads(note)[1]) if note else ""
        self._charges[job.index, what] += 1
        tries = self._charges[job.index, what]
        if tries < TRIES:
            (self._suspects if tries == TRIES - 1 else self._waiting).append(job)
            return
        if running.hangs:
            reason = f"{HANGS}: it took longer than {self._limit_s:.0f} s, {TRIES} times"
        else:
            reason = f"{CRASHES}: its worker died {TRIES} times ({how})"
        left_out = self._left_out[job.index]
        if self._notes is None or what in left_out:
            raise UserError(
                f"{self._label}, job {job.index}: its worker died {TRIES} times ({how}): give the machine more "
                "memory, or run fewer jobs at once (corpus.num_workers for a corpus), and start again"
            )
        say(f"  {self._label}: left out {what or 'job ' + str(job.index)}: {reason}")
        left_out[what] = reason
        self._waiting.append(job)

    def _again_elsewhere(self, job: J) -> None:
        self._lost[job.index] += 1
        if self._lost[job.index] > MAX_LOST:
            raise UserError(f"{self._label}, job {job.index}: lost its node {MAX_LOST} times: look after the cluster")
        self._waiting.append(job)

    def _place_of(self, job: J) -> Path | None:
        return self._notes and self._notes / f"{self._task.__name__}-{job.index:05d}.json"

    def _note_of(self, job: J) -> str:
        place = self._place_of(job)
        try:
            return place.read_text() if place else ""
        except FileNotFoundError:
            return ""

    def _forget(self, job: J) -> None:
        if place := self._place_of(job):
            with contextlib.suppress(FileNotFoundError):
                place.unlink()
