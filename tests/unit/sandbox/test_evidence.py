"""What counts as evidence that a program is right: assertions that the tests reached, in whatever form they are."""

import ast
import textwrap
from collections.abc import Iterator

import pytest

from app.evaluation.suites import humaneval
from app.records import IN_PROCESS, Problem, Status
from app.sandbox.marks import mark_assertions
from app.sandbox.supervisor import Supervisor
from tests.unit.sandbox.test_supervisor import SETTINGS, check, mbpp

NEGATIVE = "def f(x):\n    if x < 0: raise ValueError('neg')\n    return x\n"
TAKES_ALL = "def f(x): return x\n"
RAISES_ALL = "def f(x): raise ValueError('neg')\n"
CRASHES = "def f(x):\n    if x == 1: return 1\n    raise KeyError(x)\n"
EXPECTS_ERROR = "try:\n    candidate(-1)\n    assert False, 'no error'\nexcept ValueError:\n    pass\n"


@pytest.fixture(scope="module")
def supervisor() -> Iterator[Supervisor]:
    with Supervisor(SETTINGS) as made:
        yield made


def body(source: str, **fields: str) -> Problem:
    return check(*textwrap.dedent(source).strip().splitlines(), **fields)


RIGHT_AND_WRONG = {
    "an expected exception after an assertion": ("assert candidate(1) == 1\n" + EXPECTS_ERROR, NEGATIVE, TAKES_ALL),
    "an expected exception and nothing else": (EXPECTS_ERROR, NEGATIVE, TAKES_ALL),
    "one expected exception of several": (
        "assert candidate(1) == 1\ntry:\n    candidate(-1)\n    raise AssertionError('none')\n"
        "except (TypeError, ValueError) as e:\n    assert 'neg' in str(e)",
        NEGATIVE,
        TAKES_ALL,
    ),
    "a broad except-clause after a guard": (
        "assert candidate(1) == 1\ntry:\n    candidate(-1)\n    assert False\nexcept Exception:\n    pass",
        NEGATIVE,
        TAKES_ALL,
    ),
    "a guard in the else-clause": (
        "try: candidate(-1)\nexcept ValueError: pass\nelse: assert False\nfinally: assert candidate(2) == 2",
        NEGATIVE,
        TAKES_ALL,
    ),
    "branches": (
        "r = candidate(4)\nif isinstance(r, float):\n    assert r == 4.0\nelse:\n    assert r == 4",
        "def f(x): return float(x)",
        "def f(x): return x + 0.5",
    ),
    "a loop without a turn": (
        "for n in range(candidate(0)):\n    assert False\nassert candidate(3) == 3",
        TAKES_ALL,
        "def f(x): return x + 1",
    ),
    "helpers, loops, comprehensions": (
        "def same(a, b):\n    assert a == b\n    return True\n"
        "assert all([same(candidate(n), n) for n in range(5)])\nfor n in (1, 2): same(candidate(n), n)",
        TAKES_ALL,
        "def f(x): return min(x, 3)",
    ),
    "an early return": (
        "if candidate(1) == 1:\n    assert candidate(2) == 2\n    return\nassert False",
        TAKES_ALL,
        CRASHES,
    ),
    "unittest": (
        "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n"
        "        self.assertEqual(candidate(1), 1)\n"
        "        with self.assertRaises(ValueError): candidate(-1)\n"
        "        self.assertRaises(ValueError, candidate, -2)\n"
        "unittest.TextTestRunner().run(unittest.defaultTestLoader.loadTestsFromTestCase(T))",
        NEGATIVE,
        TAKES_ALL,
    ),
    "a context manager of the tests": (
        "import contextlib\n@contextlib.contextmanager\ndef raises(kind):\n    try:\n        yield\n"
        "    except kind:\n        return\n    raise AssertionError('nothing raised')\n"
        "with raises(ValueError):\n    candidate(-1)",
        NEGATIVE,
        TAKES_ALL,
    ),
    "raised by hand": ("if candidate(2) != 2: raise Exception('wrong')", TAKES_ALL, "def f(x): return 0"),
    "raised by hand in the else-branch": (
        "if candidate(2) == 2:\n    pass\nelse:\n    raise AssertionError",
        TAKES_ALL,
        "def f(x): return 0",
    ),
    "either of two answers": (
        "try:\n    assert candidate(2) == 2\nexcept AssertionError:\n    assert candidate(2) == -2",
        "def f(x): return -x",
        "def f(x): return 0",
    ),
    "suppressed": (
        "import contextlib\nwith contextlib.suppress(ValueError): candidate(-1)\nassert candidate(1) == 1",
        NEGATIVE,
        "def f(x): raise KeyError",
    ),
}


