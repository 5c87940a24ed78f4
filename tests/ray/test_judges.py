"""The pool of judges on a real Ray: order, back-pressure, replacement, and all hostile programs at once."""

import contextlib
import dataclasses
import os
import pickle
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray.exceptions import (
    ActorUnschedulableError,
    OutOfMemoryError,
    OwnerDiedError,
    RayError,
    TaskCancelledError,
    WorkerCrashedError,
)

from actors import judge_actor, judges
from actors.judges import MAX_TRIES, WAITING_PER_WORKER, JudgePool
from app.errors import UserError
from app.evolution.pool import PooledJudge
from app.records import Problem, Status, Verdict
from app.sandbox.catalogue import FIXTURE, read_cases
from app.sandbox.supervisor import Supervisor
from app.settings import SandboxSettings

SORT = "def f(x):\n    return sorted(x)\n"
NUM_WORKERS = 2
MEMORY = 512 << 20
CASES = read_cases(Path(__file__).parents[1] / "cases" / "sandbox.jsonl")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """None between tries: nothing here is short of memory."""
    monkeypatch.setattr(judges, "PAUSE_SECONDS", 0.0)


SETTINGS = SandboxSettings(timeout_s=0.5, memory_bytes=MEMORY, num_workers=NUM_WORKERS)


@pytest.fixture
def pool(local_ray: None) -> Iterator[JudgePool]:
    with contextlib.closing(JudgePool(SETTINGS)) as made:
        yield made


@pytest.fixture(scope="module")
def lasting_pool(local_ray: None) -> Iterator[JudgePool]:
    """For tests that end none of its judges."""
    with contextlib.closing(JudgePool(SETTINGS)) as made:
        start_all(made)
        yield made


def start_all(pool: JudgePool) -> None:
    """Have as many jobs at once as there may be judges."""
    list(pool.judge_all([(problem(number), [SORT]) for number in range(NUM_WORKERS)]))
    assert len(pool._workers) == NUM_WORKERS


def problem(number: int) -> Problem:
    return dataclasses.replace(FIXTURE, id=str(number))


def test_judges_are_dealt_to_nodes_by_their_cores_and_none_to_one_without() -> None:
    homes: list[str] = []
    cores = {"head": 0.0, "small": 2.0, "large": 8.0}
    for _ in range(20):
        homes.append(judge_actor.home_of_next(cores, homes))
    assert sorted(homes) == ["large"] * 16 + ["small"] * 4
    del cores["large"]
    assert judge_actor.home_of_next(cores, homes) == "small"


def test_verdicts_come_in_the_order_of_the_problems(lasting_pool: JudgePool) -> None:
    slow = "import time\ntime.sleep(0.3)\n" + SORT
    jobs = [(problem(number), [slow if number % 3 == 0 else SORT, "def f(x): return 0"]) for number in range(12)]
    results = list(lasting_pool.judge_all(jobs))
    assert [verdicts[0].problem_id for verdicts in results] == [str(number) for number in range(12)]
    assert all([verdict.status for verdict in verdicts] == ["passed", "wrong_answer"] for verdicts in results)
    assert results[0][0].tier == Supervisor(SandboxSettings()).tier


def test_what_the_shared_pool_of_verdicts_knows_keeps_its_turn_among_what_is_judged(
    lasting_pool: JudgePool, tmp_path: Path
) -> None:
    jobs = [(problem(number), [SORT, "def f(x): return 0"]) for number in range(30)]
    list(PooledJudge(lasting_pool, tmp_path, "first").judge_all(jobs[::2]))
    second = PooledJudge(lasting_pool, tmp_path, "second")
    results = list(second.judge_all(jobs))
    assert [verdicts[0].problem_id for verdicts in results] == [str(number) for number in range(30)]
    assert all([verdict.status for verdict in verdicts] == ["passed", "wrong_answer"] for verdicts in results)
    assert (second.num_shared, second.num_judged) == (30, 30)


