"""Whether tests and program share a process is decided by the problem and its tests, and by nothing a program does."""

import dataclasses
from collections.abc import Iterator

import pytest

from app.evaluation.suites import humaneval
from app.records import IN_PROCESS, Status
from app.sandbox.splitting import needs_own_objects
from app.sandbox.supervisor import Supervisor
from tests.unit.sandbox.test_supervisor import SETTINGS, check, mbpp


@pytest.fixture(scope="module")
def supervisor() -> Iterator[Supervisor]:
    with Supervisor(SETTINGS) as made:
        yield made


FORGES = "import sys\nclass E:\n    def __eq__(s, o): return True\n    def __getattr__(s, n): return lambda *a: s\n"
HANDED_BACK = {
    "a type that is subscripted": ("r = candidate([3, 1])\nassert candidate(r[0]) == 5", "def f(x): return list\n"),
    "a type in an exception": (
        "try:\n    candidate(1)\nexcept Exception as e:\n    r = e.args[0][0]\nassert candidate(r) == 5",
        "def f(x): raise ValueError(list)\n",
    ),
    "an exception itself": (
        "try:\n    candidate(1)\nexcept Exception as e:\n    r = e\nassert candidate(r) == 5",
        "def f(x): raise ValueError(1)\n",
    ),
    "a generator": ("r = candidate(1)\nassert candidate(r) == 5", "def f(x): return (y for y in [x])\n"),
    "a generator in a list": ("r = candidate(1)\nassert candidate(r) == 5", "def f(x): return [iter([x]), iter([])]\n"),
    "a method of an answer": ("r = candidate(1)\nassert candidate(r.count) == 5", "def f(x): return [x]\n"),
    "an answer grown too large": (
        "r = candidate(1)\nassert candidate([r] * 50) == 5",
        "def f(x): return 'x' * 200_000\n",
    ),
    "an answer grown too deep": (
        "r = candidate(1)\nfor n in range(100): r = [r]\nassert candidate(r) == 5",
        "def f(x): return x\n",
    ),
    "an iterator of an answer": ("assert candidate(iter(candidate(1))) == 5", "def f(x): return [x]\n"),
    "a class for a function": ("assert candidate(1) == 5", "class f:\n    def __init__(s, x): pass\n"),
    "a class whose object equals all": ("assert candidate(1) == 5", FORGES + "def f(x): return E()\n"),
    "a function for a number": ("assert candidate(1) == 5", "def f(x): return f\n"),
}


@pytest.mark.parametrize("name", HANDED_BACK)
def test_what_a_program_answers_never_moves_it_into_the_tests_process(supervisor: Supervisor, name: str) -> None:
    tests, program = HANDED_BACK[name]
    verdict = supervisor.judge(check(*tests.splitlines()), program)
    assert verdict.status in (Status.RUNTIME_ERROR, Status.WRONG_ANSWER) and verdict.tier != IN_PROCESS, verdict
    assert verdict.reward == 0


