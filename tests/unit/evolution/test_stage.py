"""What the winner of evolution is measured again by."""

from dataclasses import replace

import pytest

from app.evolution.stage import _left_by_selection
from app.reward.drafts.asking import Asked
from tests.unit.evolution.test_boundary import around
from tests.unit.reward.letters import training_problem


@pytest.mark.parametrize(("taken", "left"), [(6, 4), (7, 0)])
def test_problems_that_chose_nobody_are_taken_if_they_are_half_as_many_as_the_others(taken: int, left: int) -> None:
    ruled = [Asked(problem=training_problem(name), text="", prompt_ids=()) for name in "abcdefghij"]
    surroundings = around()
    surroundings = replace(surroundings, ruler=replace(surroundings.ruler, problems=ruled[:taken]))
    assert _left_by_selection(ruled, surroundings) == ruled[taken:][:left]