@pytest.mark.parametrize("name", RIGHT_AND_WRONG)
def test_right_programs_pass_and_wrong_ones_fail_whatever_form_the_assertions_have(
    supervisor: Supervisor, name: str
) -> None:
    tests, right, wrong = RIGHT_AND_WRONG[name]
    verdict = supervisor.judge(body(tests), right)
    assert verdict.status == Status.PASSED and verdict.reward == 1, verdict
    assert supervisor.judge(body(tests), wrong).status in (Status.WRONG_ANSWER, Status.RUNTIME_ERROR)


HOLDS = "assert candidate(1) == 1"
EVASIONS = {
    "an assertion that fails in a try for everything": ("try: assert candidate(2) == 2\nexcept Exception: pass", "0"),
    "an assertion that fails in a bare try": ("try: assert candidate(2) == 2\nexcept: pass", "0"),
    "an assertion whose error is named and dropped": (
        "try: assert candidate(2) == 2\nexcept AssertionError: pass",
        "0",
    ),
    "an exception before the assertions of a try for everything": (
        "try:\n    r = candidate(2)\n    assert r == 2\nexcept Exception: pass",
        "1 // 0",
    ),
    "an exception that ends the check early": (
        "try:\n    assert candidate(1) == 1\n    assert candidate(2) == 2\nexcept Exception:\n    return",
        "1 // 0",
    ),
    "in a loop, after a right answer": (
        "for n in (1, 2):\n    try: assert candidate(n) == n\n    except Exception: continue",
        "1 // 0",
    ),
    "an answer that can't be compared": ("try: assert candidate(2) + 1 == 3\nexcept Exception: pass", "None"),
    "an exception that is suppressed": (
        "import contextlib\nwith contextlib.suppress(Exception):\n    assert candidate(2) == 2",
        "1 // 0",
    ),
    "SystemExit in a bare try": ("try: assert candidate(2) == 2\nexcept: pass", "exec('raise SystemExit(0)')"),
    "GeneratorExit in a bare try": ("try: assert candidate(2) == 2\nexcept: pass", "exec('raise GeneratorExit')"),
    "StopIteration ends a loop over map": (
        "for r, n in zip(map(candidate, (1, 2)), (1, 2)): assert r == n",
        "exec('raise StopIteration')",
    ),
    "StopIteration ends a list": ("assert list(map(candidate, (1, 2)))[:1] == [1]", "exec('raise StopIteration')"),
    "StopIteration inside of an assertion that is a call": (
        "import unittest\nt = unittest.TestCase()\nt.assertTrue(all(map(lambda n: candidate(n) == n, (2, 3))))",
        "exec('raise StopIteration')",
    ),
    "StopIteration before an exception that is expected": (
        "import unittest\nt = unittest.TestCase()\nfor r in map(candidate, (2,)): assert r == 2\n"
        "t.assertRaises(ZeroDivisionError, lambda: 1 / 0)",
        "exec('raise StopIteration')",
    ),
    "StopIteration before a thousand exceptions that are expected": (
        "for r in map(candidate, (2,)): assert r == 2\n"
        "for n in range(1100):\n    try: candidate(2)\n    except StopIteration: pass",
        "exec('raise StopIteration')",
    ),
    "IndexError ends a sequence": (
        "class S:\n    def __getitem__(s, n): return candidate((1, 2)[n])\nfor r, n in zip(S(), (1, 2)): assert r == n",
        "exec('raise IndexError')",
    ),
    "AttributeError is answered by a default": (
        "class P:\n    p = property(lambda s: candidate(2) == 2)\nassert getattr(P(), 'p', True)",
        "exec('raise AttributeError')",
    ),
    "an exception in a thread": (
        "import threading\ndef work(): assert candidate(2) == 2\n"
        "t = threading.Thread(target=work)\nt.start()\nt.join()",
        "1 // 0",
    ),
    "an exception that unittest reports to nobody": (
        "import unittest\nclass T(unittest.TestCase):\n    def runTest(self): self.assertEqual(candidate(2), 2)\n"
        "T().run(unittest.TestResult())",
        "1 // 0",
    ),
    "StopIteration in a generator": (
        "try:\n    for r in (candidate(n) for n in (1, 2)): assert r\nexcept Exception: pass",
        "exec('raise StopIteration')",
    ),
    "an exception that says it is an AssertionError": (
        "try: assert candidate(2) == 2\nexcept AssertionError: assert True",
        "exec('class AssertionError(Exception): pass\\nraise AssertionError')",
    ),
    "unittest's own report, which nobody reads": (
        "import unittest\nclass T(unittest.TestCase):\n    def runTest(self): self.assertEqual(candidate(2), 2)\n"
        "unittest.TextTestRunner().run(T())",
        "0",
    ),
    "the exit of a with": (
        "import unittest\nt = unittest.TestCase()\ntry:\n    with t.assertRaises(ValueError): candidate(2)\n"
        "except Exception: pass",
        "0",
    ),
    "a finally that returns": ("try:\n    assert candidate(2) == 2\nfinally:\n    return", "1 // 0"),
    "a finally that goes on": (
        "for n in (1, 2):\n    try: assert candidate(n) == n\n    finally: continue",
        "1 // 0",
    ),
    "a context manager that swallows": (
        "class S:\n    def __enter__(s): return s\n    def __exit__(s, *e): return True\n"
        "with S() as s, S():\n    assert candidate(2) == 2",
        "1 // 0",
    ),
    "a stack of context managers": (
        "import contextlib\nwith contextlib.ExitStack() as stack:\n"
        "    stack.enter_context(contextlib.suppress(Exception))\n    assert candidate(2) == 2",
        "1 // 0",
    ),
    "everything in a group": ("try: assert candidate(2) == 2\nexcept* Exception: pass", "1 // 0"),
    "a raise by hand that is swallowed": (
        "try:\n    if candidate(2) != 2: raise AssertionError\nexcept Exception: pass",
        "0",
    ),
}


