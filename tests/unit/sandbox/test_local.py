"""Judges in threads: what nobody wants to know any more is not judged."""

import contextlib
import dataclasses
import time

from app.records import Status
from app.sandbox.catalogue import FIXTURE
from app.sandbox.local import LocalJudges
from app.sandbox.tiers import confinement
from app.settings import SandboxSettings

SLOW = "import time\ntime.sleep(0.2)\ndef f(x):\n    return sorted(x)\n"


def test_jobs_that_wait_when_nobody_wants_more_are_not_begun() -> None:
    settings = SandboxSettings(timeout_s=2, num_workers=1)
    jobs = [(dataclasses.replace(FIXTURE, id=str(number)), [SLOW]) for number in range(200)]
    with contextlib.closing(LocalJudges(settings, confinement(unsafe=False))) as judges:
        verdicts = judges.judge_all(jobs)
        assert next(verdicts)[0].status == Status.PASSED
        verdicts.close()  # type: ignore[attr-defined]
        start = time.monotonic()
        assert next(judges.judge_all(jobs[:1]))[0].status == Status.PASSED
        assert time.monotonic() - start < 5  # the 60 that were sent take 12
