"""Answers that the tests wrap or iterate over: views of dicts, generators, map, zip and their like."""

from collections.abc import Iterator

import pytest

from app.records import Status
from app.sandbox.iterators import MAX_BATCH, NUM_SINGLE, Lender, borrowed
from app.sandbox.supervisor import Supervisor
from tests.unit.sandbox.test_supervisor import SETTINGS, check


@pytest.fixture(scope="module")
def supervisor() -> Iterator[Supervisor]:
    with Supervisor(SETTINGS) as made:
        yield made


X = "[1, 2, 3]"
WRAPPED = {
    "set of keys": (f"assert set(candidate({X})) == {{1, 2, 3}}", "dict.fromkeys(x).keys()"),
    "keys equal a set": (f"assert candidate({X}) == {{1, 2, 3}}", "dict.fromkeys(x).keys()"),
    "sorted values": (f"assert sorted(candidate({X})) == [1, 2, 3]", "dict(enumerate(x)).values()"),
    "dict of items": (f"assert dict(candidate({X})) == {{1: 2, 2: 3, 3: 4}}", "{v: v + 1 for v in x}.items()"),
    "items of a Counter in a list": (
        "assert list(candidate('aab')) == [('a', 2), ('b', 1)]",
        "__import__('collections').Counter(x).items()",
    ),
    "views inside of an answer": (
        f"assert [list(v) for v in candidate({X})] == [[1, 2, 3], [0, 0, 0]]",
        "[dict.fromkeys(x, 0).keys(), dict.fromkeys(x, 0).values()]",
    ),
    "a proxy": (f"assert candidate({X}) == {{1: None, 2: None, 3: None}}", "type.__dict__['__dict__'] and P(x)"),
    "list of a map": (f"assert list(candidate({X})) == [1, 2, 3]", "map(int, x)"),
    "tuple of a filter": (f"assert tuple(candidate({X})) == (2, 3)", "filter(lambda v: v > 1, x)"),
    "dict of a zip": (f"assert dict(candidate({X})) == {{1: 1, 2: 2, 3: 3}}", "zip(x, x)"),
    "a loop over enumerate": (f"for n, v in candidate({X}): assert v == n + 1", "enumerate(x)"),
    "reversed": (f"assert list(candidate({X})) == [3, 2, 1]", "reversed(x)"),
    "iter": (f"assert sum(candidate({X})) == 6", "iter(x)"),
    "chain": (f"assert ''.join(map(str, candidate({X}))) == '123123'", "__import__('itertools').chain(x, x)"),
    "next": (f"r = candidate({X})\nassert next(r) == 1 and next(r) == 2", "iter(x)"),
    "next at the end": (f"assert next(candidate({X}), None) is None", "iter([])"),
    "twice": (f"r = candidate({X})\nassert list(r) == [1, 2, 3] and list(r) == []", "map(int, x)"),
    "five of an endless one": (
        f"import itertools\nassert list(itertools.islice(candidate({X}), 5)) == [3, 4, 5, 6, 7]",
        "__import__('itertools').count(max(x))",
    ),
    "four, where the fifth never comes": (
        f"r = candidate({X})\nassert [next(r) for _ in range(4)] == [0, 1, 2, 3]",
        "G()",
    ),
    "a pair of iterators": (
        f"odd, even = candidate({X})\nassert list(even) == [2] and list(odd) == [1, 3]",
        "((v for v in x if v % 2), (v for v in x if not v % 2))",
    ),
    "groups": (
        f"assert [(k, list(g)) for k, g in candidate({X})] == [(1, [1]), (0, [2]), (1, [3])]",
        "__import__('itertools').groupby(x, lambda v: v % 2)",
    ),
    "an iterator of its own class": (f"assert list(candidate({X})) == [1, 2, 3]", "Own(x)"),
    "what a generator returns": (
        f"def all_of(): return (yield from candidate({X}))\nr = all_of()\nassert next(r) == 0\n"
        "try:\n    r.send('sent')\n    assert False\nexcept StopIteration as e:\n    assert e.value == 'sent'",
        "echo()",
    ),
    "an exception after some items": (
        f"r, seen = candidate({X}), []\ntry:\n    for v in r: seen.append(v)\n    assert False\n"
        "except ZeroDivisionError:\n    assert len(seen) == 100",
        "(1 // (100 - n) for n in range(200))",
    ),
    "many": (
        f"assert list(candidate({X})) == [[n, str(n)] for n in range(20_000)]",
        "([n, str(n)] for n in range(20_000))",
    ),
    "long items": (
        f"assert [len(v) for v in candidate({X})] == [3_000_000] * 5",
        "('x' * 3_000_000 for _ in range(5))",
    ),
    "an array": (f"assert list(candidate({X})) == [1, 2, 3]", "__import__('array').array('i', x)"),
}
_HELPERS = """
from types import MappingProxyType
def P(x): return MappingProxyType(dict.fromkeys(x))
def G():
    yield from range(4)
    while True: pass
class Own:
    def __init__(self, x): self.x = list(x)
    def __iter__(self): return self
    def __next__(self):
        if not self.x: raise StopIteration
        return self.x.pop(0)
def echo(): return (yield 0)
"""


