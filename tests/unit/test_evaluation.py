"""The harness passes right programs, fails wrong ones, and counts honestly."""

import pytest

from app.evaluation import humaneval
from app.evaluation.execution import ProcessJudge
from app.evaluation.statistics import sign_test, wilson_interval
from app.records import Problem, Status

JUDGE = ProcessJudge(timeout_s=2, memory_bytes=1 << 30)


def test_every_canonical_solution_passes() -> None:
    judge = ProcessJudge(timeout_s=10, memory_bytes=2 << 30)
    failed = [
        (task.problem.id, verdict)
        for task in humaneval.load()[::2]
        if (verdict := judge.judge(task.problem, task.problem.prompt + task.canonical_solution)).status != Status.PASSED
    ]
    assert not failed


def problem() -> Problem:
    tests = "def check(candidate):\n    assert candidate([2, 1]) == [1, 2]\n"
    return Problem(id="t/0", source="t", licence="MIT", prompt="", entry_point="f", tests=tests)


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("def f(x):\n    return sorted(x)", Status.PASSED),
        ("def f(x):\n    print('noise' * 1000)\n    return sorted(x)", Status.PASSED),
        ("def f(x):\n    return x", Status.WRONG_ANSWER),
        ("def f(x):\n    return 1 / 0", Status.RUNTIME_ERROR),
        ("def f(x:\n", Status.LOAD_ERROR),
        ("def g(x):\n    return sorted(x)", Status.RUNTIME_ERROR),
        ("import no_such_module", Status.LOAD_ERROR),
        ("def f(x):\n    while True: pass", Status.TIMEOUT),
        ("def f(x):\n    return bytearray(8 << 30)", Status.MEMORY),
        ("def f(x):\n    import os\n    os._exit(0)", Status.DIED),
        ("import sys\nsys.exit(0)", Status.LOAD_ERROR),
        ("def f(x):\n    with open('here', 'w') as file:\n        file.write('x')", Status.RUNTIME_ERROR),
    ],
)
def test_each_kind_of_program_gets_its_verdict(source: str, status: Status) -> None:
    verdict = JUDGE.judge(problem(), source)
    assert verdict.status == status, verdict
    assert verdict.tier == "process"


def test_a_child_that_leaves_the_group_does_not_hold_the_judge_up() -> None:
    child = "subprocess.Popen(['sleep', '30'], start_new_session=True)"
    source = f"import subprocess\ndef f(x):\n    {child}\n    while True: pass"
    verdict = JUDGE.judge(problem(), source)
    assert verdict.status == Status.TIMEOUT and verdict.wall_seconds < 10


def test_a_harness_that_can_not_start_is_no_failure_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    assert JUDGE.judge(problem(), "def f(x):\n    return sorted(x)").status == Status.INFRA


def test_the_program_sees_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    source = "import os\ndef f(x):\n    assert 'SECRET_TOKEN' not in os.environ\n    return sorted(x)"
    assert JUDGE.judge(problem(), source).status == Status.PASSED


@pytest.mark.parametrize(("count", "ids"), [(4, ["0", "41", "82", "123"]), (None, None)])
def test_a_part_of_the_suite_is_always_the_same_and_spread_out(count: int | None, ids: list[str] | None) -> None:
    problems = [task.problem for task in humaneval.load()]
    chosen = [p.id.removeprefix("HumanEval/") for p in humaneval.evenly_spaced(problems, count)]
    assert chosen == (ids or [p.id.removeprefix("HumanEval/") for p in problems])


def test_sign_test_is_the_exact_binomial_one() -> None:
    # two-sided, p = 1/2: 2 * P(X <= min) under Binomial(gained + lost, 1/2), at most 1
    for gained, lost, p in [(0, 0, 1.0), (5, 0, 0.0625), (8, 2, 0.109375), (2, 8, 0.109375), (3, 3, 1.0)]:
        assert sign_test(gained, lost) == pytest.approx(p)


def test_wilson_interval_against_published_values() -> None:
    # Newcombe 1998, table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    for passed, n, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        assert wilson_interval(passed, n) == pytest.approx((low, high), abs=5e-5)
