"""Statistics of benchmark scores."""

import math
from collections.abc import Sequence

Z_95 = 1.959963984540054


def wilson_interval(num_passed: int, num_problems: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927); honest near 0 and 1, where the normal interval is not."""
    n, p = num_problems, num_passed / num_problems
    centre = (p + Z_95**2 / (2 * n)) / (1 + Z_95**2 / n)
    half = Z_95 / (1 + Z_95**2 / n) * math.sqrt(p * (1 - p) / n + Z_95**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def sign_test(gained: int, lost: int) -> float:
    """Two-sided p of the exact sign test over the problems on which two candidates differ (McNemar 1947)."""
    n = gained + lost
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(min(gained, lost) + 1)) / 2**n)


def pass_at_k(num_samples: int, num_passed: int, k: int) -> float:
    """Unbiased estimate of the chance that one of k samples passes (arXiv 2107.03374, section 2.1)."""
    return 1.0 - math.comb(num_samples - num_passed, k) / math.comb(num_samples, k)


def bootstrap_interval(values: Sequence[float], *, num_resamples: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the mean, by drawing problems with replacement (Efron 1979)."""
    import numpy as np

    array, random = np.asarray(values), np.random.default_rng(seed)
    means = [array[random.integers(len(array), size=len(array))].mean() for _ in range(num_resamples)]
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)