@pytest.mark.parametrize(("num_jobs", "num_judges"), [(1, 1), (3, 3), (9, 4)])
def test_a_pool_starts_no_more_judges_than_there_is_work(local_ray: None, num_jobs: int, num_judges: int) -> None:
    with contextlib.closing(JudgePool(SandboxSettings(num_workers=4))) as pool:
        results = list(pool.judge_all([(problem(number), [SORT]) for number in range(num_jobs)]))
        assert [verdicts[0].status for verdicts in results] == [Status.PASSED] * num_jobs
        assert len({process.pid for process in _supervisors(pool)}) == num_judges


def test_copies_that_judge_at_once_have_all_judges_in_common_and_few_jobs_wait_for_each(local_ray: None) -> None:
    slow = "import time\ntime.sleep(0.3)\n" + SORT
    with contextlib.closing(JudgePool(SETTINGS, sharers=3)) as pool:
        copy = pickle.loads(pickle.dumps(pool))
        verdicts = [one.judge_all([(problem(number), [slow]) for number in range(6)]) for one in (pool, copy)]
        first = [next(one)[0].status for one in verdicts]
        assert sum(pool._load) <= NUM_WORKERS and sum(copy._load) <= NUM_WORKERS
        rest = [[judged[0].status for judged in one] for one in verdicts]
        assert first + rest[0] + rest[1] == [Status.PASSED] * 12
        assert copy._workers == pool._workers and len(pool._workers) == NUM_WORKERS


def test_only_a_few_jobs_wait_for_each_worker_and_more_are_read_ahead(
    lasting_pool: JudgePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judges, "UNREAD_PER_WORKER", 8)
    taken, most, ahead = 0, 0, 0

    def source() -> Iterator[tuple[Problem, list[str]]]:
        nonlocal taken, most
        for number in range(40):
            taken += 1
            most = max(most, sum(lasting_pool._load))
            yield problem(number), [f"import time\ntime.sleep({0.05 if number else 1})\n" + SORT]

    for done, _ in enumerate(lasting_pool.judge_all(source()), 1):
        ahead = max(ahead, taken - done)
    assert most <= WAITING_PER_WORKER * NUM_WORKERS < ahead <= 8 * NUM_WORKERS


def test_one_slow_program_does_not_stop_the_other_judges(lasting_pool: JudgePool) -> None:
    slow = "import time\ntime.sleep(2)\n" + SORT
    jobs = [(problem(number), [SORT if number else slow]) for number in range(40)]
    verdicts = lasting_pool.judge_all(jobs)
    assert next(verdicts)[0].problem_id == "0"
    judged_beside_it = [job for job in lasting_pool._sent if lasting_pool._is_done(job)]
    assert len(judged_beside_it) > WAITING_PER_WORKER * NUM_WORKERS
    assert [v[0].status for v in verdicts] == [Status.PASSED] * 39


def test_judging_goes_on_while_the_source_of_jobs_is_slow(lasting_pool: JudgePool) -> None:
    seen: list[float] = []

    def source() -> Iterator[tuple[Problem, list[str]]]:
        for number in range(6):
            yield problem(number), ["import time\ntime.sleep(0.4)\n" + SORT]
            time.sleep(0.4)

    start = time.monotonic()
    for verdicts in lasting_pool.judge_all(source()):
        assert verdicts[0].status == Status.PASSED
        seen.append(time.monotonic() - start)
    assert seen[0] < 1.6 and seen[-1] < 4.0  # one after the other takes 4.8


def test_a_supervisor_that_dies_is_replaced_and_its_problems_are_tried_again(pool: JudgePool) -> None:
    def source() -> Iterator[tuple[Problem, list[str]]]:
        for number in range(20):
            if number == 8:
                _supervisors(pool)[0].kill()
            yield problem(number), ["import time\ntime.sleep(0.1)\n" + SORT]

    results = [verdicts[0] for verdicts in pool.judge_all(source())]
    assert [verdict.problem_id for verdict in results] == [str(number) for number in range(20)]
    assert {verdict.status for verdict in results} == {Status.PASSED}
    assert pool.num_replaced == 1


