"""Solve rates count every draft whose verdict can be trusted."""

import pytest

from app.reward.drafts.solve_rates import band, bands, pass_at, rates
from tests.unit.reward.made_drafts import group


def test_all_drafts_with_a_trusted_verdict_count() -> None:
    drafts = [*group("+-+-", "b"), *group("+/-?!", "a"), *group("??", "c")]
    assert rates(drafts) == {"b": (2, 4), "a": (2, 3)}
    assert list(rates(drafts)) == ["b", "a"]


def test_bands_part_the_rates_at_quarters() -> None:
    found = {band(passed / 16) for passed in range(17)}
    assert found == {"0", "to 0.25", "to 0.5", "to 0.75", "to 1.0", "1"}
    assert [band(rate) for rate in (0, 1 / 16, 0.25, 5 / 16, 15 / 16, 1)] == [
        *("0", "to 0.25", "to 0.25", "to 0.5", "to 1.0", "1")
    ]
    assert bands([1, 0, 0.5, 0]) == {"0": 2, "to 0.5": 1, "1": 1}


def test_pass_at_k_is_unbiased_and_over_the_problems_that_have_k_drafts() -> None:
    found = rates([*group("+---", "a"), *group("----", "b"), *group("++", "c")])
    one, two, four = (pass_at(found, k) for k in (1, 2, 4))
    assert one and two and four
    assert one.value == pytest.approx((0.25 + 0 + 1) / 3) and one.num_problems == 3
    assert two.value == pytest.approx((0.5 + 0 + 1) / 3)
    assert four.value == 0.5 and four.num_problems == 2
    assert pass_at(found, 5) is None and pass_at({}, 1) is None
