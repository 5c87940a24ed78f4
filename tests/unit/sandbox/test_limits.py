"""Limits held from outside, and faults: whose they are, and what is left behind."""

import contextlib
import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from app.records import IN_PROCESS, Problem, Status, Verdict
from app.sandbox import limits, process
from app.sandbox.catalogue import FIXTURE
from app.sandbox.in_process import judge_in_process
from app.sandbox.process import Exit, Zygote, ZygoteError
from app.sandbox.stdio import judge_stdio
from app.sandbox.supervisor import Supervisor
from app.sandbox.tiers import Confinement
from tests.conftest import ROOT
from tests.unit.sandbox.test_supervisor import SETTINGS, SORT, _python_below, check, mbpp, stdio

UNSPLITTABLE = mbpp("assert value(f(3)) == 3")
NODE = "class Node:\n    def __init__(s, v): s.v = v\ndef f(x): return Node(x)\ndef value(n): return n.v\n"


@pytest.fixture(scope="module")
def supervisor() -> Iterator[Supervisor]:
    with Supervisor(SETTINGS) as made:
        yield made


def test_cpu_time_decides_a_timeout_and_not_the_wall(supervisor: Supervisor) -> None:
    sleeps = "import time\ntime.sleep(1.0)\n" + SORT  # more than the CPU limit, less than half the wall limit
    assert supervisor.judge(FIXTURE, sleeps).status == Status.PASSED
    verdict = supervisor.judge(FIXTURE, "def f(x):\n    while True: pass")
    assert verdict.status == Status.TIMEOUT and "of CPU time" in verdict.detail
    assert 0.6 <= verdict.cpu_seconds < 1.2


def test_a_busy_judge_is_charged_to_the_candidate_that_keeps_it_busy(supervisor: Supervisor) -> None:
    tests = check("assert sum(range(candidate([5])[0])) == 1")
    assert supervisor.judge(tests, "def f(x): return [10**12]").status == Status.TIMEOUT


def test_a_zygote_that_dies_is_replaced_and_the_problem_tried_again() -> None:
    with Supervisor(SETTINGS) as made:
        assert made.judge(FIXTURE, SORT).status == Status.PASSED
        for role in ("candidate", "judge"):
            psutil.Process(_python_below(made._zygotes[role].pid)).kill()
            assert made.judge(dataclasses.replace(FIXTURE, id=role), SORT).status == Status.PASSED
        assert made.num_infra >= 1