@pytest.mark.parametrize("name", WRAPPED)
def test_an_answer_that_the_tests_iterate_over_is_judged_by_its_items(supervisor: Supervisor, name: str) -> None:
    tests, answer = WRAPPED[name]
    problem = check(*tests.splitlines())
    verdict = supervisor.judge(problem, f"{_HELPERS}def f(x): return {answer}\n")
    assert verdict.status == Status.PASSED and verdict.reward == 1, verdict
    for wrong in ("iter([7])", "{7: 7}.items()", "[]", "7"):
        if not (name == "next at the end" and wrong == "7"):
            status = supervisor.judge(problem, f"def f(x): return {wrong}\n").status
            assert status in (Status.WRONG_ANSWER, Status.RUNTIME_ERROR), wrong


def test_an_iterator_equals_nothing_and_has_no_length_or_items(supervisor: Supervisor) -> None:
    generator = "def f(x): return (v for v in x)\n"
    for expression in ("candidate([1]) == [1]", "len(candidate([1])) == 1", "candidate([1])[0] == 1"):
        verdict = supervisor.judge(check(f"assert {expression}"), generator)
        assert verdict.status == Status.RUNTIME_ERROR and "generator is no plain data" in verdict.detail, verdict
    assert supervisor.judge(check("assert candidate([1]) != [1]"), generator).status == Status.PASSED
    assert supervisor.judge(check("assert list(candidate([1])) == [2]"), generator).status == Status.WRONG_ANSWER
    assert (
        supervisor.judge(check("assert candidate([1]) == [1]"), "def f(x): return {1: 1}.keys()").status
        == "wrong_answer"
    )


HOSTILE = {
    "an endless one": ("__import__('itertools').count()", "runtime_error timeout"),
    "an endless one of long items": ("__import__('itertools').repeat('x' * 1_000_000)", "memory timeout runtime_error"),
    "one that never gives": ("(1 for _ in iter(int, 1) if 0)", "timeout"),
    "one that ends the process": ("(__import__('os')._exit(0) for _ in [1])", "died"),
    "items that are no plain data": ("(f for _ in [1])", "runtime_error"),
    "iterators in iterators for ever": ("endless()", "runtime_error timeout memory"),
    "one that says it is equal": ("iter([Equal()])", "wrong_answer"),
    "one whose items say so": ("zip([Equal()], [Equal()])", "wrong_answer"),
}
_HARM = """
def endless():
    while True: yield endless()
class Equal:
    def __eq__(self, other): return True
    def __iter__(self): return self
    def __next__(self): return self
"""


@pytest.mark.parametrize("name", HOSTILE)
def test_an_iterator_made_to_do_harm_is_the_programs_failure(supervisor: Supervisor, name: str) -> None:
    answer, statuses = HOSTILE[name]
    problem = check("assert list(candidate([1])) == [1]")
    verdict = supervisor.judge(problem, f"{_HARM}def f(x): return {answer}\n")
    assert verdict.status in statuses.split(), verdict
    assert supervisor.judge(problem, "def f(x): return map(int, x)").status == Status.PASSED


def test_frames_that_no_lender_sends_break_the_protocol(supervisor: Supervisor) -> None:
    problem = check("assert list(candidate([1])) == [1]")
    send = "import json, os, struct\ndef send(m):\n    b = json.dumps(m).encode()\n"
    send += "    os.write(4, struct.pack('<I', len(b)) + b)\n"
    for answer in (
        {"ok": [], "end": False},
        {"ok": [1] * 5, "end": False},
        {"ok": [1], "end": 1},
        {"ok": {"iterator": [0, "map"]}, "end": True},
        {"ok": 5, "end": True},
    ):
        program = f"""{send}
class Lies:
    def __iter__(self): return self
    def __next__(self): send({{"id": 2, **{answer}}}); os._exit(0)
def f(x): return Lies()
"""
        assert supervisor.judge(problem, program).status == Status.PROTOCOL, answer
    for tree in ({"iterator": 5}, {"iterator": [0]}, {"iterator": ["0", "map"]}, [{"iterator": [0, "map", 1]}]):
        program = f'{send}def f(x): send({{"id": 1, "ok": {tree}}}); os._exit(0)\n'
        assert supervisor.judge(problem, program).status == Status.PROTOCOL, tree


def test_items_come_one_by_one_at_first_and_after_every_other_call() -> None:
    taken: list[int] = []
    lender = Lender()
    told = lender.to_json(number for number in range(10_000))
    disturbed = False

    def fetch(count: int, sent: object) -> tuple[list[int], bool, None]:
        taken.append(count)
        answer = lender.give({"next": told["iterator"][0], "count": count})
        return answer["ok"], answer["end"], answer["value"]

    items = borrowed(fetch, lambda: not disturbed)
    assert [next(items) for _ in range(NUM_SINGLE)] == list(range(NUM_SINGLE))
    assert taken == [1] * NUM_SINGLE
    assert [next(items) for _ in range(1000)] == list(range(NUM_SINGLE, NUM_SINGLE + 1000))
    assert max(taken) > 64
    disturbed = True
    rest = list(items)
    assert rest == list(range(NUM_SINGLE + 1000, 10_000)) and taken[-1] == 1 and max(taken) <= MAX_BATCH
