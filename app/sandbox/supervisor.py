"""Run one program after another against its problem's tests, and make the verdict on each.

Two verdicts are made elsewhere: `actors.judges` makes that of a problem whose judges end again and again, a suite in
which nothing runs makes its own. A program is also run without tests, for people who want to see what it prints.

    supervisor --- candidate zygote --- candidate      (the program)
         |                                 | |  two pipes, values only
         +-------- judge zygote ------- judge          (the tests)

Limits are held from outside: CPU time of both processes decides `timeout`, a wall limit catches programs that sleep,
the kernel bounds memory. A verdict comes from the judge's word and the candidate's wait status together (of scripts:
from their output). A fault
without a candidate to blame is `infra`: tried twice more with fresh zygotes, then reported. One supervisor a core, no
threads, no Ray: `actors.judges` makes a pool of them.
"""

import dataclasses
import json
import math
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from app.records import IN_PROCESS, Problem, ProblemStyle, Status, Verdict
from app.sandbox.in_process import judge_in_process
from app.sandbox.judge import BROKEN, STARVED, STARVED_ALONE
from app.sandbox.judge_process import CRASHED, Judge
from app.sandbox.limits import Clock, classify, wait_readable
from app.sandbox.marks import BrokenTestsError, mark_assertions
from app.sandbox.process import Descriptors, Process, Zygote, ZygoteError
from app.sandbox.script import ScriptRun, run_script
from app.sandbox.splitting import needs_own_objects
from app.sandbox.stdio import judge_stdio
from app.sandbox.stub import UNSPLITTABLE
from app.sandbox.tiers import Confinement, confinement
from app.sandbox.wire import send
from app.settings import SandboxSettings

MAX_SOURCE_BYTES = 1 << 19
"""The largest program, as JSON."""
ROOMY = 4
"""A judge that ran out of memory, or crashed, is followed by one with this many times its memory: what fails there too
is the program's doing."""
REFERENCE_FACTOR = 4.0
"""A problem's limit is at least this many times the CPU time its tests took to load: EvalPlus's rule, for tests that
run a reference to know the answers. Most load in a thousandth of the limit."""
INFRA_RETRIES = 2
INFRA_PAUSE_SECONDS = 0.25
REUSABLE = (Status.PASSED, Status.WRONG_ANSWER, Status.RUNTIME_ERROR, Status.LOAD_ERROR)
"""After these the judge has seen nothing but well-formed values; after any other it is replaced."""
JUDGE_FAILED = {STARVED: Status.MEMORY, CRASHED: Status.DIED, STARVED_ALONE: Status.INFRA}
"""What it means for the program when a judge with more room ends so too."""
Outcome = TypeVar("Outcome", Verdict, ScriptRun)


