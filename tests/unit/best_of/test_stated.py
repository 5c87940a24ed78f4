"""The examples that a question states become tests of what it asks for, in the forms in which people write them."""

import pytest

from app.best_of.asked_function import asked_function
from app.best_of.programs import program_of
from app.best_of.stated import MAX_EXAMPLES, stated_in
from app.best_of.testing import trial_of
from tests.costs import takes_less_than

HEAD = "def f(xs, k):\n"
LEETCODE = "```python\nclass Solution:\n    def top(self, nums: List[int], k: int) -> List[int]:\n```"


def asserted(question: str) -> list[str]:
    stated = stated_in(question)
    assert stated is not None
    return [line.strip().removeprefix("assert ") for line in stated.problem.tests.splitlines()[1:]]


@pytest.mark.parametrize(
    ("example", "test"),
    [
        (">>> f([3, 1], 1)\n[3]", "candidate([3, 1], 1) == [3]"),
        (">>> f([3, 1], 1) == [3]", "candidate([3, 1], 1) == [3]"),
        ("assert f([3, 1], 1) == [3]", "candidate([3, 1], 1) == [3]"),
        ("assert sorted(f([3, 1],\n                1)) == [3]", "sorted(candidate([3, 1], 1)) == [3]"),
        ("assert f([3], 1) => [3]", "candidate([3], 1) == [3]"),
        ("f([3, 1], 1) => [3]", "candidate([3, 1], 1) == [3]"),
        ("f([3, 1], 1) ➞ [3]  # the largest", "candidate([3, 1], 1) == [3]"),
        ("* f([3, 1], 1) should return [3].", "candidate([3, 1], 1) == [3]"),
        ("e.g. `f([3, 1], 1)` returns `[3]`", "candidate([3, 1], 1) == [3]"),
        ("f([3, 1], 2) == 3 + 1 = 4", "candidate([3, 1], 2) == 4"),
        ("f([], 0) -> true", "candidate([], 0) == True"),
        ("f([], 0) == None", "candidate([], 0) == None"),
        ("f([1, 2], 2) => 1.5", "abs(candidate([1, 2], 2) - 1.5) <= 1e-06"),
        ("f([1], 3) => 0.3333", "abs(candidate([1], 3) - 0.3333) <= 5e-05"),
        ("`f([3, 1], 1)` gives `[3]`; see there.", "candidate([3, 1], 1) == [3]"),
        ("f([1, 2], 2) gives 1.5 or so", None),
        ("f([1, 2], 2) gives 1.5 apples", "abs(candidate([1, 2], 2) - 1.5) <= 1e-06"),
        ("For xs = [3, 1] and k = 1, the output should be [3].", None),
        ("For xs = [3, 1], k = 1, the output should be [3].", "candidate([3, 1], 1) == [3]"),
        ("Input: xs = [3, 1], k = 1\nOutput: [3]\nExplanation: 3 > 1", "candidate([3, 1], 1) == [3]"),
        ("Input: k = 1, xs = [3, 1]\nOutput: [3]", "candidate([3, 1], 1) == [3]"),
        ("**Input:** xs = [3, 1], k = 1\n**Output:** [3]", "candidate([3, 1], 1) == [3]"),
        ("Input: [3, 1], 1\nOutput: [3]", "candidate([3, 1], 1) == [3]"),
    ],
)
def test_an_example_is_read_in_each_form(example: str, test: str | None) -> None:
    assert asserted(f"Write it.\n```python\n{HEAD}```\n{example}\n") == ([test] if test else [])


@pytest.mark.parametrize(
    "line",
    [
        "f(xs, k) returns a list",
        "f(a) => False",
        "f([1], 2) raises ValueError",
        "f([3, 1], 1) == sorted(xs)",
        "f([1, 2) => 3",
        "def f([1], 2) -> 3",
        "g([1], 2) => 3",
        "Input: xs = [1], k = 2\nOutput: as above",
        "Input: [1, 2], 3, 4\nOutput: 5",
        "f([1], 2) returns 0 or 1",
        "f([1], 2) == 3 is wrong",
        "now f([1], 2) == 3, which is wrong",
        "not f([1], 2) == 3",
        "f([1], 2) is 1 less than f([2], 2)",
        "f([1], 2) is 4 at most",
        "f([1], 2) returns 1,000",
        "f([1], 2) => 3 5 7",
        "f([1], 2) returns . and ends",
        "assert await f([1], 2) == 3",
        "assert (yield f([1], 2)) == 3",
    ],
)
def test_a_line_that_is_no_example_gives_no_test(line: str) -> None:
    assert asserted(f"```python\n{HEAD}```\n{line}\n") == []


def test_the_function_is_found_in_code_in_prose_and_in_examples() -> None:
    expected = {
        f"Complete this.\n```python\n{HEAD}    pass\n```": "f",
        "Please write\n\ndef add(a: int,\n        b: int = 2) -> int:\n\nwhich adds.": "add",
        f"Solve it.\n{LEETCODE}": "Solution().top",
        "```python\ndef helper(x):\n    return x\n\ndef main_one(x):\n    '''Do it.'''\n```": "main_one",
        "Write is_even(n): is_even(4) -> True": "is_even",
        "Your code has to pass\nassert sum([1]) == 1": "sum",
    }
    for question, entry_point in expected.items():
        asked = asked_function(question)
        assert asked is not None and asked.entry_point == entry_point
    assert asked_function("What does zip do?") is None
    assert stated_in("Tell me a joke.") is None


