"""Scoring samples that somebody else drew: right counts, honest intervals, one sentence for a bad file."""

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app.errors import UserError
from app.evaluation.scoring import Samples, as_json, score
from app.evaluation.suites import humaneval
from app.evaluation.suites.humaneval import HumanEval
from app.evaluation.suites.registry import get_suite
from app.records import Problem
from app.sandbox.local import LocalJudges
from app.sandbox.tiers import confinement
from app.settings import SandboxSettings
from tests.conftest import Cli

TASKS = humaneval.load()[:4]


@pytest.fixture(scope="module")
def judges() -> Iterator[LocalJudges]:
    with closing(LocalJudges(SandboxSettings(timeout_s=1), confinement())) as made:
        yield made


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def scored(path: Path, judges: LocalJudges) -> dict[str, Any]:
    samples = Samples(path, HumanEval(), TASKS)
    return as_json(score(HumanEval(), TASKS, samples, judges)[0], samples.num_missing)


def test_completions_and_solutions_several_a_problem_are_counted(tmp_path: Path, judges: LocalJudges) -> None:
    rows = []
    for number, task in enumerate(TASKS[:3]):
        right, wrong = task.canonical_solution, "    return None\n"
        rows += [{"task_id": task.problem.id, "completion": right if n < number else wrong} for n in range(2)]
    rows.append({"task_id": TASKS[2].problem.id, "solution": TASKS[2].problem.prompt + TASKS[2].canonical_solution})
    result = scored(write(tmp_path / "samples.jsonl", rows[::-1]), judges)  # in any order
    assert (result["problems"], result["problems_without_samples"]) == (3, 1)
    assert (result["samples"], result["passed"]) == (7, 4)
    assert result["status_counts"] == {"wrong_answer": 3, "passed": 4}
    assert result["pass@1"] == pytest.approx((0 + 1 / 2 + 1) / 3)
    low, high = result["pass@1_interval_95"]
    assert 0 <= low < result["pass@1"] < high <= 1
    assert result["tier"] == confinement().tier and "pass@10" not in result


def test_a_line_separator_inside_a_program_ends_no_line(tmp_path: Path, judges: LocalJudges) -> None:
    task = TASKS[0]
    source = "    '\u2028\x85\u2029'\n" + task.canonical_solution
    path = tmp_path / "samples.jsonl"
    path.write_text(json.dumps({"task_id": task.problem.id, "completion": source}, ensure_ascii=False), "utf-8")
    assert scored(path, judges)["passed"] == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "line 1 is no JSON"),
        ('{"completion": "x"}', "line 1 is no sample"),
        ('{"task_id": "HumanEval/0", "completion": 5}', "line 1 is no sample"),
        ('\n{"task_id": "HumanEval/999", "completion": ""}', "line 2: humaneval has no task_id 'HumanEval/999'"),
        ("", "holds no sample"),
    ],
)
def test_a_file_that_holds_no_samples_gets_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=says):
        Samples(path, HumanEval(), TASKS)


def test_a_suite_that_does_not_exist_or_lacks_its_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'humaneval'"):
        get_suite("humanevl")
    with pytest.raises(UserError, match="can't be read as MBPP"):
        get_suite("mbpp").load(write(tmp_path / "mbpp.jsonl", [{"task_id": 11}]))


def test_the_command_scores_a_file(cli: Cli, tmp_path: Path) -> None:
    rows = [{"task_id": task.problem.id, "completion": task.canonical_solution} for task in TASKS]
    done = cli("evaluate", "--suite", "humaneval", "--samples", str(write(tmp_path / "s.jsonl", rows)), "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["suite"], result["problems"], result["passed"], result["pass@1"]) == ("humaneval", 4, 4, 1.0)
    worse = [rows[0] | {"completion": "    return None"}, *rows[1:]]
    against = write(tmp_path / "worse.jsonl", worse)
    done = cli("evaluate", "--samples", str(tmp_path / "s.jsonl"), "--against", str(against), "--json")
    compared = json.loads(done.stdout)["comparison"]
    assert (compared["num_problems"], compared["num_better"], compared["num_worse"]) == (4, 1, 0)
    assert compared["difference"] == 0.25 and compared["p_value"] == 1.0
    told = cli("evaluate", "--samples", str(tmp_path / "s.jsonl"), "--against", str(against)).stdout
    assert "difference +25.0 points (95 %:" in told and "over 4 problems" in told


def test_solutions_get_what_the_suites_own_harness_adds_to_them(tmp_path: Path, judges: LocalJudges) -> None:
    row = {"problem_id": 1, "question": "q", "solutions": "[]", "difficulty": "interview", "starter_code": ""}
    tests = {"fn_name": "area", "inputs": [[2]], "outputs": [4]}
    suite = get_suite("apps")
    tasks = suite.load(write(tmp_path / "apps.jsonl", [row | {"input_output": json.dumps(tests)}]))
    source = "class Solution:\n    def area(self, x):\n        return floor(x * x)\n"
    path = write(tmp_path / "s.jsonl", [{"task_id": "APPS/1", "solution": source}])
    assert score(suite, tasks, Samples(path, suite, tasks), judges)[0].num_passed == 1


def test_more_samples_of_a_problem_than_go_to_a_judge_at_once(tmp_path: Path, judges: LocalJudges) -> None:
    right, wrong = TASKS[0].canonical_solution, "    return None\n"
    rows = [{"task_id": "HumanEval/0", "completion": wrong if n % 10 else right} for n in range(110)]
    result = scored(write(tmp_path / "many.jsonl", rows), judges)
    assert (result["samples"], result["passed"], result["pass@1"]) == (110, 11, pytest.approx(0.1))
    assert result["pass@100"] == 1.0


def test_the_source_of_jobs_is_asked_while_verdicts_are_used(judges: LocalJudges) -> None:
    task, asked = TASKS[0], threading.Event()

    def jobs() -> Iterator[tuple[Problem, list[str]]]:
        yield task.problem, [task.problem.prompt + task.canonical_solution]
        asked.set()
        yield task.problem, ["("]

    verdicts = judges.judge_all(jobs())
    assert next(verdicts)[0].status == "passed"
    assert asked.wait(10), "while the first verdict is in use"
    assert [v.status for (v,) in verdicts] == ["load_error"]


def test_a_source_of_jobs_that_fails_is_heard_after_its_verdicts(judges: LocalJudges) -> None:
    def jobs() -> Iterator[tuple[Problem, list[str]]]:
        yield TASKS[0].problem, [""]
        raise ZeroDivisionError("of the source")

    seen = []
    with pytest.raises(ZeroDivisionError):
        for verdicts in judges.judge_all(jobs()):
            seen.append(verdicts)
    assert len(seen) == 1
