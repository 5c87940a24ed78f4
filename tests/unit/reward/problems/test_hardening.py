"""Further tests: wrong programs that pass the given tests fail them, right ones pass, and odd inputs are left out."""

import dataclasses
import re
from collections.abc import Iterator

import pytest

from app.problem_sets import own
from app.prompting.replies import code_block
from app.records import Status
from app.reward.problems.hardening import MAX_ADDED, Hardened, harden, hardened
from app.reward.records import TrainingProblem
from app.sandbox.supervisor import Supervisor
from app.sandbox.tiers import confinement
from app.settings import SandboxSettings
from tests.unit.reward.sources import (
    IMPORTS,
    LIST_NODE,
    SORTED,
    TREE_NODE,
    leetcode_problem,
    leetcode_row,
    mbpp_problem,
    mbpp_row,
)

SETTINGS = SandboxSettings(timeout_s=5, num_workers=1)
MARBLES = leetcode_row(
    "marbles",
    "def putMarbles(self, weights: List[int], k: int) -> int:",
    "sums = sorted(a + b for a, b in zip(weights, weights[1:]))\n"
    "return sum(sums[len(sums) - k + 1 :]) - sum(sums[: k - 1])",
    ["candidate(weights = [1,3,5,1], k = 2) == 4", "candidate(weights = [1, 3], k = 2) == 0"],
    meta={
        "difficulty": "Hard",
        "question_title": "...\n\nConstraints:\n\n1 <= k <= weights.length <= 105\n1 <= weights[i] <= 109\n",
    },
)
DIGITS = mbpp_row(
    845,
    "Write a python function to count the number of digits in factorial of a given number.",
    "import math\ndef find_Digits(n):\n    return len(str(math.factorial(n)))",
    ["assert find_Digits(7) == 4", "assert find_Digits(5) == 3", "assert find_Digits(4) == 2"],
)


@pytest.fixture(scope="module")
def supervisor() -> Iterator[Supervisor]:
    with Supervisor(SETTINGS) as made:
        yield made


def numbers(name: str, code: str, tests: list[str]) -> TrainingProblem:
    """A problem like MBPP's whose function is f."""
    return mbpp_problem(mbpp_row(700, name, code, [f"assert {test}" for test in tests]))


def status(supervisor: Supervisor, held: Hardened, program: str) -> tuple[str, str]:
    """Of a program on the given tests, and on all."""
    problem = held.problem
    return supervisor.judge(problem.given, program).status, supervisor.judge(problem.problem, program).status


def test_programs_that_pass_weak_tests_fail_further_ones(supervisor: Supervisor) -> None:
    """Both are mistakes that models make: a slice that is empty the wrong way round for k = 1, and a table of what the
    tests show."""
    marbles = harden(leetcode_problem(MARBLES), supervisor)
    wrong = MARBLES["completion"].replace("sums[len(sums) - k + 1 :]", "sums[-(k - 1) :]")
    assert wrong != MARBLES["completion"]
    assert status(supervisor, marbles, f"{IMPORTS}\n{wrong}") == (Status.PASSED, Status.WRONG_ANSWER)
    digits = harden(mbpp_problem(DIGITS), supervisor)
    shown = "def find_Digits(n):\n    return {7: 4, 5: 3}.get(n, 2)"
    assert status(supervisor, digits, shown) == (Status.PASSED, Status.WRONG_ANSWER)


@pytest.mark.parametrize("name", ["ours/digits/with-check-digit", "ours/lists/filled-row", "ours/lists/run-totals"])
def test_a_hasty_reading_that_passes_three_tests_fails_further_ones(name: str, supervisor: Supervisor) -> None:
    problem = next(problem for problem in own.read_problems() if problem.id == name)
    task = own.task_of(problem)
    head, check, body = task.problem.tests.partition("def check(candidate):\n")
    three = dataclasses.replace(task.problem, tests=head + check + "".join(body.splitlines(keepends=True)[:3]))
    whole = task.problem.prompt + task.canonical_solution
    given = TrainingProblem(suite="ours", given=three, problem=three, reference=whole, question=())
    held = harden(given, supervisor)
    assert len(held.added) >= 15 and all(line.startswith("assert same(candidate(") for line in held.added)
    wrong = task.problem.prompt + problem.wrong
    assert status(supervisor, held, wrong) == (Status.PASSED, Status.WRONG_ANSWER)
    assert status(supervisor, held, whole) == (Status.PASSED, Status.PASSED)