LRU = """class LRU:
    def __init__(s, n): s.d = {}
    def put(s, k, v): s.d[k] = v
    def get(s, k): return s.d.get(k, -1)
"""
NEEDS_OBJECTS = {
    "methods": (check("c = candidate(2)", "c.put(1, 1)", "assert c.get(1) == 1", entry_point="LRU"), LRU),
    "a method at once": (check("assert candidate(2).put(1, 1) is None", entry_point="LRU"), LRU),
    "a class by its name": (mbpp("c = LRU(2)", "c.put(1, 2)", "assert c.get(1) == 2", entry_point="LRU"), LRU),
    "methods that lists have too": (
        check("c = candidate()", "c.append(1)", "assert c.pop() == 1", entry_point="Stack"),
        "class Stack(list): pass\n",
    ),
    "a class in the statement": (
        check("assert candidate(2) == candidate(2)", entry_point="Money", prompt="class Money:\n    ...\n"),
        "class Money:\n    def __init__(s, n): s.n = n\n    def __eq__(s, o): return s.n == o.n\n",
    ),
    "operators": (
        check("assert candidate(1) + candidate(2) == candidate(3)", entry_point="Money"),
        "class Money:\n    def __init__(s, n): s.n = n\n    def __eq__(s, o): return s.n == o.n\n"
        "    def __add__(s, o): return Money(s.n + o.n)\n",
    ),
    "its text": (
        check("assert str(candidate(1)) == 'one'", entry_point="Money"),
        "class Money:\n    def __init__(s, n): pass\n    def __str__(s): return 'one'\n",
    ),
    "several objects": (
        check("a, b = candidate(1), candidate(2)", "assert (a.d, b.d) == ({}, {})", entry_point="LRU"),
        LRU,
    ),
    "an attribute of an item": (
        check("for item in candidate([1]): assert item.value == 1"),
        "class V:\n    def __init__(s, v): s.value = v\ndef f(x): return [V(v) for v in x]\n",
    ),
    "a method of the class": (
        check("assert candidate.of(3) == 3", entry_point="Money"),
        "class Money:\n    @staticmethod\n    def of(n): return n\n",
    ),
    "a class derived from it": (
        check("class Mine(candidate): pass", "c = Mine(2)", "c.put(1, 1)", "assert c.get(1) == 1", entry_point="LRU"),
        LRU,
    ),
    "an attribute of one in a list": (
        check("found = [candidate(n) for n in (1, 2)]", "assert [c.d for c in found] == [{}, {}]", entry_point="LRU"),
        LRU,
    ),
    "an attribute of one in a dict": (
        check("found = {'a': candidate(1)}", "assert found['a'].d == {}", entry_point="LRU"),
        LRU,
    ),
    "an object that is kept as an attribute": (
        check("class T: pass", "T.c = candidate(1)", "assert T.c.d == {}", entry_point="LRU"),
        LRU,
    ),
    "a function that is returned": (
        check("add = candidate(2)", "assert add(3) == 5"),
        "def f(x): return lambda y: x + y\n",
    ),
    "a decorator": (
        check("@candidate", "def one(): return 1", "assert one() == 2"),
        "def f(g): return lambda: g() + 1\n",
    ),
    "a coroutine": (
        check("import asyncio", "async def main(): assert await candidate(1) == 2", "asyncio.run(main())"),
        "async def f(x): return x + 1\n",
    ),
    "a context manager": (
        check("with candidate(1) as v: assert v == 1"),
        "import contextlib\n@contextlib.contextmanager\ndef f(x): yield x\n",
    ),
    "a function as an argument, in the second call": (
        check("assert candidate(None) == 0", "assert candidate(lambda: 3) == 3"),
        "def f(g): return g() if g else 0\n",
    ),
    "an object of the tests": (
        check("class P:\n        x = 3", "assert candidate([]) == 0", "p = P()", "assert candidate([p]) == 3"),
        "def f(ps): return sum(p.x for p in ps)\n",
    ),
}


@pytest.mark.parametrize("name", NEEDS_OBJECTS)
def test_tests_that_need_the_programs_own_objects_run_in_its_process_without_a_reward(
    supervisor: Supervisor, name: str
) -> None:
    problem, program = NEEDS_OBJECTS[name]
    verdict = supervisor.judge(problem, program)
    assert (verdict.status, verdict.tier, verdict.reward) == (Status.PASSED, IN_PROCESS, None), verdict
    for other in ("raise", "def f(*a): raise KeyError\nLRU = Stack = Money = f\n", "f = 5\n", ""):
        verdict = supervisor.judge(problem, other)
        assert verdict.tier == IN_PROCESS and verdict.status != Status.PASSED, "the tier follows from the tests alone"


def test_plain_answers_are_never_taken_for_objects() -> None:
    for tests in (
        "r = candidate(1)\nr.sort()\nassert r[0].strip().upper() == r.pop().isoformat()",
        "r = candidate(1)\nr = object()\nassert r.no_such_attribute",
        "import math\nassert math.isclose(candidate(1), 2) and sorted(candidate(1), key=lambda v: -v)[0] == 1",
        "f = lambda v: v\nassert f(candidate(f(1))) == 1",
        "for n, want in ((1, 2), (2, 3)):\n    got = candidate(n)\n    assert got == want, got",
        "r = candidate(1)\nassert r.keys() and r.most_common() and r.numerator and r.send(None)",
    ):
        assert needs_own_objects(check(*tests.splitlines())) == ""
    assert not any(needs_own_objects(task.problem) for task in humaneval.load())
    named_like_a_class = dataclasses.replace(mbpp("assert Sum([1, 2]) == 3"), entry_point="Sum")
    assert needs_own_objects(named_like_a_class) == ""
