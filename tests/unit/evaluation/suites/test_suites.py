"""The suites that come from files: what each loader makes of its rows, what is asked, and which program is judged.

The rows here are invented. The real files are tried where POCKETCODER_DATA names a folder that holds them:
mbpp/mbpp_sanitized.jsonl, leetcode/LeetCodeDataset-*.jsonl.gz, apps/apps_train_5.jsonl.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.errors import UserError
from app.evaluation.suites import apps, leetcode, mbpp
from app.evaluation.suites.apps import Apps, AppsCompetition, AppsIntroductory
from app.evaluation.suites.evalplus import HumanEvalPlus, MbppPlus
from app.evaluation.suites.leetcode import LeetCode
from app.evaluation.suites.mbpp import Mbpp, MbppSanitized
from app.evaluation.suites.suite import ProgramSuite
from app.records import UNTRUSTED_TIERS, ProblemStyle, Status
from app.sandbox.supervisor import Supervisor
from app.settings import SandboxSettings
from tests.suite_files import failing_references, real, statuses, written


@pytest.fixture(scope="module")
def supervisor() -> Iterator[Supervisor]:
    with Supervisor(SandboxSettings(timeout_s=3)) as made:
        yield made


def mbpp_row(task_id: int) -> dict[str, Any]:
    return {
        "task_id": task_id,
        "text": f"Write a function to add {task_id}.",
        "code": f"def add(x):\r\n  return x + {task_id}",
        "test_list": [f"assert add(1) == {task_id + 1}", f"assert add(0) == {task_id}"],
        "test_setup_code": "",
        "challenge_test_list": ["assert False"],
    }


def sanitized_row(task_id: int, code: str, tests: list[str]) -> dict[str, Any]:
    return {"task_id": task_id, "prompt": "Do it.", "code": code, "test_imports": ["import math"], "test_list": tests}


def test_mbpp_asks_with_the_assertions_and_judges_the_test_split(tmp_path: Path, supervisor: Supervisor) -> None:
    path = written(tmp_path / "mbpp.jsonl", [mbpp_row(number) for number in (1, 2, 3, 4, 10, 11, 510, 511, 601)])
    suite = Mbpp()
    tasks = suite.load(path)
    assert [task.problem.id for task in tasks] == ["MBPP/11", "MBPP/510"]
    problem = tasks[0].problem
    assert (problem.entry_point, problem.style, problem.split) == ("add", ProblemStyle.ASSERTIONS, "test")
    messages = suite.chat(problem, [])
    assert messages is not None and "add 11." in messages[0]["content"] and problem.tests in messages[0]["content"]
    assert "\r" not in tasks[0].canonical_solution
    reply = "Like so:\n```python\nassert add(1) == 12\n```\n```python\ndef add(x):\n    return x + 11\n```"
    programs = [suite.program(problem, "chat", reply), suite.given_program(problem, '"""Add."""\ndef add(x): return x')]
    assert statuses(supervisor, problem, programs) == [Status.PASSED, Status.WRONG_ANSWER]


def test_mbpps_completion_shows_three_examples_of_the_same_file(tmp_path: Path) -> None:
    suite = Mbpp()
    tasks = suite.load(written(tmp_path / "mbpp.jsonl", [mbpp_row(number) for number in (1, 2, 3, 4, 11)]))
    text = suite.completion(tasks[0].problem, [])
    assert text is not None and text.count("[BEGIN]\n") == text.count("[DONE]\n\n") == 3
    assert text.startswith(
        "You are an expert Python programmer, and here is your task: Write a function to add 2. Your"
    )
    assert text.endswith("assert add(0) == 11\n[BEGIN]")
    assert suite.stop == ("[DONE]",) and suite.program(tasks[0].problem, "completion", "\ndef add") == "\ndef add"
    alone = Mbpp()
    problem = alone.load(written(tmp_path / "test.jsonl", [mbpp_row(11)]))[0].problem
    assert alone.chat(problem, [])
    with pytest.raises(UserError, match="tasks 2, 3 and 4 first, and the file has 0 of them"):
        alone.completion(problem, [])


def test_sanitized_mbpp_has_other_fields_and_may_answer_with_a_match(tmp_path: Path, supervisor: Supervisor) -> None:
    match = "import re\ndef check_str(text):\n    return re.search('^a', text)\n"
    rows = [
        sanitized_row(20, "def area(r):\n    return math.pi * r", ["assert area(1) == math.pi"]),
        sanitized_row(787, match, ["assert check_str('ab')"]),
        sanitized_row(30, match, ["assert check_str('ab')", "assert not check_str('b')"]),
    ]
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, tmp_path / "sanitized.parquet")
    suite = MbppSanitized()
    tasks = suite.load(tmp_path / "sanitized.parquet")
    assert [task.problem.id for task in tasks] == ["MBPP/20", "MBPP/30"]
    programs = [suite.given_program(task.problem, "import math\n" + task.canonical_solution) for task in tasks]
    assert [supervisor.judge(t.problem, p).status for t, p in zip(tasks, programs, strict=True)] == ["passed"] * 2
    wrong = suite.given_program(tasks[1].problem, match.replace("'^a'", "'a|b'"))
    assert statuses(supervisor, tasks[1].problem, [wrong]) == [Status.WRONG_ANSWER]


@pytest.mark.parametrize("suite", [Mbpp(), MbppSanitized(), HumanEvalPlus(), MbppPlus(), Apps(), LeetCode()])
def test_a_file_of_another_form_is_refused_in_one_sentence(tmp_path: Path, suite: ProgramSuite) -> None:
    with pytest.raises(UserError) as caught:
        suite.load(written(tmp_path / "other.jsonl", [{"task_id": 11, "question": "?"}]))
    assert str(tmp_path) in str(caught.value) and "give" in str(caught.value) and "\n" not in str(caught.value)


def apps_row(problem_id: int, in_out: Any, **changes: Any) -> dict[str, Any]:
    return {
        "problem_id": problem_id,
        "question": f"Question {problem_id}?\n",
        "solutions": json.dumps(["pass"]),
        "input_output": json.dumps(in_out) if in_out else "",
        "difficulty": "interview",
        "starter_code": "",
    } | changes


@pytest.mark.parametrize(
    ("suite", "module", "files"),
    [
        (Mbpp(), mbpp, ["full/prompt-00000-of-00001.parquet", "full/test-00000-of-00001.parquet"]),
        (MbppSanitized(), mbpp, ["sanitized/prompt-00000-of-00001.parquet", "sanitized/test-00000-of-00001.parquet"]),
        (AppsCompetition(), apps, ["test.jsonl"]),
        (LeetCode(), leetcode, ["LeetCodeDataset-test.jsonl"]),
    ],
)
def test_without_a_path_the_hub_is_asked(
    monkeypatch: pytest.MonkeyPatch, suite: ProgramSuite, module: Any, files: list[str]
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(module, "hub_rows", lambda name, repository, file: asked.append(file) or [])
    with pytest.raises(UserError, match=f"^{module.HUB} holds no"):
        suite.load(None)
    assert asked == files


def test_apps_scripts_read_lines_and_print(tmp_path: Path, supervisor: Supervisor) -> None:
    in_out = {"inputs": ["1\n2\n", ["3", "4"]], "outputs": ["3\n", ["7"]]}
    suite = Apps()
    problem = suite.load(written(tmp_path / "apps.jsonl", [apps_row(7, in_out)]))[0].problem
    assert (problem.id, problem.style, problem.difficulty) == ("APPS/7", ProblemStyle.STDIO, "interview")
    assert json.loads(problem.tests) == [["1\n2\n", "3\n"], ["3\n4", "7"]]
    assert suite.text(problem) == "QUESTION:\nQuestion 7?\nUse Standard Input format\nANSWER:"
    assert "standard input" in suite.question(problem)
    reply = "Given\n```\n1\n2\n```\nit is\n```python\nprint(sum(int(input()) for _ in [0, 1]))\n```"
    programs = [suite.program(problem, "chat", reply), suite.given_program(problem, "print(ceil(2.5))")]
    assert statuses(supervisor, problem, programs) == [Status.PASSED, Status.WRONG_ANSWER]


@pytest.mark.parametrize(
    ("expected", "answer", "status"),
    [
        ([3], "3", "passed"),  # wrapped
        ([[1, 2]], "(1, 2)", "passed"),
        ([[[1, 2]]], "[(1, 2)]", "passed"),
        ([1, 2], "[1, 2]", "passed"),
        ({"1": 2}, "{1: 2}", "passed"),
        ([3], "4", "wrong_answer"),
        ([[1, 2]], "[2, 1]", "wrong_answer"),
    ],
)
def test_apps_functions_are_compared_as_the_harness_does(
    tmp_path: Path, supervisor: Supervisor, expected: Any, answer: str, status: str
) -> None:
    in_out = {"fn_name": "solve", "inputs": [[5, {"1": 1}]], "outputs": [expected]}
    row = apps_row(
        8, in_out, starter_code="class Solution:\n    def solve(self, n: int, d: Dict) -> List[int]:\n        "
    )
    suite = Apps()
    problem = suite.load(written(tmp_path / "apps.jsonl", [row]))[0].problem
    assert problem.style == ProblemStyle.CHECK
    assert suite.text(problem).endswith("-> List[int]:\nUse Call-Based format\nANSWER:")
    body = f"return {answer} if n == 5 else None"
    whole = f"class Solution:\n    def solve(self, n: int, d) -> List[int]:\n        {body}"
    programs = [suite.program(problem, "chat", f"```python\n{whole}\n```"), suite.given_program(problem, whole)]
    programs.append(suite.program(problem, "completion", f"\ndef solve(n, d):\n    {body}\n"))
    assert statuses(supervisor, problem, programs) == [status] * 3


def test_apps_without_readable_tests_are_counted_and_grades_kept_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    in_out = {"inputs": ["1"], "outputs": ["1"]}
    huge = '{"inputs": ["1"], "outputs": [' + "9" * 5000 + "]}"  # more digits than Python reads
    rows = [
        apps_row(0, in_out),
        apps_row(1, None),
        apps_row(2, in_out, difficulty="competition", solutions=""),
        apps_row(3, None, input_output=huge),
        apps_row(4, None, input_output=in_out, solutions=["pass"]),
    ]
    path = written(tmp_path / "apps.jsonl", rows)
    assert [task.problem.id for task in Apps().load(path)] == ["APPS/0", "APPS/2", "APPS/4"]
    assert "apps: 2 problems without readable tests left out" in capsys.readouterr().err
    assert [task.problem.id for task in AppsCompetition().load(path)] == ["APPS/2"]
    with pytest.raises(UserError, match="no problem of apps_introductory"):
        AppsIntroductory().load(path)


IMPORTS = "from typing import *\nfrom math import *\n"
NODES = IMPORTS + (
    "class ListNode:\n    def __init__(self, val=0, next=None):\n        self.val, self.next = val, next\n"
    "def list_node(values):\n    return ListNode(values[0], list_node(values[1:])) if values else None\n"
    "def is_same_list(a, b):\n    return a is b or (a and b and a.val == b.val and is_same_list(a.next, b.next))\n"
)


def leetcode_row(**changes: Any) -> dict[str, Any]:
    starter = "class Solution:\n    def least(self, nums: List[int]) -> int:\n"
    return {
        "task_id": "least",
        "prompt": IMPORTS,
        "query": "Find the least.\nQuickly.\n\nPlease complete the following python code precisely:\n"
        f"```python\n{starter}```",
        "entry_point": "Solution().least",
        "completion": starter + "        return min(nums)\n",
        "test": "def check(candidate):\n    assert candidate(nums = [2, 1]) == 1\n",
        "meta": {"difficulty": "Meidum"},
    } | changes


def test_leetcode_asks_in_its_own_words_and_keeps_the_imports(tmp_path: Path, supervisor: Supervisor) -> None:
    suite = LeetCode()
    task = suite.load(written(tmp_path / "leetcode.jsonl", [leetcode_row()]))[0]
    problem = task.problem
    assert (problem.id, problem.difficulty, problem.split) == ("least", "Medium", "test")
    assert suite.question(problem).startswith("Find the least.")
    assert suite.completion(problem, []) == (
        IMPORTS + "\n# Find the least.\n# Quickly.\nclass Solution:\n    def least(self, nums: List[int]) -> int:"
    )
    programs = [
        suite.given_program(problem, task.canonical_solution),
        suite.program(problem, "completion", "\n        return floor(min(nums))"),
        suite.program(problem, "chat", f"```python\n{task.canonical_solution}```"),
        suite.program(problem, "chat", "```python\nclass Solution:\n    def least(self, nums): return nums[0]\n```"),
    ]
    assert statuses(supervisor, problem, programs) == [Status.PASSED] * 3 + [Status.WRONG_ANSWER]
    later = leetcode_row(difficulty="Hard")  # version 0.3.1 has no meta
    del later["meta"]
    assert suite.load(written(tmp_path / "later.jsonl", [later]))[0].problem.difficulty == "Hard"


def test_nodes_cross_between_a_program_and_its_tests(tmp_path: Path, supervisor: Supervisor) -> None:
    test = (
        "def check(candidate):\n"
        "    assert is_same_list(candidate(head = list_node([1, 2, 3])), list_node([3, 2, 1]))\n"
        "    assert is_same_list(candidate(head = list_node([])), list_node([]))\n"
    )
    row = leetcode_row(prompt=NODES, test=test, entry_point="Solution().turn")
    suite = LeetCode()
    problem = suite.load(written(tmp_path / "leetcode.jsonl", [row]))[0].problem
    turn = "class Solution:\n    def turn(self, head):\n        last = None\n        while head:\n"
    right = turn + "            head.next, last, head = last, head, head.next\n        return last\n"
    endless = "class Solution:\n    def turn(self, head):\n        if head: head.next = head\n        return head\n"
    same = "class Solution:\n    def turn(self, head):\n        return head\n"
    verdicts = [supervisor.judge(problem, suite.given_program(problem, p)) for p in (right, endless, same)]
    assert [verdict.status for verdict in verdicts] == [Status.PASSED, Status.WRONG_ANSWER, Status.WRONG_ANSWER]
    assert not {verdict.tier for verdict in verdicts} & set(UNTRUSTED_TIERS)


def test_every_reference_of_sanitized_mbpp_passes() -> None:
    suite = MbppSanitized()
    tasks = suite.load(real("mbpp/mbpp_sanitized.jsonl"))
    assert len(tasks) == 257 and failing_references(suite, tasks, 20) == []
    text = suite.completion(tasks[0].problem, [])
    assert text is not None and text.count("[BEGIN]") == 4


@pytest.mark.parametrize(("split", "count", "broken"), [("test", 200, []), ("train", 1890, ["word-ladder-ii"])])
def test_the_references_of_leetcode_pass(split: str, count: int, broken: list[str]) -> None:
    pytest.importorskip("sortedcontainers", reason="13 of the references import it")
    suite = LeetCode()
    tasks = suite.load(real(f"leetcode/LeetCodeDataset-v0.2.0-{split}.jsonl.gz"))
    assert set(Counter(task.problem.difficulty for task in tasks)) == {"Easy", "Medium", "Hard"}
    assert len(tasks) == count and failing_references(suite, tasks, 20) == broken


def test_the_solutions_of_apps_pass_and_wrong_ones_fail(supervisor: Supervisor) -> None:
    path, suite = real("apps/apps_train_5.jsonl"), Apps()
    tasks = suite.load(path)
    assert [task.problem.style for task in tasks].count(ProblemStyle.STDIO) == 3
    for task, row in zip(tasks, map(json.loads, path.read_text().splitlines()), strict=True):
        solutions = [solution for solution in row["solutions"] if "def main" in solution or "return" not in solution]
        solutions = solutions or row["solutions"]
        programs = [suite.given_program(task.problem, solution) for solution in solutions]
        assert set(statuses(supervisor, task.problem, programs)) == {Status.PASSED}, task.problem.id
        name = task.problem.entry_point
        more = f"\nright = {name}\ndef {name}(*args): return [right(*args), 0]\n" if name else ""
        wrong = [program + more if name else f"print(0)\n{program}" for program in programs]
        assert Status.PASSED not in statuses(supervisor, task.problem, wrong), task.problem.id
