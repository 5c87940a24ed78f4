"""Scoring samples that somebody else drew: right counts, honest intervals, one sentence for a bad file."""

import itertools
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from app.errors import UserError
from app.evaluation import humaneval
from app.evaluation.scoring import read_samples, score
from app.evaluation.statistics import bootstrap_interval, pass_at_k
from app.evaluation.suites import load_suite
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


def test_completions_and_solutions_several_a_problem_are_counted(tmp_path: Path, judges: LocalJudges) -> None:
    rows = []
    for number, task in enumerate(TASKS[:3]):
        right, wrong = task.canonical_solution, "    return None\n"
        rows += [{"task_id": task.problem.id, "completion": right if n < number else wrong} for n in range(2)]
    rows.append({"task_id": TASKS[2].problem.id, "solution": TASKS[2].problem.prompt + TASKS[2].canonical_solution})
    programs = read_samples(write(tmp_path / "samples.jsonl", rows[::-1]), TASKS)  # in any order
    result = score("humaneval", TASKS, programs, judges)
    assert (result["problems"], result["problems_without_samples"]) == (3, 1)
    assert (result["samples"], result["passed"]) == (7, 4)
    assert result["status_counts"] == {"wrong_answer": 3, "passed": 4}
    assert result["pass@1"] == pytest.approx((0 + 1 / 2 + 1) / 3)
    low, high = result["pass@1_interval_95"]
    assert 0 <= low < result["pass@1"] < high <= 1
    assert result["tier"] == confinement().tier and "pass@10" not in result


def test_pass_at_k_is_the_mean_over_all_choices_of_k_samples() -> None:
    for n, c, k in [(5, 2, 1), (5, 2, 3), (6, 0, 2), (6, 6, 4), (4, 3, 2)]:
        outcomes = [True] * c + [False] * (n - c)
        chosen = [any(choice) for choice in itertools.combinations(outcomes, k)]
        assert pass_at_k(n, c, k) == pytest.approx(sum(chosen) / len(chosen))


def test_the_bootstrap_interval_matches_the_normal_one_for_many_problems() -> None:
    values = [1.0] * 300 + [0.0] * 700
    low, high = bootstrap_interval(values)
    half = 1.96 * (0.3 * 0.7 / 1000) ** 0.5
    assert low == pytest.approx(0.3 - half, abs=0.003) and high == pytest.approx(0.3 + half, abs=0.003)
    assert bootstrap_interval(values) == (low, high), "seeded"


def test_a_line_separator_inside_a_program_ends_no_line(tmp_path: Path, judges: LocalJudges) -> None:
    task = TASKS[0]
    source = "    '\u2028\x85\u2029'\n" + task.canonical_solution
    path = tmp_path / "samples.jsonl"
    path.write_text(json.dumps({"task_id": task.problem.id, "completion": source}, ensure_ascii=False), "utf-8")
    assert score("humaneval", TASKS, read_samples(path, TASKS), judges)["passed"] == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "line 1 is no JSON"),
        ('{"completion": "x"}', "line 1 is no sample"),
        ('{"task_id": "HumanEval/0", "completion": 5}', "line 1 is no sample"),
        ('\n{"task_id": "HumanEval/999", "completion": ""}', "line 2: the suite has no task_id 'HumanEval/999'"),
        ("", "holds no sample"),
    ],
)
def test_a_file_that_holds_no_samples_gets_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=says):
        read_samples(path, TASKS)


def test_a_suite_that_does_not_exist_or_lacks_its_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'humaneval'"):
        load_suite("humanevl")
    with pytest.raises(UserError, match="mbpp needs --problems FILE"):
        load_suite("mbpp")
    with pytest.raises(UserError, match="can't be read as MBPP"):
        load_suite("mbpp", write(tmp_path / "mbpp.jsonl", [{"task_id": 11}]))


def test_the_command_scores_a_file(cli: Cli, tmp_path: Path) -> None:
    rows = [{"task_id": task.problem.id, "completion": task.canonical_solution} for task in TASKS]
    done = cli("evaluate", "--suite", "humaneval", "--samples", str(write(tmp_path / "s.jsonl", rows)), "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["suite"], result["problems"], result["passed"], result["pass@1"]) == ("humaneval", 4, 4, 1.0)
    assert cli("evaluate").returncode == 2
