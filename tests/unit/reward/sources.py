"""Problems for the tests of hardening: rows as the data sets have them, and what becomes of them."""

from pathlib import Path
from typing import Any

from app.problem_sets import leetcode, mbpp
from app.reward.problems.find import load
from app.reward.records import TrainingProblem
from tests.suite_files import written

HEAD = 'def net_price(gross, rate):\n    """Return the price without a tax of `rate` percent, whole cents."""\n'
USER = {
    "id": "shop/1",
    "prompt": HEAD,
    "entry_point": "net_price",
    "tests": "assert net_price(119, 19) == 100\nassert net_price(0, 7) == 0",
    "licence": "MIT",
    "reference": f"{HEAD}    return gross * 100 // (100 + rate)\n",
}
TEXT = "Write a function that puts a mark before each crate that has a name."
CODE = "def marked_crates(crates, mark):\n    return [f'{mark}-{crate}' for crate in crates if crate]"
TESTS = ["assert marked_crates(['jam', ''], 'x') == ['x-jam']", "assert marked_crates([], 'y') == []"]
IMPORTS = "from typing import *\nfrom collections import *\n"
LIST_NODE = """
class ListNode:
    def __init__(self, val=0, next=None):
        self.val = val
        self.next = next

def list_node(values: list):
    if not values:
        return None
    head = ListNode(values[0])
    p = head
    for val in values[1:]:
        node = ListNode(val)
        p.next = node
        p = node
    return head

def is_same_list(p1, p2):
    if p1 is None and p2 is None:
        return True
    if not p1 or not p2:
        return False
    return p1.val == p2.val and is_same_list(p1.next, p2.next)
"""
TREE_NODE = """
class TreeNode:
    def __init__(self, val=0, left=None, right=None):
        self.val = val
        self.left = left
        self.right = right

def tree_node(values: list):
    if not values:
        return None
    root = TreeNode(values[0])
    i = 1
    queue = deque()
    queue.append(root)
    while queue:
        node = queue.popleft()
        if i < len(values) and values[i] is not None:
            node.left = TreeNode(values[i])
            queue.append(node.left)
        i += 1
        if i < len(values) and values[i] is not None:
            node.right = TreeNode(values[i])
            queue.append(node.right)
        i += 1
    return root

def is_same_tree(p, q):
    if not p and not q:
        return True
    if not p or not q or p.val != q.val:
        return False
    return is_same_tree(p.left, q.left) and is_same_tree(p.right, q.right)
"""


def leetcode_row(name: str, head: str, body: str, tests: list[str], **more: Any) -> dict[str, Any]:
    """head: of the method, such as "def longest(self, s: str) -> int:"; body: its lines, not indented."""
    method = head.partition("(")[0].removeprefix("def ")
    indented = "".join(f"        {line}\n" for line in body.splitlines())
    checks = "".join(f"    assert {test}\n" for test in tests)
    row = {
        "task_id": name,
        "prompt": IMPORTS,
        "completion": f"class Solution:\n    {head}\n{indented}",
        "entry_point": f"Solution().{method}",
        "test": f"def check(candidate):\n{checks}",
        "query": f"{more.pop('statement', 'Do it.')}\n```python\nclass Solution:\n    {head}\n```",
        "difficulty": "Easy",
    }
    return row | more


def mbpp_row(number: int, text: str, code: str, tests: list[str], setup: str = "") -> dict[str, Any]:
    return {"task_id": number, "text": text, "code": code, "test_list": tests, "test_setup_code": setup}


def learnt_from_mbpp(folder: Path, *rows: dict[str, Any]) -> list[TrainingProblem]:
    return load([f"mbpp={written(folder / 'mbpp.jsonl', list(rows))}"])


def leetcode_problem(row: dict[str, Any]) -> TrainingProblem:
    """One problem, without the draw of those for validation, which takes all of a small file."""
    (task,) = leetcode.tasks_of([row], "a test")
    from app.evaluation.suites.registry import get_suite

    suite = get_suite("leetcode")
    turns = suite.chat(task.problem, ())
    assert turns is not None
    return TrainingProblem(
        suite="leetcode",
        given=task.problem,
        problem=task.problem,
        reference=suite.whole_program(task.problem, task.canonical_solution),
        question=tuple(turns),
        constraints=leetcode.constraints_of(row),
        second=row.get("second", ""),
    )


def mbpp_problem(row: dict[str, Any]) -> TrainingProblem:
    (task,) = mbpp.tasks_of([row], "a test")
    question = {"role": "user", "content": task.problem.prompt}
    return TrainingProblem(
        suite="mbpp",
        given=task.problem,
        problem=task.problem,
        reference=task.canonical_solution,
        question=(question,),
    )


SORTED = mbpp_row(
    640,
    "Write a function to sort a list by its second digit.",
    "def second(words):\n    return sorted(words, key=lambda w: w[1:])",
    ["assert second(['a3', 'b1']) == ['b1', 'a3']", "assert second(['c5', 'a4', 'b2']) == ['b2', 'a4', 'c5']"],
)


def jsonl(folder: Path, *rows: dict[str, Any]) -> str:
    return str(written(folder / "own.jsonl", list(rows)))


def without_tests(**change: str) -> dict[str, str]:
    """A user's row whose drafts can't be judged."""
    kept = {name: value for name, value in USER.items() if name not in ("tests", "reference", "entry_point")}
    return kept | {"id": "shop/untested"} | change
