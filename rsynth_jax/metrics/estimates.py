"""A number and its 95 % interval."""

import math
from typing import NamedTuple

import numpy as np

from rsynth_jax import checks

Z = 1.96  # standard deviations on either side of the mean hold 95 % of a normal distribution

FEWEST = 2  # samples whose mean has an interval


class Estimate(NamedTuple):
    """A value and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def normal(value: float, deviation: float, lowest: float = -math.inf) -> Estimate:
    """Return value ± 1.96 deviations, cut at the lowest possible value. Raises ValueError for NaN."""
    checks.finite(value=value, deviation=deviation)
    return Estimate(float(value), float(max(lowest, value - Z * deviation)), float(value + Z * deviation))


def mean(samples: np.ndarray, lowest: float = -math.inf) -> Estimate:
    """Estimate the mean of independent samples (n,), by the central limit theorem."""
    checks.enough("an interval", FEWEST, len(samples))
    deviation = float(np.std(samples, ddof=1)) / math.sqrt(len(samples))
    return normal(float(np.mean(samples)), deviation, lowest)


def bootstrapped(value: float, replicates: np.ndarray, lowest: float = -math.inf) -> Estimate:
    """Return value ± 1.96 standard deviations of its bootstrap replicates (r,).

    The percentiles of a statistic biased in few samples are biased twice, and may exclude the value.
    """
    return normal(value, float(np.std(replicates, ddof=1)), lowest)


def wilson(successes: float, num: float) -> tuple[float, float]:
    """Compute the score interval of a proportion (Wilson 1927). Raises ValueError for NaN."""
    checks.finite(successes=successes, num=num)
    share, spread = successes / num, Z * Z / num
    middle = share + spread / 2
    half = Z * math.sqrt(share * (1 - share) / num + spread / (4 * num))
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))


def share(yes: np.ndarray) -> Estimate:
    """Estimate the share of true values in bool (n,), with Wilson's interval, valid at 0 and 1 too."""
    checks.enough("a share", 1, len(yes))
    return Estimate(float(np.mean(yes)), *wilson(int(np.sum(yes)), len(yes)))
