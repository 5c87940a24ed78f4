"""Statistics of benchmark scores. The unit is the problem: samples of one problem are not independent."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

Z_95 = 1.959963984540054
Z_POWER_80 = 0.8416212335729143


def pass_at_k(num_samples: int, num_passed: int, k: int) -> float:
    """Unbiased estimate of the chance that one of k samples passes (arXiv 2107.03374, section 2.1)."""
    return 1.0 - math.comb(num_samples - num_passed, k) / math.comb(num_samples, k)


def wilson_interval(num_passed: float, num_problems: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927); honest near 0 and 1, where the normal interval is not."""
    n, p = num_problems, num_passed / num_problems
    centre = (p + Z_95**2 / (2 * n)) / (1 + Z_95**2 / n)
    half = Z_95 / (1 + Z_95**2 / n) * math.sqrt(p * (1 - p) / n + Z_95**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def score_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean of scores between 0 and 1, by the bootstrap.

    Where all problems have the same score it is Wilson's, since resampling would take that for certainty.
    """
    if len(set(values)) == 1:
        return wilson_interval(sum(values), len(values))
    return bootstrap_interval(values)


def bootstrap_interval(values: Sequence[float], *, num_resamples: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the mean, by drawing problems with replacement (Efron 1979).

    Problems of equal score are interchangeable, so a resample is one multinomial draw over the distinct scores.
    """
    import numpy as np

    distinct, counts = np.unique(np.asarray(values, dtype=float), return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(values), counts / len(values), size=num_resamples)
    low, high = np.percentile(draws @ distinct / len(values), (2.5, 97.5))
    return float(low), float(high)


def sign_test(gained: int, lost: int) -> float:
    """Two-sided p of the exact sign test over the problems on which two candidates differ (McNemar 1947)."""
    n = gained + lost
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(min(gained, lost) + 1)) / 2**n)


def difference_interval(differences: Sequence[float]) -> tuple[float, float]:
    """95 % interval of a mean paired difference: the bootstrap's, as if one more problem had got better and one worse.

    Without these two, no change at all would be certain, and five better of 164 significant where the sign test says
    p = 0.06 (the idea of Agresti and Min 2005, Statistics in Medicine 24(5), with one instead of a half).
    """
    return bootstrap_interval([*differences, 1.0, -1.0])


def errors_apart(differences: Sequence[float]) -> float:
    """A mean paired difference in its standard errors, with the same two problems added."""
    values = [*differences, 1.0, -1.0]
    return fmean(values) / (stdev(values) / math.sqrt(len(values)))


def normal_share_below(errors: float) -> float:
    """The chance that a true value lies above 0, where it was measured `errors` standard errors above it."""
    return NormalDist().cdf(errors)


def detectable_difference(num_problems: int, discordance: float) -> float | None:
    """The smallest true difference of pass@1 that a paired comparison shows (p < 0.05) in 80 % of trials.

    None where the suite can show none, because even all its problems together reach no p < 0.05.

    discordance: share of problems on which the two candidates differ, raised to the difference where that is larger.
    Connor 1987, Biometrics 43(1), solved for the difference.
    """
    if sign_test(num_problems, 0) >= 0.05:
        return None
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        share = max(discordance, middle)
        spread = Z_95 * math.sqrt(share) + Z_POWER_80 * math.sqrt(share - middle**2)
        low, high = (middle, high) if middle * math.sqrt(num_problems) < spread else (low, middle)
    return high


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A candidate against another over the problems that both have. Differences are candidate minus baseline.

    Example: Comparison(num_problems=164, difference=0.012, interval_95=(-0.024, 0.048), num_better=4, num_worse=2,
                        p_value=0.69, detectable=0.055)
    """

    num_problems: int
    difference: float
    """Difference in pass@1."""
    interval_95: tuple[float, float]
    """`difference_interval`."""
    num_better: int
    """Problems with a higher pass rate than the baseline's; for one sample each: newly passed."""
    num_worse: int
    p_value: float
    """Exact sign test over the problems that differ, two-sided."""
    detectable: float | None
    """`detectable_difference` at the share of problems that differ here."""


def compare(baseline: Mapping[str, float], candidate: Mapping[str, float]) -> Comparison | None:
    """Paired comparison of pass rates by problem id; None without a common problem."""
    common = sorted(baseline.keys() & candidate.keys())
    if not common:
        return None
    differences = [candidate[problem] - baseline[problem] for problem in common]
    better, worse = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    return Comparison(
        num_problems=len(common),
        difference=sum(differences) / len(common),
        interval_95=difference_interval(differences),
        num_better=better,
        num_worse=worse,
        p_value=sign_test(better, worse),
        detectable=detectable_difference(len(common), (better + worse) / len(common)),
    )
