"""Problems from training splits: only training ones, programs that pass, a side of the split each."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from app.corpus.clean.guard import guard_of
from app.corpus.mining.storage import ProveJob, prove_chunk, read_problems, write_problems
from app.corpus.mining.validation import failure_of
from app.corpus.recipes import SPLITS, Recipe, TaskSource
from app.corpus.records import SolvedProblem
from app.corpus.sources.task_files import given_problems, solved_problems, with_imports
from app.errors import UserError
from app.records import BenchmarkText, Status
from app.sandbox.supervisor import Supervisor
from app.settings import SandboxSettings
from tests.unit.corpus.builds import build_in

STARS = (
    "from typing import *\nfrom collections import *\nfrom operator import *\nfrom math import *\ninf = float('inf')\n"
)
LEETCODE = {
    "task_id": "two-sum-of-mine",
    "prompt": STARS,
    "completion": (
        "class Solution:\n    def best(self, nums: List[int]) -> float:\n        seen = Counter(nums)\n"
        "        return abs(max(seen, default=-inf))\n"
    ),
    "entry_point": "Solution().best",
    "test": (
        "def check(candidate):\n    assert candidate(nums = [2, 7]) == 7\n"
        "    assert candidate(nums = []) == float('inf')\n"
    ),
    "query": (
        "Give the largest.\n\nWrite `max`.\n \nPlease complete the following python code precisely:\n```python\n"
        "class Solution:\n    def best(self, nums: List[int]) -> float:\n```"
    ),
    "difficulty": "Meidum",
}
APPS = {
    "problem_id": 7,
    "question": "Say whether the number is even.",
    "solutions": json.dumps(["class Solution:\n    def even(self, n):\n        return gcd(n, 2) == 2\n"]),
    "input_output": json.dumps({"fn_name": "even", "inputs": [[4], [5]], "outputs": [[True], [False]]}),
    "difficulty": "interview",
    "starter_code": "class Solution:\n    def even(self, n):\n",
}


def mbpp_row(task_id: int) -> dict[str, Any]:
    return {
        "task_id": task_id,
        "text": "Write a function to double a number.",
        "code": "def double(x):\r\n  return x * 2",
        "test_list": ["assert double(2) == 4"],
        "test_setup_code": "",
        "challenge_test_list": [],
    }


def recipe_of(path: Path, kind: str, **settings: Any) -> Recipe:
    source = {"kind": kind, "path": str(path), **settings}
    return Recipe.model_validate({"name": "t", "sources": [source], "licences": {"allow_non_osi": True}})


def solved(path: Path, kind: str, rows: list[dict[str, Any]], **settings: Any) -> tuple[list[SolvedProblem], list[str]]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = recipe_of(path, kind, **settings)
    assert isinstance(recipe.sources[0], TaskSource)
    kept, rejected = solved_problems(recipe.sources[0], recipe, seed=0)
    return kept, [row.reason for row in rejected]


@pytest.mark.parametrize(
    ("kind", "row", "difficulty", "description"),
    [
        ("leetcode", LEETCODE, "medium", "Give the largest.\n\nWrite `max`."),
        ("mbpp_train", mbpp_row(601), "easy", "Write a function to double a number."),
        ("apps", APPS, "medium", "Say whether the number is even."),
    ],
)
def test_a_reference_becomes_a_program_that_passes_in_the_sandbox(
    tmp_path: Path, kind: str, row: dict[str, Any], difficulty: str, description: str
) -> None:
    ((one,), rejected) = solved(tmp_path / "train.jsonl", kind, [row])
    assert not rejected and one.bugs == () and one.origin.distribution == kind
    assert (one.problem.difficulty, one.description) == (difficulty, description)
    with Supervisor(SandboxSettings(timeout_s=3)) as judge:
        verdict = judge.judge(one.problem, one.solution)
        assert verdict.status == Status.PASSED, verdict.detail
        wrong = one.solution.replace("return", "return None and")
        assert judge.judge(one.problem, wrong).status == Status.WRONG_ANSWER, "the tests tell"


def test_given_problems_get_bugs_with_the_test_that_fails_and_lose_what_a_benchmark_holds(tmp_path: Path) -> None:
    more = LEETCODE | {"completion": LEETCODE["completion"].replace("-inf))", "-inf) + 0)")}
    ((kept,), _) = solved(tmp_path / "leetcode.jsonl", "leetcode", [more])
    ((held,), _) = solved(tmp_path / "mbpp.jsonl", "mbpp_train", [mbpp_row(601)])
    renamed = dataclasses.replace(kept.problem, id="leetcode/wrong")
    wrong = dataclasses.replace(kept, problem=renamed, solution=kept.solution.replace("return", "return 1 +"))
    benchmark = BenchmarkText(problem_id="b/1", entry_point="", text=held.problem.prompt + "\n" + held.solution)
    build = build_in(tmp_path, guard_of({"given": [benchmark]}))
    job = ProveJob(index=0, identity="one", build=build, given=[kept, held, wrong])
    prove_chunk(job)
    write_problems(build.problems, [job.part("checked")])
    (proved,) = [each for split in SPLITS for each in read_problems(build.problems, split)]
    assert proved == dataclasses.replace(kept, bugs=proved.bugs) and proved.bugs
    assert {bug.failure for bug in proved.bugs} >= {"assert candidate(nums=[2, 7]) == 7  # gives 8"}
    rejected = pq.read_table(job.part("rejected_problems")).to_pylist()
    assert [row["name"] for row in rejected] == [held.problem.id, wrong.problem.id]
    assert rejected[0]["reason"].startswith("no problem: benchmark") and "the original fails" in rejected[1]["reason"]


def test_the_failure_of_a_bug_is_found_where_statements_stand_between_the_tests(tmp_path: Path) -> None:
    ((one,), _) = solved(tmp_path / "mbpp.jsonl", "mbpp_train", [mbpp_row(601)])
    name = one.problem.entry_point
    tests = f"x = 2\nassert {name}(x) == 4\nx = 3\nassert {name}(x) == 6\n"
    problem = dataclasses.replace(one.problem, tests=tests)
    wrong = f"def {name}(n):\n    return 4\n"
    with Supervisor(SandboxSettings(timeout_s=3)) as judge:
        assert failure_of(problem, one.solution, judge) == ""
        assert failure_of(problem, wrong, judge) == f"assert {name}(x) == 6  # gives 4"


def test_only_the_imports_that_a_solution_needs_stay(tmp_path: Path) -> None:
    ((one,), _) = solved(tmp_path / "train.jsonl", "leetcode", [LEETCODE])
    head = one.solution.partition("class Solution")[0]
    assert head == "from collections import Counter\nfrom typing import List\n\n\ninf = float('inf')\n\n\n", (
        "and no abs"
    )


def test_helpers_bring_what_they_use_and_local_names_nothing() -> None:
    before = "from itertools import *\ndef pairwise(x):\n    a, b = tee(x)\n    next(b, None)\n    return zip(a, b)\n"
    code = "def steps(xs):\n    count = 0\n    return [b - a for a, b in pairwise(xs)], count\n"
    program = with_imports(before, code)
    assert (
        program.startswith("from itertools import tee\n\n\ndef pairwise") and "count\n\n" not in program.split("def")[0]
    )
    names: dict[str, Any] = {}
    exec(program, names)
    assert names["steps"]([1, 4, 6]) == ([3, 2], 0)


def test_a_data_file_can_not_make_the_build_import_a_module_of_its_choice(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "planted_module.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    row = LEETCODE | {"prompt": STARS + "from planted_module import *\n"}
    assert len(solved(tmp_path / "train.jsonl", "leetcode", [row])[0]) == 1


def test_only_mbpps_training_tasks_are_taken(tmp_path: Path) -> None:
    kept, _ = solved(tmp_path / "mbpp.jsonl", "mbpp_train", [mbpp_row(i) for i in (2, 11, 510, 511, 600, 601, 974)])
    assert [one.problem.id for one in kept] == ["MBPP/601", "MBPP/974"]


def test_a_file_named_as_a_test_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a test file by its name"):
        solved(tmp_path / "LeetCodeDataset-test.jsonl", "leetcode", [LEETCODE])


def test_problems_are_spread_over_the_split_by_id_and_patterns_choose_them(tmp_path: Path) -> None:
    rows = [mbpp_row(i) for i in range(601, 975)]
    kept, _ = solved(tmp_path / "mbpp.jsonl", "mbpp_train", rows, exclude=["MBPP/6*"])
    splits = [one.problem.split for one in kept]
    assert len(kept) == 275 and {*splits} == {"train", "validation", "test"} and splits.count("train") > 220
    assert [one.problem.split for one in solved(tmp_path / "mbpp.jsonl", "mbpp_train", rows)[0]][99:] == splits


@pytest.mark.parametrize(
    ("kind", "change", "kind_of_reason"),
    [
        (
            "leetcode",
            {"test": "def check(f):\n    assert is_same_list(f(list_node([1])), list_node([1]))\n"},
            "linked nodes",
        ),
        ("leetcode", {"completion": "class Solution:\n    def f(self): print 'two'\n"}, "does not parse as Python 3"),
        ("apps", {"solutions": "[]"}, "no solution"),
    ],
)
def test_a_problem_that_is_left_out_has_its_reason(
    tmp_path: Path, kind: str, change: dict[str, str], kind_of_reason: str
) -> None:
    kept, reasons = solved(tmp_path / "train.jsonl", kind, [(APPS if kind == "apps" else LEETCODE) | change])
    assert not kept and [reason.partition(":")[0] for reason in reasons] == [kind_of_reason]


@pytest.mark.parametrize("kind", ["leetcode", "mbpp_train", "apps"])
def test_without_the_recipes_leave_they_are_for_evaluation_only(tmp_path: Path, kind: str) -> None:
    recipe = Recipe.model_validate({"name": "t", "sources": [{"kind": kind}]})
    assert isinstance(recipe.sources[0], TaskSource)
    with pytest.raises(UserError, match=rf"{kind} is for evaluation only .*licences.allow_non_osi: true"):
        solved_problems(recipe.sources[0], recipe, 0)


def test_a_broken_file_is_named_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "mbpp.jsonl"
    path.write_text('{"task_id": 601\n')
    recipe = recipe_of(path, "mbpp_train")
    assert isinstance(recipe.sources[0], TaskSource)
    with pytest.raises(UserError) as caught:
        solved_problems(recipe.sources[0], recipe, 0)
    assert str(path) in str(caught.value) and "line 1" in str(caught.value) and "--problems" not in str(caught.value)


def test_a_problem_that_is_given_twice_is_one_and_the_other_has_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "mbpp.jsonl"
    path.write_text("".join(json.dumps(mbpp_row(number)) + "\n" for number in (601, 602, 601)))
    recipe = recipe_of(path, "mbpp_train")
    twice = recipe.model_copy(update={"sources": (*recipe.sources, *recipe.sources)})
    for given, copies in ((recipe, 1), (twice, 4)):
        kept, refused = given_problems(given, 0)
        assert [each.problem.id for each in kept] == ["MBPP/601", "MBPP/602"]
        assert [each.reason for each in refused] == ["duplicate: its id was there before"] * copies
