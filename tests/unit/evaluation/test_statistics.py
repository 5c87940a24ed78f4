"""Intervals, tests and power against published values and against brute force."""

import itertools

import numpy as np
import pytest

from app.evaluation.statistics import (
    bootstrap_interval,
    compare,
    detectable_difference,
    errors_apart,
    normal_share_below,
    pass_at_k,
    score_interval,
    sign_test,
    wilson_interval,
)


def test_pass_at_k_is_the_mean_over_all_choices_of_k_samples() -> None:
    for n, c, k in [(5, 2, 1), (5, 2, 3), (6, 0, 2), (6, 6, 4), (4, 3, 2)]:
        outcomes = [True] * c + [False] * (n - c)
        chosen = [any(choice) for choice in itertools.combinations(outcomes, k)]
        assert pass_at_k(n, c, k) == pytest.approx(sum(chosen) / len(chosen))


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


def test_the_bootstrap_interval_matches_the_normal_one_for_many_problems() -> None:
    values = [1.0] * 300 + [0.0] * 700
    low, high = bootstrap_interval(values)
    half = 1.96 * (0.3 * 0.7 / 1000) ** 0.5
    assert low == pytest.approx(0.3 - half, abs=0.003) and high == pytest.approx(0.3 + half, abs=0.003)
    assert bootstrap_interval(values) == (low, high), "seeded"


def test_the_multinomial_bootstrap_is_the_one_over_single_problems() -> None:
    values = np.array([0.0, 0.25, 0.25, 0.5, 1.0, 1.0, 0.0, 0.75] * 5)
    random = np.random.default_rng(1)
    means = values[random.integers(len(values), size=(20_000, len(values)))].mean(axis=1)
    assert bootstrap_interval(values.tolist()) == pytest.approx(np.percentile(means, (2.5, 97.5)), abs=0.01)


def test_no_interval_claims_certainty() -> None:
    assert score_interval([0.0] * 164) == wilson_interval(0, 164)
    assert score_interval([1.0] * 3) == wilson_interval(3, 3)
    assert score_interval([0.5] * 3) == wilson_interval(1.5, 3)
    low, high = score_interval([1.0] * 7 + [0.0] * 157)
    assert low < 7 / 164 < high


@pytest.mark.parametrize(
    ("problems", "discordance"), [(164, 0.1), (500, 0.1), (1000, 0.3), (164, 1 / 164), (164, 0.0), (40, 0.1)]
)
def test_the_detectable_difference_is_detected_four_times_in_five(problems: int, discordance: float) -> None:
    difference = detectable_difference(problems, discordance)
    assert difference is not None
    share = max(discordance, difference)
    shares = [(share + difference) / 2, (share - difference) / 2, 1 - share]
    draws = np.random.default_rng(0).multinomial(problems, shares, size=3000)
    detected = np.mean([sign_test(int(better), int(worse)) < 0.05 for better, worse, _ in draws])
    assert detected == pytest.approx(0.8, abs=0.08)  # the exact test is a little stricter than the formula


def test_a_suite_that_is_too_small_can_show_nothing() -> None:
    assert detectable_difference(5, 0.1) is None, "five of five better is p = 0.06"
    assert (detectable_difference(6, 0.1) or 0) > 0.8


@pytest.mark.parametrize("better", [0, 1, 5])
def test_few_changes_are_no_certainty(better: int) -> None:
    base = {str(n): 0.0 for n in range(164)}
    found = compare(base, base | {str(n): 1.0 for n in range(better)})
    assert found is not None and found.p_value > 0.05
    assert found.interval_95[0] <= 0 < found.interval_95[1], "as the sign test says"


def test_a_comparison_is_over_the_common_problems() -> None:
    base = {"a": 0.0, "b": 1.0, "c": 0.5, "only here": 1.0}
    found = compare(base, {"c": 0.5, "b": 0.0, "a": 1.0, "d": 1.0})
    assert found is not None
    assert (found.num_problems, found.num_better, found.num_worse, found.difference) == (3, 1, 1, 0.0)
    assert found.interval_95[0] < 0 < found.interval_95[1] and found.p_value == 1.0
    assert compare(base, {"z": 1.0}) is None


def test_a_clear_gain_is_significant_and_its_interval_excludes_zero() -> None:
    base = {str(n): 0.0 for n in range(100)}
    found = compare(base, base | {str(n): 1.0 for n in range(12)})
    assert found is not None and found.p_value < 0.001 and found.interval_95[0] > 0.04


def test_errors_apart_are_those_of_the_paired_difference_with_one_more_better_and_one_worse() -> None:
    differences = [1.0] * 30 + [-1.0] * 10 + [0.0] * 60
    values = np.array([*differences, 1.0, -1.0])
    assert errors_apart(differences) == pytest.approx(values.mean() / (values.std(ddof=1) / 102**0.5))
    assert errors_apart([1.0]) == pytest.approx(0.5) and errors_apart([1.0] * 3) == pytest.approx(1.5), (
        "few are not sure"
    )
    assert errors_apart([0.0] * 50) == 0 == errors_apart([])


def test_the_chance_that_a_difference_is_real_is_the_normal_one() -> None:
    assert normal_share_below(0) == 0.5
    assert normal_share_below(1.959963984540054) == pytest.approx(0.975)
    assert normal_share_below(-1.5) == pytest.approx(1 - normal_share_below(1.5)) == pytest.approx(0.0668, abs=1e-4)
