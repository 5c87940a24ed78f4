"""The server's sandbox. The tool `run_python`: run a model's program, with its tests after it, and report to the model.
And drafts of an answer, run on the examples of their question (`app.serving.best_of.Tester`).

A run is one script: program and tests share a process, since the model wrote both and may test several functions and
objects of its own. So the program could forge the report. It informs the model, and is never a verdict to learn from
(`app.sandbox.supervisor` makes those). Where a program can't be confined, none is run.
"""

import asyncio
import functools
import logging
import secrets
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from app.best_of.stated import stated_in
from app.best_of.testing import DraftOutcome, Trial, run_draft, trial_of
from app.errors import UserError
from app.hardware import num_cores
from app.sandbox import assertions
from app.sandbox.local import LocalJudges
from app.sandbox.supervisor import Supervisor
from app.sandbox.tiers import confinement
from app.serving.errors import nothing_confined
from app.serving.tools.protocol import ToolReply
from app.serving.tools.run_report import Run, failed, refused, reply_to
from app.settings import SandboxSettings

WAITING_PER_WORKER = 4
"""Runs that may wait for each supervisor. A run may take four times `sandbox.timeout_s`."""
logger = logging.getLogger(__name__)
IMPORTED = "from app.sandbox.assertions import CHECKED, changed, cut, names\n"
"""The line of in_sandbox.py whose place the text of that module takes."""
_Job = tuple[str, str, int]


class PythonRuns:
    """Runs programs, as many at once as there are supervisors, which start when they are needed. Close it."""

    def __init__(self, settings: SandboxSettings) -> None:
        self._settings = settings
        self._most = (settings.num_workers or num_cores()) * (1 + WAITING_PER_WORKER)
        self._judges: LocalJudges | None = None
        self._making = asyncio.Lock()
        self._under_way: set[Future[ToolReply]] = set()
        """Also those that nobody waits for any more."""

    async def run(self, code: str, tests: str, runs_left: int) -> ToolReply:
        """What came of a program. tests: lines that are run after it; blank: none. runs_left: this one included.

        A run that is cancelled before it began is not begun; one that began goes on to its limits.
        """
        if runs_left < 1:
            return refused()
        try:
            judges = await self._started()
        except UserError as error:
            logger.error("run_python: %s", error)
            return failed("unconfined", "Programs can't be confined on this server, so none is run.")
        self._under_way = {future for future in self._under_way if not future.done()}
        if len(self._under_way) >= self._most:
            return failed("busy", "The sandbox is busy: the program was not run.")
        future = judges.submit(_run, (code, tests if tests.strip() else "", runs_left - 1))
        self._under_way.add(future)
        return await asyncio.wrap_future(future)

    async def trial(self, question: str) -> Trial | None:
        """None for a question that asks for nothing that can be called. Raises ApiError where a program can't be
        confined."""
        await self._ready()
        stated = await asyncio.to_thread(stated_in, question)
        return await asyncio.to_thread(trial_of, stated) if stated else None

    async def test(self, trial: Trial, programs: Sequence[str]) -> list[DraftOutcome]:
        """What came of each program; one that waits for its turn when the request is cancelled is not begun. Raises
        ApiError where a program can't be confined."""
        judges = await self._ready()
        futures = [judges.submit(_test, (trial, program)) for program in programs]
        try:
            return list(await asyncio.gather(*map(asyncio.wrap_future, futures)))
        finally:
            for future in futures:
                future.cancel()

    async def _ready(self) -> LocalJudges:
        try:
            return await self._started()
        except UserError as error:
            logger.error("drafts: %s", error)
            raise nothing_confined() from None

    def close(self) -> None:
        """Programs that are running come to their end first."""
        if self._judges is not None:
            self._judges.close()

    async def _started(self) -> LocalJudges:
        """Raises UserError where this machine can't confine a program."""
        async with self._making:
            if self._judges is None:
                self._judges = LocalJudges(self._settings, await asyncio.to_thread(confinement))
        return self._judges


def _test(supervisor: Supervisor, job: tuple[Trial, str]) -> DraftOutcome:
    trial, program = job
    return run_draft(trial, program, supervisor)


def _run(supervisor: Supervisor, job: _Job) -> ToolReply:
    code, tests, runs_left = job
    mark = secrets.token_hex(8)
    script = supervisor.run_script(f"{_around()}\nrun({code!r}, {tests!r}, {mark!r})\n")
    return reply_to(Run(code=code, tests=tests, script=script, mark=mark), runs_left)


@functools.cache
def _around() -> str:
    """The source that runs program and tests inside the sandbox, which has no `app` to import from."""
    text = Path(__file__).with_name("in_sandbox.py").read_text(encoding="utf-8")
    before, imported, after = text.partition(IMPORTED)
    assert imported, f"in_sandbox.py lacks the line {IMPORTED!r}"
    return f"{before}{Path(assertions.__file__).read_text(encoding='utf-8')}{after}"
