"""The evaluation passes right programs, fails wrong ones, and counts honestly."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from app.evaluation import humaneval
from app.evaluation.stage import read_results, run_evaluation
from app.evaluation.statistics import sign_test, wilson_interval
from app.records import Draft, FinishReason, Judge, Problem, Sampling, Status, SuiteResult, Verdict
from app.runs import Run, read_json_lines
from app.sandbox.supervisor import Supervisor
from app.settings import EvaluationSettings, SandboxSettings


class ScriptedGenerator:
    """Draws what it is told to, draft by draft."""

    def __init__(self, texts: dict[str, str]) -> None:
        self._texts = texts

    def stream(self, requests: Sequence[Problem], sampling: Sampling, **_: str) -> Iterator[Draft]:
        for problem in requests:
            text = self._texts[problem.id]
            yield Draft(
                problem_id=problem.id,
                text=text,
                num_prompt_tokens=1,
                num_tokens=len(text),
                mean_logprob=-1.0,
                finish_reason=FinishReason.STOP,
                adapter="",
                seed=0,
            )


class BrokenJudge:
    """A sandbox that fails on some problems."""

    def __init__(self, broken: set[str]) -> None:
        self._broken = broken

    def judge_all(self, jobs: Iterable[tuple[Problem, Sequence[str]]]) -> Iterator[list[Verdict]]:
        for problem, _ in jobs:
            status = Status.INFRA if problem.id in self._broken else Status.PASSED
            yield [Verdict(problem_id=problem.id, status=status, detail="x", cpu_seconds=0, wall_seconds=0, tier="A")]


def run_with(tmp_path: Path, judge: Judge, texts: dict[str, str], count: int) -> tuple[Run, list[SuiteResult]]:
    run = Run(tmp_path)
    settings = EvaluationSettings(protocols=("completion",), num_problems=count)
    run_evaluation(run, settings, ScriptedGenerator(texts), judge)  # type: ignore[arg-type]
    return run, read_results(run, settings)


def test_a_result_counts_what_the_sandbox_says_of_each_draft(tmp_path: Path) -> None:
    tasks = {task.problem.id: task for task in humaneval.load()}
    chosen = humaneval.evenly_spaced([task.problem for task in tasks.values()], 4)
    texts = {problem.id: "\n" + tasks[problem.id].canonical_solution for problem in chosen}
    texts[chosen[0].id] = "\n    return None\n"
    texts[chosen[1].id] = "\n    while True: pass\n"
    with Supervisor(SandboxSettings(timeout_s=0.5)) as supervisor:
        run, (base, _) = run_with(tmp_path, supervisor, texts, 4)
        assert base.tiers == {supervisor.tier: 4}
    assert (base.num_passed, base.num_problems, base.num_masked, base.pass_at_1) == (2, 4, 0, 0.5)
    assert base.status_counts == {"wrong_answer": 1, "timeout": 1, "passed": 2}
    rows = read_json_lines(run.suite_samples(base.suite, "base"))
    assert [row["draft"]["problem_id"] for row in rows] == [problem.id for problem in chosen]


def test_what_the_sandbox_failed_on_is_left_out_and_counted(tmp_path: Path) -> None:
    problems = humaneval.evenly_spaced([task.problem for task in humaneval.load()], 4)
    texts = {problem.id: "" for problem in problems}
    _, (base, _) = run_with(tmp_path, BrokenJudge({problems[2].id}), texts, 4)
    assert (base.num_passed, base.num_problems, base.num_masked, base.pass_at_1) == (3, 3, 1, 1.0)
    with pytest.raises(RuntimeError, match="could be judged"):
        run_with(tmp_path / "all", BrokenJudge(set(texts)), texts, 4)


@pytest.mark.parametrize(("count", "ids"), [(4, ["0", "41", "82", "123"]), (None, None)])
def test_a_part_of_the_suite_is_always_the_same_and_spread_out(count: int | None, ids: list[str] | None) -> None:
    problems = [task.problem for task in humaneval.load()]
    chosen = [p.id.removeprefix("HumanEval/") for p in humaneval.evenly_spaced(problems, count)]
    assert chosen == (ids or [p.id.removeprefix("HumanEval/") for p in problems])


def test_sign_test_is_the_exact_binomial_one() -> None:
    # two-sided, p = 1/2: 2 * P(X <= min) under Binomial(gained + lost, 1/2), at most 1
    for gained, lost, p in [(0, 0, 1.0), (5, 0, 0.0625), (8, 2, 0.109375), (2, 8, 0.109375), (3, 3, 1.0)]:
        assert sign_test(gained, lost) == pytest.approx(p)


def test_wilson_interval_against_published_values() -> None:
    # Newcombe 1998, table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    for passed, n, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        assert wilson_interval(passed, n) == pytest.approx((low, high), abs=5e-5)
