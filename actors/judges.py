"""The judges: a pool of Ray actors, each a sandbox supervisor, one a core at the most.

The pool starts a worker when a job comes and all others have one, keeps the order of its jobs, lets only a few wait for
each worker, goes on beside a slow one, and replaces a worker that ended, whatever ended it. Its jobs are tried again;
the one that it was at is charged a try, and is given up after MAX_TRIES, so that a job that ends its judges costs no
other job anything.

Copies of a pool share the workers that were there when they were made. One of those that ended is started again by Ray
for all who judge at once, RESTARTS times, and left alone until then; whose job it was at nobody knows, so what a copy
had there goes, uncharged, to a worker of its own. Where Ray starts it no more each copy replaces it.
"""

import dataclasses
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from threading import BoundedSemaphore
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, ObjectLostError, RayError, RayTaskError, TaskCancelledError

from actors.judge_actor import start_judge
from app.errors import UserError
from app.progress import say
from app.records import Problem, Status, Verdict
from app.running import metrics
from app.sandbox.local import UNREAD_PER_WORKER, read_ahead
from app.settings import SandboxSettings

WAITING_PER_WORKER = 3
MAX_TRIES = 3
PAUSE_SECONDS = 2.0
"""Before a job's second try, and twice as long before its third: a machine short of memory needs a moment."""
RESTARTS = 10
"""How often Ray starts a shared judge again. Without a bound, one that dies at each start is waited for forever."""
JUDGE_LIVES = (RayTaskError, TaskCancelledError, ObjectLostError)
"""What a job can end with while its judge goes on. Any other error of Ray's says that the judge has ended or can't be
reached: killed, preempted, out of memory, its node gone, never placed."""


@dataclasses.dataclass(slots=True, kw_only=True)
class _Job:
    problem: Problem
    programs: Sequence[str]
    worker: int
    actor: Any
    reference: Any
    tries: int = 1
    is_load: bool = True
    """Its worker still has it to do."""
    again: "_Job | None" = None
    """The same, sent anew."""

    def latest(self) -> "_Job":
        return self.again.latest() if self.again else self


