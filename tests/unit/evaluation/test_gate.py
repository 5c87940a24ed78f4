"""A training stage is kept only where validation problems show that it does no harm."""

from pathlib import Path

import pytest

from app.errors import UserError
from app.evaluation import gate
from app.evaluation.statistics import compare
from app.files.json_files import write_json
from app.profiles import PROFILES
from app.runs import Run
from app.settings import EvaluationSettings


def judged(better: int, worse: int, same: int) -> tuple[bool, str]:
    """For an adapter that newly solves `better` problems, no longer solves `worse`, and changes nothing elsewhere."""
    before = [0.0] * better + [1.0] * worse + [1.0] * same
    after = [1.0] * better + [0.0] * worse + [1.0] * same
    return gate.judge(compare(*({str(number): rate for number, rate in enumerate(rates)} for rates in (before, after))))


def test_an_adapter_that_solves_fewer_problems_is_not_kept() -> None:
    kept, reason = judged(2, 3, 995)
    assert not kept and reason.startswith("it solves fewer, -0.1 points (")


def test_an_adapter_that_solves_as_many_is_kept_only_where_the_problems_suffice_to_tell() -> None:
    assert judged(0, 0, 300) == (True, "+0.0 points (-1.0 to +1.0) on 300 validation problems, 0 better and 0 worse")
    kept, reason = judged(1, 1, 20)
    assert not kept and reason.startswith("too few problems to tell, +0.0 points (")
    assert judged(12, 2, 86)[0], "a clear gain on a hundred problems"
    assert not judged(15, 15, 70)[0], "as many on a hundred, but another 30 of them"


def test_without_a_common_problem_nothing_is_kept() -> None:
    assert gate.judge(compare({"a": 1.0}, {"b": 1.0})) == (False, "no validation problem was measured on both")


def test_a_decision_is_read_as_it_was_written_and_decides_what_is_served(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert gate.read_decision(run, "sft") is None
    write_json(run.sft_meta, {})
    assert run.adapters() == {"sft": run.sft_adapter}, "trained by its command alone"
    for kept in (False, True):
        comparison = {"num_problems": 9, "difference": 0.1, "interval_95": [-0.1, 0.2], "num_better": 2}
        comparison |= {"num_worse": 1, "p_value": 1.0, "detectable": None}
        decision = {"stage": "sft", "kept": kept, "reason": "r", "comparison": comparison, "suites": ["ours-chat"]}
        write_json(run.decision("sft"), decision)
        found = gate.read_decision(run, "sft")
        assert found and found.kept is kept and found.comparison and found.comparison.interval_95 == (-0.1, 0.2)
        assert run.adapters() == ({"sft": run.sft_adapter} if kept else {})
    write_json(run.decision("sft"), {"kept": True})
    with pytest.raises(UserError, match=r"decision\.json can't be read as a decision"):
        gate.read_decision(run, "sft")


@pytest.mark.parametrize("profile", PROFILES)
def test_no_profile_decides_by_a_test_suite(profile: str) -> None:
    gate.check(PROFILES[profile]().validation)


def test_a_test_suite_is_refused_as_a_judge_of_training() -> None:
    with pytest.raises(UserError, match=r"validation\.suites holds 'humaneval', a test suite: .* take of ours"):
        gate.check(EvaluationSettings(suites=("ours", "humaneval")))


def test_the_half_that_recipes_are_chosen_by_decides_nothing() -> None:
    gate.check(EvaluationSettings(suites=("ours", "mbpp_validation", "leetcode_validation")))
    with pytest.raises(UserError, match=r"validation\.suites holds 'leetcode_tuning'.* take the other, leetcode_valid"):
        gate.check(EvaluationSettings(suites=("mbpp_validation", "leetcode_tuning")))