def test_the_given_tests_stay_and_the_same_further_ones_come_out_each_time(supervisor: Supervisor) -> None:
    problem = mbpp_problem(SORTED)
    first = harden(problem, supervisor)
    with Supervisor(SETTINGS) as other:
        assert harden(problem, other) == first
    assert 20 <= len(first.added) <= MAX_ADDED
    tests = first.problem.problem.tests
    assert tests == "\n".join([problem.given.tests, *first.added]) + "\n"
    assert first.problem.given == problem.given and first.problem.reference == problem.reference
    assert first.added[:2] == (
        "assert second(['b2', 'a3', 'b1']) == ['b1', 'b2', 'a3']",
        "assert second(['a4', 'b2']) == ['b2', 'a4']",
    ), "what is drawn has changed: hardened problems of other machines are not these"


def test_problems_come_back_in_their_order_from_all_cores() -> None:
    problems = [mbpp_problem(DIGITS), mbpp_problem(SORTED), leetcode_problem(MARBLES)]
    held = list(hardened(iter(problems), SETTINGS.model_copy(update={"num_workers": 2}), confinement()))
    assert [one.problem.given.id for one in held] == ["MBPP/845", "MBPP/640", "marbles"]
    assert all(one.added and not one.why_not for one in held)


def test_nodes_are_asked_for_as_the_given_tests_do(supervisor: Supervisor) -> None:
    row = leetcode_row(
        "reversed",
        "def turn(self, head: Optional[ListNode]) -> Optional[ListNode]:",
        "last = None\nwhile head:\n    head.next, last, head = last, head, head.next\nreturn last",
        [
            "is_same_list(candidate(head = list_node([1,2,3])), list_node([3,2,1]))",
            "is_same_list(candidate(head = list_node([5,4])), list_node([4,5]))",
            "is_same_list(candidate(head = list_node([])), list_node([]))",
        ],
        prompt=IMPORTS + LIST_NODE,
    )
    held = harden(leetcode_problem(row), supervisor)
    assert len(held.added) >= 10
    for line in held.added:
        assert re.fullmatch(r"assert is_same_list\(candidate\(head=list_node\(\[.*\]\)\), list_node\(\[.*\]\)\)", line)
    assert supervisor.judge(held.problem.problem, held.problem.reference).reward == 1
    wrong = held.problem.reference.replace("return last", "return last if not last or last.val < 6 else None")
    assert supervisor.judge(held.problem.given, wrong).status == Status.PASSED
    assert supervisor.judge(held.problem.problem, wrong).status == Status.WRONG_ANSWER


def test_a_search_tree_stays_one(supervisor: Supervisor) -> None:
    row = leetcode_row(
        "smallest",
        "def smallest(self, root: Optional[TreeNode], k: int) -> int:",
        "def walk(node):\n    return walk(node.left) + [node.val] + walk(node.right) if node else []\n"
        "return walk(root)[k - 1]",
        [
            "candidate(root = tree_node([3,1,4,None,2]), k = 1) == 1",
            "candidate(root = tree_node([5,3,6,2,4,None,None,1]), k = 3) == 3",
        ],
        prompt=IMPORTS + TREE_NODE,
    )
    held = harden(leetcode_problem(row), supervisor)
    assert len(held.added) >= 5
    sorts = held.problem.reference.replace("return walk(root)[", "return sorted(walk(root))[")
    assert sorts != held.problem.reference
    assert supervisor.judge(held.problem.problem, sorts).status == Status.PASSED, "a tree that is no search tree"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import random\ndef f(n):\n    return n + 1 if n < 9 else random.randrange(99)", "depends on chance"),
        ("import time\ndef f(n):\n    return n + 1 if n < 9 else time.perf_counter_ns()", "depends on chance"),
        ("def f(n):\n    return n + 1 if n < 9 else ord(list({str(n), 'a', 'b'})[0][0])", "depends on chance"),
        ("def f(n):\n    assert n < 9\n    return n + 1", "the reference raises"),
        ("def f(n):\n    while n > 8: pass\n    return n + 1", "takes too long"),
        ("def f(n):\n    return n + 1 if n < 9 else None", "of another kind"),
        ("def f(n):\n    return n + 1 if n < 9 else object()", "no plain answer"),
        ("def f(n):\n    return n + 1 if n < 9 else float('inf')", "no plain answer"),
    ],
)
def test_inputs_on_which_a_reference_says_nothing_sure_are_left_out(
    code: str, reason: str, supervisor: Supervisor
) -> None:
    held = harden(numbers("Add one.", code, ["f(8) == 9", "f(3) == 4", "f(5) == 6"]), supervisor)
    asked = [int(number) for line in held.added for number in re.findall(r"f\((\d+)\)", line)]
    assert asked and max(asked) < 9
    assert any(reason in why for why, _ in held.dropped)