@pytest.mark.parametrize("name", EVASIONS)
def test_a_program_can_not_get_round_an_assertion(supervisor: Supervisor, name: str) -> None:
    tests, answer = EVASIONS[name]
    problem = body(f"{HOLDS}\n{tests}")
    right = supervisor.judge(problem, TAKES_ALL)
    if "assertRaises" not in tests:
        assert right.status == Status.PASSED, right
    verdict = supervisor.judge(problem, f"def f(x): return 1 if x == 1 else {answer}\n")
    assert verdict.status in (Status.WRONG_ANSWER, Status.RUNTIME_ERROR), verdict


@pytest.mark.parametrize(
    "answer", ["object()", "f", "iter([f])", "'x' * 10_000_000", "[0] * 600_000", "{1: f}.values()"]
)
def test_an_answer_that_can_not_be_told_is_no_exception_that_tests_may_expect(
    supervisor: Supervisor, answer: str
) -> None:
    for kind in ("ValueError", "Exception", "BaseException"):
        tests = f"{HOLDS}\ntry:\n    list(candidate(-1))\n    assert False\nexcept {kind}:\n    pass"
        verdict = supervisor.judge(body(tests), f"def f(x): return 1 if x == 1 else {answer}\n")
        assert verdict.status == Status.RUNTIME_ERROR and "Error: " in verdict.detail, verdict
    changes = "def f(x):\n    if x == 1: return 1\n    x.append(f)\n"
    tests = f"{HOLDS}\ntry:\n    candidate([])\n    assert False\nexcept ValueError:\n    pass"
    assert supervisor.judge(body(tests), changes).status == Status.RUNTIME_ERROR


