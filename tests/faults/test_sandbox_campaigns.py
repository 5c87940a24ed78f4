"""What tests/unit tries on the sandbox's border in small counts, in large ones."""

import pytest

from tests.unit.corpus.mining.test_mutants import differing_mutants_of_humaneval, explained
from tests.unit.sandbox.test_wire import answer_with_random_frames, only_modules_of_judges  # noqa: F401


@pytest.mark.usefixtures("only_modules_of_judges")
@pytest.mark.timeout(1200)
def test_no_frame_of_a_hundred_thousand_makes_the_judge_raise_or_pass_a_wrong_answer() -> None:
    answer_with_random_frames(100_000)


@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
def test_four_mutants_of_each_problem_of_humaneval_get_the_official_verdict() -> None:
    assert differing_mutants_of_humaneval(4) == explained("HumanEval")
