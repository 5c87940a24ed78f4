"""Queues of untrusted jobs on a real Ray: what kills or hangs its worker is left out and named, the rest is done."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.cluster.job_queue import TRIES, at, run_tasks
from app.errors import UserError

pytestmark = pytest.mark.usefixtures("local_ray")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    index: int
    items: tuple[str, ...] = ()
    log: Path = Path()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    index: int
    done: list[str]
    refused: dict[str, str]


def weigh(job: Job) -> Answer:
    """Stands for a stage: works through the job's items, one of which may be poisoned."""
    done, refused = [], {}
    for item in job.items:
        with open(job.log / f"{job.index}", "a") as log:
            log.write(f"{item}\n")
        if reason := at(item):
            refused[item] = reason
            continue
        if item.startswith("kills"):
            os.kill(os.getpid(), signal.SIGSEGV)
        if item.startswith("hangs"):
            time.sleep(3600)
        if item.startswith("waits"):
            time.sleep(0.2)
        done.append(item)
    at("")
    return Answer(index=job.index, done=done, refused=refused)


def runs_of(log: Path, index: int, item: str) -> int:
    return (log / str(index)).read_text().split("\n").count(item)


def jobs_of(log: Path, *items: list[str]) -> list[Job]:
    return [Job(index=index, items=tuple(held), log=log) for index, held in enumerate(items)]


def test_what_kills_its_worker_three_times_is_left_out_and_named_and_nothing_else(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, ["a", "kills-b", "c"], ["d", "waits", "e"], ["kills-f"], ["g"])
    results = run_tasks("test", weigh, jobs, 2, notes=tmp_path / "notes", limit_s=60)
    assert [result.index for result in results] == [0, 1, 2, 3]
    assert [result.done for result in results] == [["a", "c"], ["d", "waits", "e"], [], ["g"]]
    assert [list(result.refused) for result in results] == [["kills-b"], [], ["kills-f"], []]
    assert results[0].refused["kills-b"].startswith(f"crashes: its worker died {TRIES} times")
    assert runs_of(tmp_path, 0, "kills-b") == TRIES + 1, "three tries, and once more to be refused"
    assert runs_of(tmp_path, 1, "d") == 1, "a job beside it is charged nothing and runs once"


def test_what_hangs_is_ended_and_left_out_while_what_is_slow_together_goes_on(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, [f"waits-{number}" for number in range(10)], ["hangs-a", "b"])
    results = run_tasks("test", weigh, jobs, notes=tmp_path / "notes", limit_s=1.0)
    assert len(results[0].done) == 10, "two seconds, but none of it longer than the limit"
    assert results[1].done == ["b"] and results[1].refused["hangs-a"].startswith("hangs: it took longer than 1 s")


def always_dies(job: Job) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_job_that_dies_at_nothing_in_particular_ends_the_queue_in_a_sentence(tmp_path: Path) -> None:
    for notes in (None, tmp_path / "notes"):
        with pytest.raises(UserError, match=r"job 7: its worker died 3 times .*more memory") as caught:
            run_tasks("test", always_dies, [Job(index=7)], notes=notes)
        assert "\n" not in str(caught.value)


def mistaken(job: Job) -> None:
    raise UserError("the template refuses it") if job.index else ValueError("a bug")


@pytest.mark.parametrize(("index", "kind"), [(0, ValueError), (1, UserError)])
def test_a_bug_or_a_users_mistake_in_a_job_is_raised_and_never_taken_for_an_input(
    tmp_path: Path, index: int, kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        run_tasks("test", mistaken, [Job(index=index)], notes=tmp_path)


def test_a_queue_of_no_jobs_gives_nothing(tmp_path: Path) -> None:
    assert run_tasks("test", weigh, [], notes=tmp_path / "notes") == []
