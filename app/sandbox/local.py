"""Supervisors in threads of this process, one a core: for commands that need nothing else of Ray, and for the page.

A supervisor holds Python's lock for some milliseconds a program, in many short turns. Beside a model that draws in this
process take `app.sandbox.apart`.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import LifoQueue, SimpleQueue
from threading import BoundedSemaphore, Thread
from typing import TypeVar

from app.hardware import num_cores
from app.records import Problem, Verdict
from app.sandbox.script import ScriptRun
from app.sandbox.supervisor import Supervisor
from app.sandbox.tiers import Confinement
from app.settings import SandboxSettings

UNREAD_PER_WORKER = 64
"""Jobs whose verdicts are not asked for yet, done or not, here and in the pool of actors: while one program takes its
whole time, the other supervisors go on with what follows it."""
Job = TypeVar("Job")
Outcome = TypeVar("Outcome")


def read_ahead(jobs: Iterable[Job], room: BoundedSemaphore, raised: list[BaseException]) -> Iterator[Job]:
    """The same jobs. A thread of its own asks for them, so that a model that drafts never waits for programs that take
    their time: each takes a place of `room`, which its user gives back. What their source raises comes into `raised`.

    Where nobody wants more, that thread ends with the source's next job, and is not waited for.
    """
    ready: SimpleQueue[Job | _End] = SimpleQueue()
    wanted = True

    def read() -> None:
        try:
            source = iter(jobs)
            while room.acquire() and wanted:
                ready.put(next(source))
        except StopIteration:
            pass
        except BaseException as error:
            raised.append(error)
        finally:
            ready.put(_End())

    try:
        Thread(target=read, daemon=True).start()
        while not isinstance(job := ready.get(), _End):
            yield job
    finally:
        wanted = False
        with contextlib.suppress(ValueError):
            room.release()


class _End:
    """After the last job."""


class Judges:
    """An implementation of `records.Judge` over some supervisors, wherever they are: `submit` gives each job to one."""

    def __init__(self, settings: SandboxSettings) -> None:
        self._count = settings.num_workers or num_cores()

    def submit(self, work: Callable[[Supervisor, Job], Outcome], job: Job) -> Future[Outcome]:
        """What will come of a job, when a supervisor is free; cancelled before, it is not begun."""
        raise NotImplementedError

    def judge_all(self, jobs: Iterable[tuple[Problem, Sequence[str]]]) -> Iterator[list[Verdict]]:
        """For each problem and its programs their verdicts, in the order of the jobs."""
        return self.work_all(_judge, jobs)

    def work_all(self, work: Callable[[Supervisor, Job], Outcome], jobs: Iterable[Job]) -> Iterator[Outcome]:
        """What comes of each job with a supervisor to itself, in the order of the jobs, no more than UNREAD_PER_WORKER
        a supervisor before their turn.

        A thread of its own asks for the jobs: a source that takes its time (a model that drafts in this process) goes
        on while programs are judged and their verdicts used.
        """
        waiting: SimpleQueue[Future[Outcome] | None] = SimpleQueue()
        room = BoundedSemaphore(UNREAD_PER_WORKER * self._count)
        wanted = True

        def submit() -> None:
            try:
                for job in jobs:
                    room.acquire()
                    if not wanted:
                        return
                    waiting.put(self.submit(work, job))
            finally:
                waiting.put(None)

        with _cancelled_at_the_end(waiting), ThreadPoolExecutor(1) as source:
            asked = source.submit(submit)
            try:
                while (outcome := waiting.get()) is not None:
                    done = outcome.result()
                    room.release()
                    yield done
                asked.result()  # what the source of the jobs raised
            finally:  # nobody wants more
                wanted = False
                with contextlib.suppress(ValueError):
                    room.release()

    def run_script(self, source: str, given: str) -> Future[ScriptRun]:
        """A program without tests (`Supervisor.run_script`), when a supervisor is free."""
        return self.submit(_run_script, (source, given))


class LocalJudges(Judges):
    """In threads. Close it, or use it with `contextlib.closing`."""

    def __init__(self, settings: SandboxSettings, confined: Confinement) -> None:
        super().__init__(settings)
        self._supervisors = [Supervisor(settings, confined) for _ in range(self._count)]
        self._idle: LifoQueue[Supervisor] = LifoQueue()  # the last one used: others start nothing until they are needed
        for supervisor in self._supervisors:
            self._idle.put(supervisor)
        self._threads = ThreadPoolExecutor(self._count)

    def submit(self, work: Callable[[Supervisor, Job], Outcome], job: Job) -> Future[Outcome]:
        return self._threads.submit(self._with_one, work, job)

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        for supervisor in self._supervisors:
            supervisor.close()

    def _with_one(self, work: Callable[[Supervisor, Job], Outcome], job: Job) -> Outcome:
        supervisor = self._idle.get()
        try:
            return work(supervisor, job)
        finally:
            self._idle.put(supervisor)


def _judge(supervisor: Supervisor, job: tuple[Problem, Sequence[str]]) -> list[Verdict]:
    problem, programs = job
    return [supervisor.judge(problem, program) for program in programs]


def _run_script(supervisor: Supervisor, job: tuple[str, str]) -> ScriptRun:
    return supervisor.run_script(*job)


@contextlib.contextmanager
def _cancelled_at_the_end(waiting: SimpleQueue[Future[Outcome] | None]) -> Iterator[None]:
    """What nobody waits for any more is not begun."""
    try:
        yield
    finally:
        while not waiting.empty():
            if job := waiting.get():
                job.cancel()