def test_a_judge_that_dies_beside_a_slow_program_does_not_get_all_that_comes(
    pool: JudgePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_all(pool)
    dead, held, submit = pool._workers[1], list[int](), pool._submit

    def submit_and_kill(*args: Any, **options: Any) -> Any:
        if len(held) == 6:
            ray.kill(dead)
        job = submit(*args, **options)
        held.append(sum(job.actor is dead for job in pool._sent))
        return job

    monkeypatch.setattr(pool, "_submit", submit_and_kill)
    slow = "import time\ntime.sleep(2)\n" + SORT
    verdicts = pool.judge_all([(problem(number), [SORT if number else slow]) for number in range(40)])
    assert next(verdicts)[0].problem_id == "0"
    assert [v[0].status for v in verdicts] == [Status.PASSED] * 39
    assert max(held) <= WAITING_PER_WORKER * NUM_WORKERS and pool.num_replaced == 1


def test_a_problem_whose_judges_always_die_is_masked_and_not_failed(
    pool: JudgePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = pool._submit

    def submit_and_kill(*args: Any, **options: Any) -> Any:
        job = submit(*args, **options)
        ray.kill(job.actor)
        return job

    monkeypatch.setattr(pool, "_submit", submit_and_kill)
    ((verdict,),) = pool.judge_all([(problem(0), [SORT])])
    assert (verdict.status, verdict.reward) == (Status.INFRA, None)
    monkeypatch.undo()
    assert pool.judge(problem(1), SORT).status == Status.PASSED


class Fragile:
    """A judge that a job's id can end, or fail, in the middle of it."""

    def __init__(self, settings: SandboxSettings, unsafe: bool) -> None:
        self._supervisor = Supervisor(settings)

    def ready(self) -> None: ...

    def judge(self, problem: Problem, programs: list[str]) -> list[Verdict]:
        time.sleep(0.1)  # the others wait behind it
        if problem.id == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        elif problem.id == "exits":
            os._exit(3)
        elif problem.id == "leaves":
            ray.actor.exit_actor()
        elif problem.id == "raises":
            raise MemoryError("of this process")
        return [self._supervisor.judge(problem, program) for program in programs]

    def close(self) -> None:
        self._supervisor.close()


@pytest.fixture
def fragile_pool(local_ray: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[JudgePool]:
    settings = SandboxSettings(timeout_s=0.5, memory_bytes=MEMORY, num_workers=1)
    monkeypatch.setattr(judge_actor, "Judge", ray.remote(Fragile))
    with contextlib.closing(JudgePool(settings)) as made:
        yield made


@pytest.mark.parametrize("how", ["killed", "exits", "leaves", "raises"])
def test_a_job_that_ends_its_judges_costs_its_neighbours_nothing(fragile_pool: JudgePool, how: str) -> None:
    """Three jobs wait for one judge. Whichever stands first, only the one that the judge was at is charged; a second
    one after it too."""
    ids = ["first", how, "second", "third", *([how] if how == "killed" else []), "last"]
    jobs = [(dataclasses.replace(FIXTURE, id=name), [SORT, "def f(x): return 0"]) for name in ids]
    results = list(fragile_pool.judge_all(jobs))
    assert [verdicts[0].problem_id for verdicts in results] == ids
    for name, verdicts in zip(ids, results, strict=True):
        expected = [Status.INFRA] * 2 if name == how else [Status.PASSED, Status.WRONG_ANSWER]
        assert [verdict.status for verdict in verdicts] == expected, name
    assert fragile_pool.num_replaced == (0 if how == "raises" else ids.count(how) * MAX_TRIES)
    assert fragile_pool._load == [0] and not fragile_pool._sent


def test_a_job_that_ends_a_judge_of_several_copies_is_charged_and_none_of_another_copys(
    local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SandboxSettings(timeout_s=0.5, memory_bytes=MEMORY, num_workers=1)
    monkeypatch.setattr(judge_actor, "Judge", ray.remote(Fragile))
    monkeypatch.setattr(judges, "MAX_TRIES", 2)
    tries: list[int] = []
    with contextlib.closing(JudgePool(settings, sharers=2)) as pool:
        killer, other = (pickle.loads(pickle.dumps(pool)) for _ in range(2))
        submit = other._submit

        def counted(problem: Problem, programs: list[str], number: int = 1, **options: Any) -> Any:
            tries.append(number)
            return submit(problem, programs, number, **options)

        monkeypatch.setattr(other, "_submit", counted)
        names = ["killed", "after"]
        jobs = ((dataclasses.replace(FIXTURE, id=name), [SORT]) for name in names)
        waiting = killer._submit(*next(jobs))
        judged = other.judge_all([(problem(number), [SORT]) for number in range(4)])
        assert [verdicts[0].status for verdicts in judged] == [Status.PASSED] * 4
        assert len(tries) > 4 and set(tries) == {1}
        shared, places, submit_there = killer._workers[0], list[int](), killer._submit

        def placed(*args: Any, **options: Any) -> Any:
            job = submit_there(*args, **options)
            places.append(job.worker)
            return job

        monkeypatch.setattr(killer, "_submit", placed)
        assert killer._result(waiting)[0].status == Status.INFRA
        assert places == [1, 1], "it is kept from the judge of all"
        assert [verdicts[0].status for verdicts in killer.judge_all(jobs)] == [Status.PASSED]
        assert killer._load == [0, 0] and not killer._sent
        assert killer.__getstate__()["_resting"] == {}
        deadline = time.monotonic() + 30
        while killer._resting:
            assert time.monotonic() < deadline, "the judge that Ray started again is not taken back"
            assert killer.judge(problem(8), SORT).status == Status.PASSED
        both = [killer._submit(problem(number), [SORT]) for number in range(2)]
        assert {job.worker for job in both} == {0, 1} and killer._workers[0] is shared
        assert [killer._result(job)[0].status for job in both] == [Status.PASSED] * 2
        late = pickle.loads(pickle.dumps(pool))  # finds the judge that Ray started again
        assert [one.judge(problem(9), SORT).status for one in (late, pool)] == [Status.PASSED] * 2
        assert (len(late._workers), late.num_replaced, pool.num_replaced) == (1, 0, 0)
        for copy in (killer, other):
            copy.close()


def test_judges_that_are_killed_whenever_they_start_are_given_up(
    local_ray: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    doom = tmp_path / "doom"

    class Doomed(Fragile):
        def __init__(self, settings: SandboxSettings, unsafe: bool) -> None:
            if doom.exists():
                os.kill(os.getpid(), signal.SIGKILL)
            super().__init__(settings, unsafe)

    monkeypatch.setattr(judge_actor, "Judge", ray.remote(Doomed))
    monkeypatch.setattr(judges, "RESTARTS", 1)
    monkeypatch.setattr(judges, "MAX_TRIES", 2)
    with contextlib.closing(JudgePool(SETTINGS.model_copy(update={"num_workers": 1}), sharers=2)) as pool:
        copy = pickle.loads(pickle.dumps(pool))
        assert copy.judge(problem(0), SORT).status == Status.PASSED
        doom.touch()
        jobs = [(dataclasses.replace(FIXTURE, id=name), [SORT]) for name in ("killed", "second", "third")]
        assert [verdicts[0].status for verdicts in copy.judge_all(jobs)] == [Status.INFRA] * 3
        doom.unlink()
        assert [one.judge(problem(1), SORT).status for one in (copy, pool)] == [Status.PASSED] * 2
        copy.close()


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        (OutOfMemoryError("the node is short of memory"), True),
        (WorkerCrashedError(), True),
        (ActorUnschedulableError("no node has room"), True),
        (TaskCancelledError(), False),
        (OwnerDiedError("00", "", ""), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_error_of_rays_leaves_the_other_verdicts_whole(
    fragile_pool: JudgePool, monkeypatch: pytest.MonkeyPatch, error: RayError, ends: bool
) -> None:
    """Errors that only a starved machine gives come in place of the first answer."""
    real, raised = judges._failure, []

    def fail_once(job: Any) -> RayError | None:
        if not raised:
            raised.append(job)
            if ends:
                ray.kill(job.actor)
            return error
        return real(job)

    monkeypatch.setattr(judges, "_failure", fail_once)
    results = [verdicts[0].status for verdicts in fragile_pool.judge_all([(problem(n), [SORT]) for n in range(4)])]
    assert results == [Status.PASSED] * 4 and fragile_pool.num_replaced == int(ends)


def test_a_source_that_fails_leaves_no_work_behind(lasting_pool: JudgePool) -> None:
    def source() -> Iterator[tuple[Problem, list[str]]]:
        for number in range(5):
            yield problem(number), ["import time\ntime.sleep(0.2)\n" + SORT]
        raise LookupError("no more drafts")

    judged: list[str] = []
    with pytest.raises(LookupError):
        judged.extend(verdicts[0].status for verdicts in lasting_pool.judge_all(source()))
    assert judged == [Status.PASSED] * 5
    for verdicts in lasting_pool.judge_all((problem(number), [SORT]) for number in range(9)):
        assert verdicts[0].status == Status.PASSED
        break  # nobody wants more
    assert lasting_pool._load == [0] * NUM_WORKERS
    assert lasting_pool.judge(problem(9), SORT).status == Status.PASSED


@pytest.mark.parametrize("can_first", [False, True])
def test_a_node_that_can_not_confine_says_so_in_one_sentence(
    local_ray: None, monkeypatch: pytest.MonkeyPatch, can_first: bool
) -> None:
    from app.cli import _sentence

    @ray.remote
    class Unconfined:
        def __init__(self) -> None:
            raise UserError("programs can't be confined on this machine")

        def ready(self) -> None: ...

        def judge(self, problem: Problem, programs: list[str]) -> None: ...

        def close(self) -> None: ...

    start = JudgePool._start

    def start_there(self: JudgePool, *instead: Any) -> Any:
        """The first judge finds a node that can confine, the second does not."""
        return start(self, *instead) if can_first and not self._workers else Unconfined.options(num_cpus=0).remote()

    monkeypatch.setattr(JudgePool, "_start", start_there)
    with pytest.raises(Exception) as caught, contextlib.closing(JudgePool(SandboxSettings(num_workers=2))) as pool:
        list(pool.judge_all([(problem(number), [SORT]) for number in range(9)]))
    assert _sentence(caught.value) == "programs can't be confined on this machine"


def test_every_hostile_program_of_the_catalogue_at_once_leaves_the_machine_usable(pool: JudgePool) -> None:
    """A thousand of them: tests/faults."""
    judge_hostile_programs(pool, len(CASES))


def judge_hostile_programs(pool: JudgePool, count: int) -> None:
    """As many of the catalogue, one after the other and from its start again, none of which may cost another its
    verdict, or the machine its memory."""
    hostile = [CASES[number % len(CASES)] for number in range(count)]
    start_all(pool)
    supervisors, seen = _supervisors(pool), set()
    peak = 0
    jobs = ((dataclasses.replace(FIXTURE, id=str(n)), [case.program]) for n, case in enumerate(hostile))
    for number, ((verdict,), case) in enumerate(zip(pool.judge_all(jobs), hostile, strict=True)):
        assert verdict.problem_id == str(number)
        assert verdict.status in case.expected, (case.id, verdict)
        if number % 5 == 0:
            below = [child for supervisor in supervisors for child in supervisor.children(recursive=True)]
            seen.update(below)
            peak = max(peak, _resident_bytes(below))
    # a program and its judge in each worker, and two zygotes of 20 MB
    assert peak < NUM_WORKERS * (2 * MEMORY + (64 << 20)), f"{peak / 2**20:.0f} MiB"
    assert len(seen) > count // 10
    pool.close()
    assert not psutil.wait_procs(seen, timeout=5)[1]


def _supervisors(pool: JudgePool) -> list[psutil.Process]:
    pids = ray.get([worker.__ray_call__.remote(lambda _: os.getpid()) for worker in pool._workers])
    return [psutil.Process(pid) for pid in pids]


def _resident_bytes(processes: list[psutil.Process]) -> int:
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total