@pytest.mark.parametrize(
    ("tests", "program"),
    [
        ("try: candidate(-1)\nexcept ValueError: pass\nassert True", None),
        ("assert 1 == 1\ntry: candidate(-1)\nexcept ValueError: pass", RAISES_ALL),
        ("try: assert candidate(1) == 2\nexcept ValueError: pass", RAISES_ALL),
        ("try:\n    candidate(1)\n    assert False\nexcept Exception: pass", RAISES_ALL),
        ("for n in candidate(1): assert n", "def f(x): return []"),
    ],
)
def test_passing_needs_an_assertion_that_held_after_an_answer(
    supervisor: Supervisor, tests: str, program: str | None
) -> None:
    verdict = supervisor.judge(body(tests), program or RAISES_ALL)
    assert (verdict.status == Status.PASSED) == (program is None), verdict
    assert verdict.status != Status.INFRA


BROKEN = {
    "no assertion": ("candidate(1)", "no assertion"),
    "nothing": ("pass", "no assertion"),
    "only an expected exception without a guard": ("try: candidate(-1)\nexcept ValueError: pass", "no assertion"),
    "tests that nobody calls": ("def test_one(): assert candidate(1) == 1", "never call the program"),
    "an error before the first call": ("x = 1 / 0\nassert candidate(1) == x", "before they call the program"),
    "an assertion before the first call": ("assert 1 == 2\nassert candidate(1) == 1", "before they call the program"),
    "a part of a package that is not there": (
        "assert candidate(1) == 1\nimport os.nothing\nassert True",
        "No module named 'os.nothing'",
    ),
    "a module that is not there": ("assert candidate(1) == 1\nimport pytest\nassert True", "No module named 'pytest'"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_tests_that_no_program_can_pass_are_broken_and_said_to_be(supervisor: Supervisor, name: str) -> None:
    tests, sentence = BROKEN[name]
    retried = supervisor.num_infra
    for program in (TAKES_ALL, "def f(x): return 0"):
        verdict = supervisor.judge(body(tests), program)
        if "not there" not in name or program is TAKES_ALL:
            assert verdict.status == Status.INFRA and sentence in verdict.detail and verdict.reward is None, verdict
    assert supervisor.num_infra == retried, "a broken test stays so: it is not tried again"
    assert supervisor.judge(body(HOLDS), TAKES_ALL).status == Status.PASSED


@pytest.mark.parametrize(
    "program",
    [
        "def f(x): raise ModuleNotFoundError('no math', name='math')",
        "class E(ModuleNotFoundError): pass\ndef f(x): raise E('no math', name='math')",
        "def f(x):\n    yield 1\n    raise ModuleNotFoundError('no math', name='math')",
        "def f(x): import nothing.that.is_there",
        "def f(x): raise MemoryError",
        f"import os, struct\nb = b'[' * {(4 << 20) - 1}\ndef f(x): os.write(4, struct.pack('<I', len(b)) + b)",
    ],
)
def test_a_program_can_not_have_the_tests_called_broken(supervisor: Supervisor, program: str) -> None:
    tests = body("import math\nassert list(candidate(1)) == [1]")
    verdict = supervisor.judge(tests, program)
    assert verdict.status not in (Status.PASSED, Status.INFRA) and verdict.tier == supervisor.tier, verdict
    copied = body("import math, copy\ntry: candidate(1)\nexcept Exception as e: raise copy.copy(e)\nassert False")
    assert supervisor.judge(copied, program).status != Status.INFRA


def test_an_exception_that_the_tests_themselves_catch_is_no_evasion(supervisor: Supervisor) -> None:
    stops = "def f(x):\n    if x < 0: raise StopIteration\n    return x\n"
    for tests in (
        "import contextlib\nwith contextlib.suppress(StopIteration):\n    candidate(-1)\n    assert False",
        "import unittest\nunittest.TestCase().assertRaises(StopIteration, candidate, -1)",
        "import numpy\nnumpy.testing.assert_raises(StopIteration, candidate, -1)",
        "class E:\n    def __enter__(s): pass\n    def __exit__(s, k, *_): return k is StopIteration\n"
        "with E(): candidate(-1)",
        "def g():\n    try: candidate(-1)\n    finally: return 5\nassert g() == 5",
        "def g():\n    yield candidate(-1)\ntry:\n    list(g())\n    assert False\nexcept RuntimeError: pass",
    ):
        verdict = supervisor.judge(body(f"{HOLDS}\n{tests}"), stops)
        assert verdict.status == Status.PASSED, (tests, verdict)


def test_what_a_program_changes_in_a_module_of_the_tests_is_not_there_for_the_next(supervisor: Supervisor) -> None:
    tests = body("import keyword\nr = candidate(keyword.kwlist)\nassert r == 5")
    program = "def f(x):\n    if 'left' in x: return 5\n    x.append('left')\n    return 0\n"
    assert [supervisor.judge(tests, program).status for _ in range(3)] == [Status.WRONG_ANSWER] * 3


def test_tests_may_call_the_program_from_several_threads(supervisor: Supervisor) -> None:
    tests = body(
        "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(4) as pool:\n"
        "    answers = list(pool.map(candidate, range(50)))\nassert answers == list(range(50))"
    )
    assert supervisor.judge(tests, TAKES_ALL).status == Status.PASSED
    assert supervisor.judge(tests, "def f(x): return 0").status == Status.WRONG_ANSWER
    assert supervisor.judge(tests, "def f(x): return 1 // (x - 7)").status == Status.RUNTIME_ERROR


def test_tests_that_share_the_programs_process_have_the_same_rules(supervisor: Supervisor) -> None:
    program = "class Node:\n    def __init__(s, v): s.v = v\ndef f(x): return Node(x)\ndef value(n): return n.v\n"
    for tests, status in (
        ("try:\n    assert value(f(1)) == 1\nexcept ValueError: assert False", Status.PASSED),
        ("if f(1) is None: assert False\nelse: assert value(f(1)) == 1", Status.PASSED),
        ("try: assert value(f(1)) == 2\nexcept Exception: pass\nassert value(f(1)) == 1", Status.WRONG_ANSWER),
        ("try: value(g(1)); assert value(f(1)) == 2\nexcept Exception: pass\nassert value(f(1)) == 1", "wrong_answer"),
        ("for n in value(f([])): assert n", Status.WRONG_ANSWER),
    ):
        verdict = supervisor.judge(mbpp(*tests.splitlines()), program)
        assert (verdict.status, verdict.tier) == (status, IN_PROCESS), (tests, verdict)


def test_marks_change_no_line_and_leave_the_tests_what_they_are() -> None:
    sources = [task.problem.tests for task in humaneval.load()]
    sources += ["def check(candidate):\n" + textwrap.indent(tests, "    ") for tests, *_ in RIGHT_AND_WRONG.values()]
    sources.append("assert (1 ==\n  2), 'Grüße'; assert (x := 'ü')  # assert\nassert 'é', (yield_ := 1)\n")
    sources.append("try:\n    pass\nexcept:\n    for x in (): pass\ntry: pass\nexcept* (ValueError): assert 1,\\\n 2\n")
    for source in sources:
        marked, count = mark_assertions(source)
        assert count and marked.count("\n") == source.count("\n")
        assert _without_marks(marked) == ast.dump(ast.parse(source)), source


def _without_marks(source: str) -> str:
    class Unmark(ast.NodeTransformer):
        def visit_Call(self, node: ast.Call) -> ast.AST:
            self.generic_visit(node)
            if isinstance(node.func, ast.Name) and node.func.id.startswith("__"):
                if node.func.id == "__leaving__":
                    return ast.Constant(None)
                place = {"__assertion__": 1, "__came_back__": 2, "__context__": 1, "__branch__": 1}
                return node.args[place.get(node.func.id, 0)]
            return node

        def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
            self.generic_visit(node)
            if isinstance(node.type, ast.Name) and node.type.id == "BaseException":
                node.type = None
            return node

    return ast.dump(Unmark().visit(ast.parse(source)))