def test_examples_of_a_method_are_called_by_place_in_the_heads_order() -> None:
    question = f"Take the k largest.\nExample 1:\n\nInput: k = 1, nums = [3,1]\nOutput: [3]\n\n{LEETCODE}"
    assert asserted(question) == ["candidate([3, 1], 1) == [3]"]


def test_a_static_method_has_all_its_parameters() -> None:
    asked = asked_function("class Solution:\n    @staticmethod\n    def top(nums, k):\n        pass")
    assert asked is not None and (asked.entry_point, asked.parameters) == ("Solution().top", ("nums", "k"))


def test_parameters_that_are_given_by_name_stay_named_in_further_inputs_too() -> None:
    stated = stated_in("def f(x, *, k=1):\n    pass\nInput: x = 1, k = 2\nOutput: 3\nInput: x = 5, k = 4\nOutput: 9")
    assert stated is not None and "candidate(1, k=2) == 3" in stated.problem.tests
    calls = trial_of(stated).calls
    assert len(calls) > 2 and all(len(call.args) == 1 and dict(call.kwargs).keys() == {"k"} for call in calls)
    swapped = stated_in("def f(a, b):\n    pass\nassert f(b=1, a='x') == 1\nassert f(b=2, a='y') == 2")
    assert swapped is not None
    assert all(isinstance(call.args[0], str) for call in trial_of(swapped).further)


def test_lists_that_are_written_for_linked_nodes_give_no_example() -> None:
    head = "```python\nclass Solution:\n    def turn(self, head: Optional[ListNode]) -> Optional[ListNode]:\n```"
    assert asserted(f"Input: head = [1,2]\nOutput: [2,1]\n{head}") == []


def test_a_program_gets_the_imports_that_contest_sites_take_for_granted() -> None:
    asked = asked_function(LEETCODE)
    assert asked is not None
    reply = (
        "```python\nclass Solution:\n    def top(self, nums: List[int], k: int) -> List[int]:\n        return nums\n```"
    )
    assert program_of(reply, asked).startswith("from typing import List\n\nclass Solution:")


@pytest.mark.parametrize(
    "text",
    [
        f"{HEAD}    pass\n" + "Input: \n" * 2500,
        f"{HEAD}    pass\n" + "f(" * 9000,
        f"{HEAD}    pass\n" + "f(1) => " * 2000 + "x",
        f"{HEAD}    pass\n" + ">>> f(1)\n" * 2000,
        f"{HEAD}    pass\n" + "For x = 1 " * 1900,
        "assert f(1) == (\n" + "(\n" * 9000,
        "```\n" * 5000,
        "def f(x:a" * 2000,
        f"{HEAD}    pass\n" + "Input1: 1, 2\nOutput1: b\n" * 800,
        'f(1, 2) == "a"' + " * 599" * 40,
        "assert f(" + "[" * 9 + "0" + "] * 599" * 9 + ", 2) == 1",
        f"{HEAD}    pass\nassert f([1], 2) == 3\nConstraints:\n1 <= k <= 9" + "^19" * 9,
        f"{HEAD}    pass\nassert f({[*range(99)]}, 2) == 3\nConstraints:\n1 <= xs[i]" + " * xs[i]" * 9,
    ],
    ids=range(13),
)
def test_a_hostile_question_costs_little(text: str) -> None:
    with takes_less_than(3):
        stated = stated_in(text)
        trial = trial_of(stated) if stated else None
    assert trial is None or trial.stated.num_examples <= MAX_EXAMPLES


@pytest.mark.parametrize(
    "line",
    [
        f"assert f({'1+' * 5000}1) == 1",
        f">>> f(a{'.b' * 5000})\n1",
        f">>> f(1)\n0x{'f' * 8000}",
        f"assert f(0x{'f' * 8000}) == 1",
        f"assert {'not ' * 5000}f(1)",
    ],
    ids=range(5),
)
def test_an_example_that_can_not_be_written_costs_itself_alone(line: str) -> None:
    assert asserted(f"assert f(2) == 3\n\n{line}") == ["candidate(2) == 3"]


@pytest.mark.parametrize("text", ["lambda(x) => 3", "with(a) == 3\nassert not(a)", "If f then if(x) return y"])
def test_a_keyword_is_no_function(text: str) -> None:
    assert asked_function(text) is None


def test_an_infinite_argument_is_judged_and_leads_to_no_further_input() -> None:
    stated = stated_in("assert f(float('inf')) == 2\nassert f(1) == float('inf')")
    assert stated is not None and stated.num_examples == 2
    assert [(seed.call.args, seed.answers) for seed in trial_of(stated).seeds] == [((1,), ())]


@pytest.mark.parametrize("line", ["n == 1/0", "1 <= n <= 0^-1", f"n <= {'1+' * 3000}1", f"n in {'(' * 3000}"])
def test_a_constraint_that_can_not_be_worked_out_is_passed_over(line: str) -> None:
    stated = stated_in(f"def f(n):\n    pass\nassert f(4) == 3\nassert f(5) == 4\nConstraints:\n{line}")
    assert stated is not None and trial_of(stated).further