def test_a_reference_that_fails_its_tests_leads_nowhere(supervisor: Supervisor) -> None:
    held = harden(numbers("Add one.", "def f(n):\n    return n + 2", ["f(8) == 9"]), supervisor)
    assert held.why_not.startswith("its reference gives something else than a given test expects")
    assert held.problem.problem == held.problem.given and not held.added


def test_a_reference_that_forges_its_answers_is_found_out(supervisor: Supervisor) -> None:
    forged = "def f(n):\n    import os\n    os.write(1, b'{\"number\": 0}\\n')\n    return n + 1"
    held = harden(numbers("Add one.", forged, ["f(8) == 9", "f(3) == 4"]), supervisor)
    assert "behind Python's back" in held.why_not and not held.added


def test_state_that_a_reference_keeps_between_calls_costs_its_inputs(supervisor: Supervisor) -> None:
    """The recorder's order of calls is not the judge's."""
    code = "SEEN = []\ndef f(n):\n    SEEN.append(n)\n    return n + (len(SEEN) > 6)"
    held = harden(numbers("Add.", code, ["f(8) == 8", "f(3) == 3", "f(5) == 5"]), supervisor)
    assert supervisor.judge(held.problem.problem, code).reward == 1


@pytest.mark.parametrize(
    ("statement", "is_open"),
    [
        ("Return the answer in any order.", True),
        ("If there are several, return any of them.", True),
        ("You can do the steps in any order. Return the least number.", False),
        ("If there are multiple answers, return the smallest.", False),
    ],
)
def test_where_several_answers_are_right_nothing_further_is_asked(
    statement: str, is_open: bool, supervisor: Supervisor
) -> None:
    held = harden(numbers(statement, "def f(n):\n    return n + 1", ["f(8) == 9", "f(3) == 4"]), supervisor)
    assert (held.why_not == "its statement allows several answers") == is_open
    assert bool(held.added) != is_open


def test_what_the_source_s_second_solution_does_not_confirm_is_left_out(supervisor: Supervisor) -> None:
    second = code_block(f"```python\n{IMPORTS}\n{MARBLES['completion']}```", "Solution")
    odd = second.replace("return sum(", "return -1 if len(weights) == 3 else sum(")
    alone = harden(leetcode_problem(MARBLES), supervisor)
    both = harden(leetcode_problem(MARBLES | {"second": odd}), supervisor)
    wrong = harden(leetcode_problem(MARBLES | {"second": odd.replace("sums[: k - 1]", "sums")}), supervisor)
    assert dict(both.dropped)["two solutions disagree"] >= 1
    assert any(_of_three(line) for line in alone.added) and not any(_of_three(line) for line in both.added)
    assert wrong.added == alone.added, "it does not pass the given tests itself"


def _of_three(line: str) -> bool:
    return re.search(r"weights=\[\d+, \d+, \d+\]", line) is not None


def test_floats_are_compared_nearly(supervisor: Supervisor) -> None:
    code = "def f(xs):\n    return [x / 3 for x in xs]"
    tests = ["f([3, 6]) == [1.0, 2.0]", "f([9]) == [3.0]"]
    held = harden(numbers("Divide.", code, tests), supervisor)
    assert held.added and all(line.startswith("assert is_close(f(") for line in held.added)
    other = "def f(xs):\n    return [x * (1 / 3) for x in xs]"
    assert supervisor.judge(held.problem.problem, other).status == Status.PASSED


def test_a_class_is_driven_by_its_set_up_and_enough_tests_are_enough(supervisor: Supervisor) -> None:
    task = next(task for task in own.tasks_of() if task.problem.setup and task.problem.split == "train")
    whole = task.problem.prompt + task.canonical_solution
    given = TrainingProblem(suite="ours", given=task.problem, problem=task.problem, reference=whole, question=())
    assert harden(given, supervisor).why_not == "it has tests enough"
    few = "\n".join(task.problem.tests.split("\n")[:-9]) + "\n"
    held = harden(dataclasses.replace(given, given=dataclasses.replace(task.problem, tests=few)), supervisor)
    assert held.added and supervisor.judge(held.problem.problem, whole).reward == 1


def test_other_comparisons_are_kept(supervisor: Supervisor) -> None:
    row = mbpp_row(
        701,
        "Return the letters.",
        "END = '.'\ndef f(text):\n    return list(text + END)",
        ["assert set(f('ab')) == {'a', 'b', '.'}", "assert set(f('abc')) == {'a', 'b', 'c', '.'}"],
    )
    held = harden(mbpp_problem(row), supervisor)
    assert held.added and all(re.match(r"assert set\(f\('.*'\)\) == \{", line) for line in held.added)
    other = "def f(text):\n    return sorted({*text, '.'}, reverse=True)"
    assert supervisor.judge(held.problem.problem, other).status == Status.PASSED
