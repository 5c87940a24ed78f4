"""Problems for validation: drawn and halved by hash, without those that test suites hold as well.

The rows are invented; the real files are tried where POCKETCODER_DATA names the folder that holds them.
"""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from app.errors import UserError
from app.evaluation.suites.registry import NUM_PROBLEMS, get_suite
from app.evaluation.suites.splits import LEETCODE_VALIDATION, half_of, repeats_a_test_problem, with_leetcode_splits
from app.problem_sets import leetcode, mbpp
from app.problem_sets.problem_files import rows
from app.problem_sets.task import Task
from tests.suite_files import real, written

MBPP = "mbpp/mbpp.jsonl"
LEETCODE = "leetcode/LeetCodeDataset-v0.2.0-{}.jsonl.gz"
BOTH = [("mbpp", MBPP), ("leetcode", LEETCODE.format("train"))]


def mbpp_row(task: int, name: str, text: str, code: str) -> dict[str, Any]:
    row = {"task_id": task, "text": f"Write a function to {text}.", "code": f"def {name}(a):\n    {code}"}
    return row | {"test_list": [f"assert {name}([1]) == 1"], "test_setup_code": ""}


def leetcode_row(number: int) -> dict[str, Any]:
    name = f"moveLanterns{number}"
    starter = f"```python\nclass Solution:\n    def {name}(self):\n```"
    return {
        "task_id": f"move-lanterns-{number}",
        "prompt": "import math\n",
        "query": f"Move lantern {number} of the northern harbour.\n{starter}",
        "entry_point": f"Solution().{name}",
        "test": f"def check(candidate):\n    assert candidate() == {number}\n",
        "completion": f"class Solution:\n    def {name}(self):\n        return {number}\n",
        "difficulty": "Easy",
    }


def test_the_halves_are_what_a_hash_says_and_hold_each_problem_once(tmp_path: Path) -> None:
    numbers = range(511, 601)
    read = [mbpp_row(n, f"dock_{n}_boats", f"find berth {n} of pier {n + 1}", f"return {n}") for n in numbers]
    path = written(tmp_path / "mbpp.jsonl", [*read, mbpp_row(11, "dock", "find a pier", "return 0")])
    halves = {name: get_suite(f"mbpp_{name}").load(path) for name in ("validation", "tuning")}
    for name, tasks in halves.items():
        ids = [int(task.problem.id.removeprefix("MBPP/")) for task in tasks]
        bit = {"validation": 1, "tuning": 0}[name]
        assert ids == [n for n in numbers if hashlib.sha256(f"MBPP/{n}".encode()).digest()[7] % 2 == bit]
    assert sum(map(len, halves.values())) == 90 and min(map(len, halves.values())) > 30


def test_leetcode_sets_apart_four_hundred_of_its_training_problems(tmp_path: Path) -> None:
    path = written(tmp_path / "train.jsonl", [leetcode_row(number) for number in range(450)])
    tasks = with_leetcode_splits(leetcode.tasks_of(rows(path), "train"))
    apart = {task.problem.id for task in tasks if task.problem.split == "validation"}
    assert len(apart) == LEETCODE_VALIDATION and {t.problem.split for t in tasks} == {"validation", "train"}
    held = [task.problem.id for name in ("validation", "tuning") for task in get_suite(f"leetcode_{name}").load(path)]
    assert {*held} == apart and len(held) == len(apart)


def test_what_a_test_suite_holds_as_well_is_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [n for n in range(511, 601) if half_of(f"MBPP/{n}") == "validation"][:4]
    path = written(
        tmp_path / "mbpp.jsonl",
        [
            mbpp_row(ids[0], "remove_Occ", "mend the northern pier", "return 1"),
            mbpp_row(
                ids[1], "dock_boats", "find berths of the northern pier in the order of their boats", "return a[0]"
            ),
        ],
    )
    (kept,) = get_suite("mbpp_validation").load(path)
    assert kept.problem.entry_point == "dock_boats"
    assert "1 of 2 problems left out, because test suites hold the like" in capsys.readouterr().err
    path = written(path, [mbpp_row(ids[0], "remove_Occ", "mend the northern pier", "return 1")])
    with pytest.raises(
        UserError, match=r"holds no problem of mbpp_validation that is not in a test suite as well: giv"
    ):
        get_suite("mbpp_validation").load(path)
    path = written(path, [mbpp_row(11, "dock_boats", "mend the northern pier", "return 1")])
    with pytest.raises(UserError, match=r"holds none of MBPP's tasks 511 to 600: give mbpp\.jsonl"):
        get_suite("mbpp_validation").load(path)


def test_forms_of_words_that_a_source_repeats_make_no_problem_a_test_problem() -> None:
    """A statement in LeetCode's own words, with a beginning that many solutions have."""
    text = (
        "You are given a 0-indexed integer array nums of length n. Return an array answer of length n where answer[i] "
        "is the number of lanterns that the keeper of the northern harbour can see from boat i before the fog comes in."
    )
    row = leetcode_row(1) | {"query": text}
    row["completion"] = "class Solution:\n    def moveLanterns1(self):\n        ans = 0\n        n = len(nums)\n"
    row["completion"] += (
        "        for i, x in enumerate(nums):\n            ans += x * self.fog[i] - n\n        return ans\n"
    )
    (task,) = leetcode.tasks_of([row], "train")
    assert not repeats_a_test_problem(task)


@pytest.mark.parametrize(("source", "file"), BOTH)
@pytest.mark.parametrize("half", ["validation", "tuning"])
def test_the_real_halves_have_the_number_that_plans_go_by(source: str, file: str, half: str) -> None:
    name = f"{source}_{half}"
    assert len(get_suite(name).load(real(file))) == NUM_PROBLEMS[name]


@pytest.mark.parametrize(("source", "file"), [("mbpp", MBPP), ("leetcode", LEETCODE.format("test"))])
def test_every_real_test_problem_is_told(source: str, file: str) -> None:
    tasks: list[Task] = {"mbpp": mbpp, "leetcode": leetcode}[source].tasks_of(rows(real(file)), file)
    tested = [task for task in tasks if source == "leetcode" or task.problem.split == "test"]
    assert sum(map(repeats_a_test_problem, tested)) == len(tested)