class Supervisor:
    """An implementation of `records.Judge`. Close it, or use it in a `with` statement."""

    def __init__(self, settings: SandboxSettings, confined: Confinement | None = None) -> None:
        """Raises UserError when this machine can't confine a program (`tiers.confinement`)."""
        self._settings = settings
        self._confinement = confined or confinement()
        self._zygotes: dict[str, Zygote] = {}
        self._judge: Judge | None = None
        self.num_infra = 0
        """Faults of the sandbox that were retried."""

    def __enter__(self) -> "Supervisor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def tier(self) -> str:
        return self._confinement.tier

    def judge(self, problem: Problem, program: str) -> Verdict:
        """Never raises for what a program does. Drafts of one problem in a row share a judge process."""
        start = time.monotonic()

        def fault(why: str) -> Verdict:
            return self._verdict(problem, Status.INFRA, why, 0.0, start)

        try:
            return self._with_retries(lambda: self._judge_once(problem, program, start), fault)
        except BrokenTestsError as error:  # they stay so
            return fault(str(error))

    def run_script(self, source: str, given: str = "") -> ScriptRun:
        """Run a program once, without tests, and return what it printed. Never raises for what the program does.

        given: its standard input. Limits and confinement are those of a verdict.
        """
        start = time.monotonic()

        def fault(why: str, status: Status = Status.INFRA) -> ScriptRun:
            spent = time.monotonic() - start
            return ScriptRun(status=status, output="", errors="", detail=why, cpu_seconds=0.0, wall_seconds=spent)

        def run() -> ScriptRun:
            return run_script(source, given, self._spawn, self._settings.timeout_s, interactive=True)

        if max(_wire_size(source), _wire_size(given)) > MAX_SOURCE_BYTES:
            done = fault("the program or its input is too long", Status.LOAD_ERROR)
        else:
            done = self._with_retries(run, fault)
        return dataclasses.replace(done, detail=_printable(done.detail), tier=self.tier)

    def judge_all(self, jobs: Iterable[tuple[Problem, Sequence[str]]]) -> Iterator[list[Verdict]]:
        for problem, programs in jobs:
            yield [self.judge(problem, program) for program in programs]

    def close(self) -> None:
        """End every process that this supervisor started."""
        self._drop_judge()
        for zygote in self._zygotes.values():
            zygote.close()
        self._zygotes.clear()

    def _with_retries(self, run: Callable[[], Outcome], fault: Callable[[str], Outcome]) -> Outcome:
        """What `run` returns. A fault of the sandbox is tried again with fresh zygotes; the last is told to `fault`."""
        for attempt in range(INFRA_RETRIES + 1):
            try:
                outcome = run()
            except BrokenTestsError:
                raise
            except (ZygoteError, OSError, MemoryError) as error:  # MemoryError: this process's own
                self.close()
                outcome = fault(str(error))
            except BaseException:  # an interrupt between a question and its answer
                self.close()
                raise
            if outcome.status != Status.INFRA:
                break
            if attempt < INFRA_RETRIES:
                self.num_infra += 1
                time.sleep(INFRA_PAUSE_SECONDS * (attempt + 1))
        return outcome

    def _judge_once(self, problem: Problem, program: str, start: float) -> Verdict:
        if _wire_size(program) > MAX_SOURCE_BYTES:
            return self._verdict(problem, Status.LOAD_ERROR, f"a program of {len(program)} characters", 0.0, start)
        if problem.style == ProblemStyle.STDIO:
            status, detail, cpu_seconds = judge_stdio(problem, program, self._spawn, self._settings.timeout_s)
            return self._verdict(problem, status, detail, cpu_seconds, start)
        if not mark_assertions(problem.tests)[1]:
            raise BrokenTestsError("the tests hold no assertion: nothing in them tells right programs from wrong ones")
        if needs_own_objects(problem):
            return self._judge_in_process(problem, program, start)
        judge = self._judge_for(problem)
        if "error" in judge.loaded:
            self._drop_judge()
            raise BrokenTestsError(judge.loaded["error"])
        if "unsplittable" in judge.loaded:
            return self._judge_in_process(problem, program, start)
        word, detail, cpu_seconds = self._ask(judge, program)
        if word in JUDGE_FAILED:  # once more in another
            self._drop_judge()
            word, detail, cpu_seconds = self._ask(self._judge_for(problem, ROOMY), program)
        if word not in REUSABLE or (self._judge and self._judge.is_spent):
            self._drop_judge()
        if word == BROKEN:
            raise BrokenTestsError(detail)
        if word == STARVED_ALONE:
            raise BrokenTestsError(f"the tests need more memory than there is for them: {detail}")
        if word == UNSPLITTABLE:
            return self._judge_in_process(problem, program, start)
        return self._verdict(problem, Status(JUDGE_FAILED.get(word, word)), detail, cpu_seconds, start)

    def _ask(self, judge: Judge, program: str) -> tuple[str, str, float]:
        """Set a candidate before the judge. Returns status or UNSPLITTABLE, detail, and CPU seconds of both."""
        nonce, word = secrets.token_hex(16), ""
        used_before = judge.process.cpu_seconds()
        timeout_s = max(self._settings.timeout_s, REFERENCE_FACTOR * judge.load_seconds)
        candidate = self._start(judge, program, nonce, timeout_s)
        clock = Clock(timeout_s, [candidate, judge.process], -used_before)
        try:
            if wait_readable(judge.control.fileno(), clock):
                word, detail = judge.word(nonce)
            else:
                word, detail = clock.status, clock.why
            judge_cpu = max(0.0, judge.process.cpu_seconds() - used_before)
        finally:
            try:
                killed_here = not candidate.has_ended(grace_s=0.1 if word == "died" else 0.0)
            finally:
                ended = candidate.end()
        if word not in (UNSPLITTABLE, BROKEN) and word not in JUDGE_FAILED:
            word, detail = classify(word, detail, ended, killed_here)
        return word, detail, ended.cpu_seconds + judge_cpu

    def _start(self, judge: Judge, program: str, nonce: str, timeout_s: float) -> Process:
        """A candidate with its pipes to the judge, who has been told to begin."""
        with Descriptors() as ends:
            read_request, write_request = ends.pipe_to(ends)
            read_response, write_response = ends.pipe_to(ends)
            candidate = self._spawn("calls", [read_request, write_response], timeout_s)
            try:
                send(judge.control, {"program": program, "nonce": nonce}, (read_response, write_request))
            except OSError as error:
                candidate.end()
                raise ZygoteError(f"the judge is gone: {error}") from None
        return candidate

    def _judge_in_process(self, problem: Problem, program: str, start: float) -> Verdict:
        status, detail, cpu_seconds = judge_in_process(problem, program, self._spawn, self._settings.timeout_s)
        return self._verdict(problem, status, detail, cpu_seconds, start, tier=IN_PROCESS)

    def _judge_for(self, problem: Problem, room: int = 1) -> Judge:
        if self._judge is None or (self._judge.problem is not problem and self._judge.problem != problem):
            self._drop_judge()
            self._judge = Judge(self._zygote("judge"), problem, room * self._settings.memory_bytes)
        return self._judge

    def _drop_judge(self) -> None:
        judge, self._judge = self._judge, None
        if judge is not None:
            try:
                judge.close()
            except ZygoteError:
                self._zygotes.pop("judge").close()

    def _zygote(self, role: str) -> Zygote:
        if role not in self._zygotes:
            self._zygotes[role] = self._confinement.start(role)
        return self._zygotes[role]

    def _spawn(self, run: str, fds: Sequence[int], timeout_s: float | None = None) -> Process:
        return self._zygote("candidate").spawn(
            run,
            fds,
            memory_bytes=self._settings.memory_bytes,
            cpu_seconds=math.ceil(timeout_s or self._settings.timeout_s) + 1,
        )

    def _verdict(
        self, problem: Problem, status: Status, detail: str, cpu_seconds: float, start: float, tier: str = ""
    ) -> Verdict:
        return Verdict(
            problem_id=problem.id,
            status=status,
            detail=_printable(detail),
            cpu_seconds=round(cpu_seconds, 4),
            wall_seconds=round(time.monotonic() - start, 4),
            tier=tier or self.tier,
        )


def _wire_size(text: str) -> int:
    return len(json.dumps(text))


def _printable(text: str) -> str:
    """The program's words without control characters and lone surrogates, which a terminal or file would mind."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