class JudgePool:
    """Implements `records.Judge` over the cluster. A copy in another process begins with the judges that are there, and
    those that it starts itself end with it; they may be one more than there are cores."""

    def __init__(self, settings: SandboxSettings, *, unsafe: bool = False, sharers: int = 1) -> None:
        """Starts the first judge, and where copies judge at once all of them. sharers: how many copies; the more, the
        fewer jobs of each wait for a judge, since one that waits behind another copy's slow programs is late. Raises
        UserError when the first one's node can't confine a program; where a later one's can't in MAX_TRIES, `judge_all`
        does."""
        self._settings = settings
        self._unsafe = unsafe
        self._most = settings.num_workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._waiting_each = max(1, WAITING_PER_WORKER // sharers)
        self._workers: list[Any] = []
        self._shared: frozenset[Any] = frozenset()
        """Workers that others have too."""
        self._resting: dict[int, Any] = {}
        """Shared workers that Ray starts again, by place, and what says whether they are there."""
        self._restarts = RESTARTS if sharers > 1 else 0  # one copy at a time replaces what ended
        self._homes: dict[Any, str] = {}
        """The node of each, those that ended included."""
        self._load: list[int] = []
        """Jobs that each worker has."""
        self._sent: list[_Job] = []
        """Not collected yet, in the order in which they were sent."""
        self.num_replaced = 0
        try:
            self._add_worker()
            ray.get(self._workers[0].ready.remote())
            while sharers > 1 and len(self._workers) < self._most:
                self._add_worker()
        except BaseException:
            self._kill()
            raise
        if sharers > 1:
            self._shared, self._restarts = frozenset(self._workers), 0

    def __getstate__(self) -> dict[str, Any]:
        begins = {"_load": [0] * len(self._workers), "_sent": [], "_resting": {}}
        return self.__dict__ | begins | {"_shared": frozenset(self._workers), "_restarts": 0}

    def judge(self, problem: Problem, program: str) -> Verdict:
        return next(self.judge_all([(problem, [program])]))[0]

    def judge_all(self, jobs: Iterable[tuple[Problem, Sequence[str]]]) -> Iterator[list[Verdict]]:
        """For each problem and its programs their verdicts, in the order of the jobs.

        A thread of its own asks for the jobs while workers are busy, so that a model that drafts is never held up by a
        few slow programs; no more than UNREAD_PER_WORKER a worker are waiting, under way or done before their turn.
        What its source raises comes after the verdicts of all that it gave.
        """
        waiting: deque[_Job] = deque()
        most = UNREAD_PER_WORKER * self._most
        room = BoundedSemaphore(most)

        def first() -> list[Verdict]:
            verdicts = self._result(waiting.popleft())
            room.release()
            return verdicts

        raised: list[BaseException] = []
        try:
            for problem, programs in read_ahead(jobs, room, raised):
                waiting.append(self._submit(problem, programs))
                while waiting:
                    if self._is_done(waiting[0]) or len(waiting) >= most:
                        yield first()
                    elif not self._is_full(waiting):
                        break
            while waiting:
                yield first()
        finally:  # nobody wants more: what waits is short and comes to its end
            for job in waiting:
                self._forget(job.latest())
        if raised:
            raise raised.pop()

    def close(self) -> None:
        """End the workers and all that they started."""
        ends = [worker.close.remote() for worker in self._all()]
        ray.wait(ends, num_returns=len(ends), timeout=10)
        self._kill()

    def _kill(self) -> None:
        for worker in self._all():
            ray.kill(worker)

    def _all(self) -> set[Any]:
        """Those too that were replaced here, since Ray may have started them again for others."""
        return {*self._workers, *self._shared}

    def _add_worker(self) -> None:
        self._workers.append(self._start())
        self._load.append(0)

    def _start(self, instead_of: Any = None) -> Any:
        homes = [self._homes[worker] for worker in self._workers if worker in self._homes and worker is not instead_of]
        judge, home = start_judge(self._settings, homes, unsafe=self._unsafe, restarts=self._restarts)
        self._homes[judge] = home
        return judge

    def _submit(self, problem: Problem, programs: Sequence[str], tries: int = 1, *, apart: bool = False) -> _Job:
        """apart: to a worker that nobody else has."""
        self._look_after_the_resting()
        number, first = len(self._workers), os.getpid()  # copies begin with different ones, as a rule
        there = [
            place
            for place, worker in enumerate(self._workers)
            if not (worker in self._shared if apart else place in self._resting)
        ]
        all_busy = not apart and number < self._most and all(self._load[place] for place in there)
        if not there or all_busy:
            self._add_worker()
            there.append(number)
        index = min(there, key=lambda place: (self._load[place], (place - first) % number))
        self._load[index] += 1
        actor = self._workers[index]
        reference = actor.judge.remote(problem, programs)
        job = _Job(problem=problem, programs=programs, worker=index, actor=actor, reference=reference, tries=tries)
        self._sent.append(job)
        return job

    def _is_done(self, job: _Job) -> bool:
        return bool(ray.wait([job.latest().reference], timeout=0)[0])

    def _is_full(self, waiting: Iterable[_Job]) -> bool:
        """Whether enough jobs are under way. Where they are, waits until one of them has ended. What failed is tried
        again at once: a worker that ended has nothing to do, and would get all that comes."""
        jobs = [job for job in (job.latest() for job in waiting) if job.is_load]
        is_full = len(jobs) >= self._waiting_each * self._most
        references = [job.reference for job in jobs]
        ended, _ = ray.wait(references, num_returns=len(jobs), timeout=0) if jobs else ([], [])
        if is_full and not ended:
            ended, _ = ray.wait(references, num_returns=1)
        for job in jobs:
            if job.is_load and job.reference in ended:
                failure = _failure(job)
                if failure is None or not self._try_again(job, failure):
                    self._unload(job)
        return is_full

    def _unload(self, job: _Job) -> None:
        self._load[job.worker] -= job.is_load
        job.is_load = False

    def _forget(self, job: _Job) -> None:
        self._sent = [other for other in self._sent if other is not job]
        self._unload(job)

    def _result(self, job: _Job) -> list[Verdict]:
        while True:
            job = job.latest()
            failure = _failure(job)
            if failure is None:
                self._forget(job)
                return _counted(ray.get(job.reference))
            if not self._try_again(job, failure):
                self._forget(job)
                if mistake := _mistake(failure):
                    raise mistake
                detail = f"judging failed {MAX_TRIES} times: {failure}"[:300]
                failed = Verdict(problem_id=job.problem.id, status=Status.INFRA, detail=detail)
                return _counted([failed] * len(job.programs))

    def _try_again(self, job: _Job, failure: RayError) -> bool:
        """Send this job anew, and with it whatever else its worker left; False where it has had its tries."""
        ended = not isinstance(failure, JUDGE_LIVES)
        if ended and job.actor in self._shared:
            self._rest(job.worker, job.actor, failure)
            self._send_again(job, job.tries, apart=True)
            return True
        charged, *others = self._left_by(job.actor) if ended else [job]
        has_tries = charged.tries < MAX_TRIES
        if has_tries:
            time.sleep(PAUSE_SECONDS * charged.tries)
        if ended:
            self._replace(job.worker, job.actor)
        for lost in others:
            self._send_again(lost, lost.tries)
        if has_tries:
            self._send_again(charged, charged.tries + 1, apart=ended)  # it may end whoever gets it
        else:
            self._unload(charged)
        return has_tries or charged is not job

    def _left_by(self, actor: Any) -> list[_Job]:
        """What a worker that ended had not finished. It was at the first: it takes them in the order of sending."""
        ray.kill(actor)  # one that only can't be reached now might come back
        jobs = [(job, _failure(job)) for job in self._sent if job.actor is actor]
        return [job for job, failure in jobs if failure and not isinstance(failure, JUDGE_LIVES)]

    def _send_again(self, job: _Job, tries: int, *, apart: bool = False) -> None:
        self._forget(job)
        job.again = self._submit(job.problem, job.programs, tries, apart=apart)

    def _rest(self, place: int, actor: Any, failure: RayError) -> None:
        """Leave a shared worker that ended alone until it is there again; replace it where Ray starts it no more."""
        if not isinstance(failure, ActorUnavailableError):
            self._resting.pop(place, None)
            self._replace(place, actor)
        elif self._workers[place] is actor and place not in self._resting:
            self._resting[place] = actor.ready.remote()

    def _look_after_the_resting(self) -> None:
        for place, back in list(self._resting.items()):
            if ray.wait([back], timeout=0)[0]:
                del self._resting[place]
                if failure := _error(back):
                    self._rest(place, self._workers[place], failure)

    def _replace(self, place: int, actor: Any) -> None:
        """Put a new worker into this one's place, unless that was done."""
        if self._workers[place] is actor:
            self.num_replaced += 1
            say("  a judge ended and is replaced; its problems are tried again")
            self._workers[place] = self._start(actor)


def _counted(verdicts: list[Verdict]) -> list[Verdict]:
    for verdict in verdicts:
        metrics.count("verdicts_total", status=verdict.status)
    return verdicts


def _failure(job: _Job) -> RayError | None:
    """What came in place of its verdicts."""
    return _error(job.reference)


def _error(reference: Any) -> RayError | None:
    try:
        ray.get(reference)
    except RayError as error:
        return error
    return None


def _mistake(failure: RayError) -> UserError | None:
    """What the judge's constructor says of its node, if that is how it failed."""
    raised = getattr(failure.args[0], "cause", None) if failure.args else None
    return raised if isinstance(raised, UserError) else None
