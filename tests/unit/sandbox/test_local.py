"""Judges in threads, of this process or of another: their order, and what nobody wants any more is not judged."""

import contextlib
import dataclasses
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import psutil
import pytest

from app.errors import UserError
from app.records import Problem, Status
from app.sandbox.apart import JudgesApart
from app.sandbox.catalogue import FIXTURE
from app.sandbox.local import Judges, LocalJudges
from app.sandbox.supervisor import Supervisor
from app.sandbox.tiers import confinement
from app.settings import SandboxSettings
from tests.conftest import ROOT

SLOW = "import time\ntime.sleep(0.2)\ndef f(x):\n    return sorted(x)\n"


MAKERS = (LocalJudges, JudgesApart)
ONE = SandboxSettings(timeout_s=2, num_workers=1)


@pytest.fixture(scope="module", params=MAKERS, ids=["here", "apart"])
def judges(request: pytest.FixtureRequest) -> Iterator[Judges]:
    with contextlib.closing(request.param(ONE, confinement(unsafe=False))) as made:
        yield made


def named(number: int) -> Problem:
    return dataclasses.replace(FIXTURE, id=str(number))


def test_jobs_that_wait_when_nobody_wants_more_are_not_begun(judges: Judges) -> None:
    jobs = [(named(number), [SLOW]) for number in range(200)]
    verdicts = judges.judge_all(jobs)
    assert next(verdicts)[0].status == Status.PASSED
    verdicts.close()  # type: ignore[attr-defined]
    start = time.monotonic()
    assert next(judges.judge_all(jobs[:1]))[0].status == Status.PASSED
    assert time.monotonic() - start < 5  # the 60 that were sent take 12


def test_verdicts_come_in_the_order_of_the_jobs_and_then_what_their_source_raised(judges: Judges) -> None:
    def jobs() -> Iterator[tuple[Problem, list[str]]]:
        yield named(0), ["def f(x):\n    return sorted(x)", "def f(x):\n    return x"]
        yield named(1), ["def f("]
        raise InterruptedError

    given = judges.judge_all(jobs())
    assert [(one.problem_id, one.status) for one in next(given)] == [
        ("0", Status.PASSED),
        ("0", Status.WRONG_ANSWER),
    ]
    assert [(one.problem_id, one.status) for one in next(given)] == [("1", Status.LOAD_ERROR)]
    with pytest.raises(InterruptedError):
        next(given)


def test_a_program_without_tests_is_run(judges: Judges) -> None:
    assert judges.run_script("print(input())", "seen").result(20).output == "seen\n"


def fails(_: Supervisor, job: int) -> int:
    raise ValueError(job)


def holds_a_lock(_: Supervisor, job: int) -> object:
    return threading.Lock()


def test_what_a_job_raises_is_raised_where_it_is_asked_for(judges: Judges) -> None:
    with pytest.raises(ValueError, match="3"):
        next(judges.work_all(fails, [3]))
    assert judges.run_script("print(1)", "").result(20).output == "1\n"


def test_an_outcome_that_can_not_be_sent_is_an_error_and_no_endless_wait() -> None:
    with (
        contextlib.closing(JudgesApart(ONE, confinement())) as judges,
        pytest.raises(RuntimeError, match="can't be sent"),
    ):
        judges.submit(holds_a_lock, 0).result(20)


def test_a_process_of_judges_that_ends_is_told_and_leaves_nothing() -> None:
    with contextlib.closing(JudgesApart(ONE, confinement())) as judges:
        judges.run_script("", "").result(20)
        process = psutil.Process(judges._process.pid)
        zygotes = process.children(recursive=True)
        waits = judges.run_script("import time\ntime.sleep(60)", "")
        process.kill()
        with pytest.raises(UserError, match="process of the judges ended"):
            waits.result(20)
        with pytest.raises(UserError, match="process of the judges ended"):
            judges.run_script("", "")
    assert zygotes and not psutil.wait_procs(zygotes, 10)[1]


def test_the_judges_end_when_the_process_that_asks_is_killed() -> None:
    code = (
        "import time; from app.sandbox.apart import JudgesApart; from app.sandbox.tiers import confinement; "
        "from app.settings import SandboxSettings; one = SandboxSettings(num_workers=1); "
        "judges = JudgesApart(one, confinement()); judges.run_script('', '').result(20); "
        "print(judges._process.pid, flush=True); time.sleep(60)"
    )
    asks = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert asks.stdout
    process = psutil.Process(int(asks.stdout.readline()))
    there = [process, *process.children(recursive=True)]
    asks.kill()
    asks.communicate()
    assert len(there) > 1 and not psutil.wait_procs(there, 10)[1]