def test_a_fault_without_a_candidate_is_infra_after_three_tries(
    impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def fail(self: Confinement, role: str) -> Zygote:
        tried.append(role)
        raise OSError("no more processes")

    monkeypatch.setattr(Confinement, "start", fail)
    with Supervisor(SETTINGS, Confinement(tier="A")) as made:
        verdict = made.judge(FIXTURE, SORT)
    assert (verdict.status, verdict.reward, len(tried)) == (Status.INFRA, None, 3)


def test_tests_that_do_not_load_are_no_fault_of_the_program(supervisor: Supervisor) -> None:
    for broken in (check("assert candidate("), check("x", prelude="1 / 0"), stdio()):
        verdict = supervisor.judge(broken, SORT)
        assert verdict.status == Status.INFRA and verdict.detail, broken
    assert supervisor.judge(FIXTURE, SORT).status == Status.PASSED


def test_a_judge_that_dies_under_a_candidate_is_the_candidates_failure(supervisor: Supervisor) -> None:
    tests = check("import ctypes", "candidate([1]) == [1] and ctypes.string_at(0)", "assert True")
    assert supervisor.judge(tests, SORT).status == Status.DIED
    assert supervisor.judge(FIXTURE, SORT).status == Status.PASSED


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause before a fault is tried again, and a second or less for what was stopped and will not answer."""
    monkeypatch.setattr("app.sandbox.supervisor.INFRA_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(process, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(process, "STOPPED_SECONDS", 0.5)
    monkeypatch.setattr(process, "END_SECONDS", 0.5)


SLOW = "import time\ndef f(x):\n    time.sleep(0.05)\n    return sorted(x)\n"
"""Right, and long enough for something to happen in the middle."""


def act_during(supervisor: Supervisor, act: Callable[[], None], program: str = SLOW) -> Verdict:
    """The verdict on the program while `act` is called in the middle of it."""
    supervisor.judge(FIXTURE, SORT)

    def act_once_it_runs() -> None:
        until(lambda: "candidate" in processes(supervisor))
        time.sleep(0.05)
        act()

    with ThreadPoolExecutor(1) as thread:
        acted = thread.submit(act_once_it_runs)
        verdict = supervisor.judge(FIXTURE, program)
        acted.result()
    return verdict


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.005)


def processes(supervisor: Supervisor) -> dict[str, int]:
    """Ids of all that runs for a program now: no candidate before there is one."""
    assert supervisor._judge is not None
    zygotes = {f"{role} zygote": _python_below(zygote.pid) for role, zygote in supervisor._zygotes.items()}
    candidates = psutil.Process(zygotes["candidate zygote"]).children()
    found = zygotes | {"judge": supervisor._judge.process._outer_pid()}
    return found | {"candidate": candidates[0].pid} if candidates else found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
@pytest.mark.parametrize("which", ["judge", "judge zygote", "candidate zygote", "candidate"])
def test_what_somebody_does_to_the_sandbox_is_not_the_programs_fault(which: str, number: int, impatient: None) -> None:
    with Supervisor(SETTINGS) as made:
        verdict = act_during(made, lambda: os.kill(processes(made)[which], number))
        assert verdict.status == Status.PASSED, verdict
        if number == signal.SIGKILL:
            assert made.num_infra == 1
        assert made.judge(FIXTURE, SORT).status == Status.PASSED


def test_a_judge_that_is_always_killed_is_infra(impatient: None) -> None:
    with Supervisor(SETTINGS) as made:
        done = threading.Event()

        def kill_judges() -> None:
            while not done.wait(0.05):
                with contextlib.suppress(OSError, AssertionError, AttributeError):
                    os.kill(made._judge.process._outer_pid(), signal.SIGKILL)  # type: ignore[union-attr]

        threading.Thread(target=kill_judges).start()
        verdict = made.judge(FIXTURE, SLOW)
        done.set()
        assert (verdict.status, verdict.reward) == (Status.INFRA, None), verdict


def test_a_process_that_is_stopped_for_a_moment_goes_on() -> None:
    with Supervisor(SETTINGS) as made:

        def stop() -> None:
            pids = processes(made)
            for which in ("judge", "candidate"):
                os.kill(pids[which], signal.SIGSTOP)
            time.sleep(0.5)
            for which in ("judge", "candidate"):
                os.kill(pids[which], signal.SIGCONT)

        assert act_during(made, stop).status == Status.PASSED and made.num_infra == 0


def test_a_stopped_script_is_not_the_programs_fault(impatient: None) -> None:
    with Supervisor(SETTINGS) as made:
        made.judge(FIXTURE, SORT)
        zygote = psutil.Process(_python_below(made._zygotes["candidate"].pid))

        def suspend() -> None:
            until(lambda: bool(zygote.children()))
            zygote.children()[0].suspend()

        with ThreadPoolExecutor(1) as thread:
            suspended = thread.submit(suspend)
            verdict = made.judge(stdio(("1", "1")), "import time\ntime.sleep(0.3)\nprint(input())")
            suspended.result()
        assert verdict.status == Status.PASSED and made.num_infra == 1


def test_a_program_that_the_kernel_kills_for_a_limit_it_reached_keeps_its_verdict() -> None:
    def ended(number: int, reached: Status | None) -> Exit:
        return Exit(signal=number, code=0, cpu_seconds=0.1, reached=reached)

    for reached in (Status.MEMORY, Status.TIMEOUT):
        assert limits.classify("died", "", ended(signal.SIGKILL, reached), False)[0] == reached
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        with pytest.raises(ZygoteError):
            limits.classify("died", "", ended(number, None), False)
    assert limits.classify("died", "", ended(signal.SIGKILL, None), True)[0] == Status.DIED
    assert limits.classify("died", "", ended(signal.SIGSEGV, None), False)[0] == Status.DIED
    with Supervisor(SETTINGS.model_copy(update={"timeout_s": 10})) as made:
        # it holds 200 MiB when the kernel's killer of large processes comes
        hog = "import time\nheld = bytearray(b'x') * (200 << 20)\ndef f(x):\n    time.sleep(9)\n"

        def kill() -> None:
            candidate = psutil.Process(processes(made)["candidate"])
            until(lambda: candidate.memory_info().rss > 200 << 20)
            candidate.kill()

        verdict = act_during(made, kill, hog)
        assert verdict.status == Status.MEMORY and made.num_infra == 0, verdict


def test_a_judge_short_of_memory_is_not_the_programs_fault() -> None:
    """The tests' own inputs do not fit; what a program's answers make too large is its fault as before."""
    with Supervisor(SETTINGS.model_copy(update={"memory_bytes": 256 << 20, "timeout_s": 10})) as made:
        large = check(
            "assert candidate([2, 1]) == [1, 2]", "held = bytearray(400 << 20)", "assert candidate([3]) == [3]"
        )
        assert made.judge(large, SORT).status == Status.PASSED
        first = check("held = bytearray(1 << 40)", "assert candidate([3]) == [3]")
        verdict = made.judge(first, SORT)
        assert verdict.status == Status.INFRA and "memory" in verdict.detail, verdict
        grown = check("assert len(bytearray(candidate([1])[0])) == 1")
        assert made.judge(grown, "def f(x): return [1 << 40]").status == Status.MEMORY
        assert made.judge(grown, "def f(x): return x").status == Status.PASSED


def test_no_process_is_left_when_a_supervisor_is_killed() -> None:
    if not os.access(sys.executable, os.X_OK):
        pytest.skip(f"this user may not run {sys.executable}")
    code = (
        "import sys, time\nfrom app.sandbox.supervisor import Supervisor\nfrom app.sandbox.catalogue import FIXTURE\n"
        "from app.settings import SandboxSettings\nmade = Supervisor(SandboxSettings(timeout_s=60))\n"
        "made.judge(FIXTURE, 'def f(x): return sorted(x)')\nprint('ready', flush=True)\n"
        "made.judge(FIXTURE, 'def f(x):\\n    while True: pass')"
    )
    child = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"ready\n"
    time.sleep(0.3)
    below = psutil.Process(child.pid).children(recursive=True)
    assert len(below) >= 4  # two zygotes, a judge and a candidate
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert not psutil.wait_procs(below, timeout=5)[1]


def test_a_frame_that_never_ends_is_a_timeout_also_where_tests_and_program_share_a_process() -> None:
    settings = SETTINGS.model_copy(update={"timeout_s": 0.25})
    begins = "import os, time\nos.write(4, b'\\xff\\0\\0\\0x')\ntime.sleep(10**6)\n"
    trickles = (
        "import os, time\nos.write(4, b'\\xff\\xff\\0\\0')\nwhile True:\n    os.write(4, b'x')\n    time.sleep(0.05)\n"
    )
    with Supervisor(settings) as made:
        assert made.judge(UNSPLITTABLE, NODE).status == Status.PASSED
        for program in (begins, trickles):
            verdict = made.judge(UNSPLITTABLE, program)
            assert (verdict.status, verdict.tier) == (Status.TIMEOUT, IN_PROCESS)
            assert verdict.wall_seconds < 40 * settings.timeout_s  # four times it, unless there is no core


@pytest.mark.parametrize("ok", ["[Infinity, 0, 0]", "[NaN, 0, 0]", "[[], 0, 0]", "[1]", "1"])
def test_a_frame_of_no_form_breaks_the_protocol_where_tests_and_program_share_a_process(
    supervisor: Supervisor, ok: str
) -> None:
    frame = f'b = b\'{{"id": 0, "ok": {ok}}}\''
    program = f"import os, struct\n{frame}\nos.write(4, struct.pack('<I', len(b)) + b)\nos._exit(0)\n"
    verdict = supervisor.judge(UNSPLITTABLE, program)
    assert (verdict.status, verdict.tier) == (Status.PROTOCOL, IN_PROCESS), verdict


def test_a_program_can_not_choose_the_way_that_it_can_forge(supervisor: Supervisor) -> None:
    """It grows the test's own argument beyond what can be sent again; the verdict stays in the trusted tier."""
    tests = check("numbers = [3, 1]", "candidate(numbers)", "assert candidate(numbers) == [1, 3]")
    deep = "[" * 80 + "]" * 80
    answer = json.dumps({"id": 1, "ok": None, "args": [json.loads(deep)], "kwargs": {"d": []}})
    forge = (
        f"import os, struct\nb = b'{answer}'\n"
        "def f(x): os.write(4, struct.pack('<I', len(b)) + b); import time; time.sleep(99)\n"
        'b2 = b\'{"id":0,"ok":1}\'\n'
    )
    for program in (
        forge,
        "def f(x):\n    x[:] = ['y' * 700_000, 'z' * 200_000]\n    return x",
        "def f(x): x *= 40_000",
    ):
        verdict = supervisor.judge(tests, program)
        assert verdict.status != Status.PASSED and verdict.tier == supervisor.tier, verdict


def test_a_thread_bomb_is_ended_before_it_takes_the_machines_processes(supervisor: Supervisor) -> None:
    bomb = (
        "import threading, time\nthreading.stack_size(32768)\n"
        "def f(x):\n    for _ in range(5000): threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n"
    )
    verdict = supervisor.judge(FIXTURE, bomb)
    assert verdict.status == Status.MEMORY and "threads" in verdict.detail, verdict
    pool = "from concurrent.futures import ThreadPoolExecutor\ndef f(x):\n    with ThreadPoolExecutor(32) as t:\n"
    tests = check("assert candidate([3, 1] * 40) == [1, 3] * 40")
    assert supervisor.judge(tests, pool + "        return list(t.map(lambda n: 4 - n, x))").status == Status.PASSED


def test_a_program_that_got_no_core_is_given_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(limits.time, "monotonic", lambda: now[0])
    for waited, ends_at in ((0.0, 4.0), (3.0, 8.0)):
        now[0] = 0.0
        process: Any = SimpleNamespace(
            cpu_seconds=lambda: 0.1, waited_seconds=lambda waited=waited: waited, num_threads=lambda: 1
        )
        clock = limits.Clock(1.0, [process])
        while clock.remaining() > 0:
            now[0] += 0.25
        assert now[0] == ends_at and clock.status == Status.TIMEOUT


def test_all_tests_of_a_script_together_have_a_limit_too() -> None:
    busy = "import time\nend = time.process_time() + 0.04\nwhile time.process_time() < end: pass\nprint(input())"
    many = stdio(*[(str(n), str(n)) for n in range(40)])
    settings = SETTINGS.model_copy(update={"timeout_s": 0.15})  # a busy machine gives a test its 0.04 s within 0.6 s
    with Supervisor(settings) as made:
        verdict = made.judge(many, busy)
        assert verdict.status == Status.TIMEOUT and "times the limit" in verdict.detail
        assert verdict.cpu_seconds < 15 * settings.timeout_s
        assert made.judge(stdio(*[(str(n), str(n)) for n in range(10)]), busy).status == Status.PASSED


def test_a_supervisor_with_many_open_files_judges_as_ever() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2000:
        pytest.skip("no more than 2,000 descriptors may be open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    try:
        with Supervisor(SETTINGS) as made:
            assert made.judge(FIXTURE, SORT).status == Status.PASSED
            assert made.judge(stdio(("1", "1")), "print(input())").status == Status.PASSED
            assert made.judge(UNSPLITTABLE, NODE).status == Status.PASSED
    finally:
        for fd in opened:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_no_descriptor_and_no_process_is_lost_over_many_verdicts(supervisor: Supervisor) -> None:
    programs = [SORT, "def f(x): return 0", "import os\nos._exit(3)", "def f(x: return", "def f(x): raise KeyError"]
    problems: list[Problem] = [FIXTURE, check("assert candidate([1]) == [1]"), stdio(("1", "1")), UNSPLITTABLE]

    def judge_all() -> tuple[int, int]:
        for problem in problems:
            for program in programs:
                supervisor.judge(problem, program)
        own = psutil.Process()
        return own.num_fds(), len(own.children(recursive=True))

    first = judge_all()
    assert [judge_all() for _ in range(4)] == [first] * 4


@pytest.mark.parametrize("name", ["pipe", "open"])
@pytest.mark.parametrize("style", ["calls", "script", "in_process"])
def test_no_descriptor_is_lost_when_one_can_not_be_opened(
    style: str, name: str, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, program = {"calls": (FIXTURE, SORT), "script": (stdio(("1", "1")), "print(input())")}.get(
        style, (UNSPLITTABLE, NODE)
    )
    real, count, every = getattr(os, name), 0, 1

    def open_or_fail(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count % every == 0:
            raise OSError(24, "Too many open files")
        return real(*args, **kwargs)

    with Supervisor(SETTINGS) as made:
        made.judge(problem, program)
        for every in (1, 2, 3, 4, 7):
            made.close()  # so that zygotes have to be started as well
            before, count = psutil.Process().num_fds(), 0
            with monkeypatch.context() as patch:
                patch.setattr(os, name, open_or_fail)
                verdict = made.judge(problem, program)
            made.close()
            assert verdict.status in (Status.PASSED, Status.INFRA), verdict
            assert psutil.Process().num_fds() == before, every


def test_no_descriptor_is_lost_when_no_process_can_be_spawned() -> None:
    def spawn(*_: object) -> Any:
        raise ZygoteError("no more processes")

    for judge, problem in ((judge_stdio, stdio(("1", "1"))), (judge_in_process, UNSPLITTABLE)):
        before = psutil.Process().num_fds()
        for _ in range(5):
            with pytest.raises(ZygoteError):
                judge(problem, SORT, spawn, 1.0)
        assert psutil.Process().num_fds() == before


def test_an_interrupted_supervisor_starts_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    with Supervisor(SETTINGS) as made:
        assert made.judge(FIXTURE, SORT).status == Status.PASSED

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("app.sandbox.supervisor.wait_readable", interrupt)
        with pytest.raises(KeyboardInterrupt):
            made.judge(FIXTURE, "import time\ntime.sleep(100)")
        monkeypatch.undo()
        start = time.monotonic()
        assert made.judge(FIXTURE, "def f(x): return 0").status == Status.WRONG_ANSWER
        assert made.judge(FIXTURE, SORT).status == Status.PASSED
        assert time.monotonic() - start < 5 and made.num_infra == 0


def test_a_zygote_that_can_not_fork_says_so_and_lives_on(supervisor: Supervisor) -> None:
    """The kernel's limit on a user's processes is met for a moment; the problem is tried again."""
    if os.geteuid() == 0:
        pytest.skip("root is not held by the limit on processes; run as another user")
    assert supervisor.judge(FIXTURE, SORT).status == Status.PASSED
    zygote = psutil.Process(_python_below(supervisor._zygotes["candidate"].pid))
    old = zygote.rlimit(psutil.RLIMIT_NPROC)
    zygote.rlimit(psutil.RLIMIT_NPROC, (1, old[1]))
    threading.Timer(0.1, lambda: zygote.rlimit(psutil.RLIMIT_NPROC, old)).start()
    assert supervisor.judge(FIXTURE, SORT).status == Status.PASSED
