"""A thousand hostile programs at once, on the judges of a real Ray."""

import contextlib
import time

import pytest

from actors.judges import JudgePool
from app.settings import SandboxSettings
from tests.ray.test_judges import MEMORY, NUM_WORKERS, judge_hostile_programs


@pytest.mark.usefixtures("local_ray")
def test_a_thousand_hostile_programs_at_once_leave_the_machine_usable() -> None:
    settings = SandboxSettings(timeout_s=0.5, memory_bytes=MEMORY, num_workers=NUM_WORKERS)
    start = time.monotonic()
    with contextlib.closing(JudgePool(settings)) as pool:
        judge_hostile_programs(pool, 1000)
    assert time.monotonic() - start < 180
