"""Supervisors in threads of this process, one a core: for commands that need nothing else of Ray."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue

from app.hardware import num_cores
from app.records import Problem, Verdict
from app.sandbox.supervisor import Supervisor
from app.sandbox.tiers import Confinement
from app.settings import SandboxSettings

WAITING_PER_WORKER = 3


class LocalJudges:
    """Implements `records.Judge`. Close it, or use it with `contextlib.closing`."""

    def __init__(self, settings: SandboxSettings, confined: Confinement) -> None:
        count = settings.num_workers or num_cores()
        self._supervisors = [Supervisor(settings, confined) for _ in range(count)]
        self._idle: SimpleQueue[Supervisor] = SimpleQueue()
        for supervisor in self._supervisors:
            self._idle.put(supervisor)
        self._threads = ThreadPoolExecutor(count)

    def judge_all(self, jobs: Iterable[tuple[Problem, Sequence[str]]]) -> Iterator[list[Verdict]]:
        """For each problem and its programs their verdicts, in the order of the jobs; few wait at a time."""
        waiting: deque[Future[list[Verdict]]] = deque()
        source = iter(jobs)
        room = WAITING_PER_WORKER * len(self._supervisors)
        while True:
            for problem, programs in itertools.islice(source, room - len(waiting)):
                waiting.append(self._threads.submit(self._judge, problem, programs))
            if not waiting:
                return
            yield waiting.popleft().result()

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        for supervisor in self._supervisors:
            supervisor.close()

    def _judge(self, problem: Problem, programs: Sequence[str]) -> list[Verdict]:
        supervisor = self._idle.get()
        try:
            return [supervisor.judge(problem, program) for program in programs]
        finally:
            self._idle.put(supervisor)
