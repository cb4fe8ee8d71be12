"""A number and the 95 % interval it comes with.

precision = share(inside)        # of yes and no: Wilson's
density = mean(counts / k)       # of any samples: the normal one
"""

import math
from typing import NamedTuple

import numpy as np

from rsynth_jax import checks

Z = 1.96  # standard deviations to either side hold 95 % of a normal distribution


class Estimate(NamedTuple):
    """A value and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def normal(value: float, deviation: float, lowest: float = -math.inf) -> Estimate:
    """value ± 1.96 deviations, cut at the lowest value there can be."""
    return Estimate(float(value), float(max(lowest, value - Z * deviation)), float(value + Z * deviation))


def mean(samples: np.ndarray, lowest: float = -math.inf) -> Estimate:
    """The mean of independent samples (n,), by the central limit theorem."""
    checks.enough("an interval", 2, len(samples))
    deviation = float(np.std(samples, ddof=1)) / math.sqrt(len(samples))
    return normal(float(np.mean(samples)), deviation, lowest)


def bootstrapped(value: float, replicates: np.ndarray, lowest: float = -math.inf) -> Estimate:
    """value ± 1.96 standard deviations of its bootstrap replicates (r,).

    Not their percentiles: a statistic that is biased in few samples is biased once more in a resample, and
    percentiles would lie to one side of the value, at times without it.
    """
    return normal(value, float(np.std(replicates, ddof=1)), lowest)


def wilson(successes: float, num: float) -> tuple[float, float]:
    """The score interval of a share (Wilson 1927)."""
    share, spread = successes / num, Z * Z / num
    middle = share + spread / 2
    half = Z * math.sqrt(share * (1 - share) / num + spread / (4 * num))
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))


def share(yes: np.ndarray) -> Estimate:
    """The share of the true ones among bool (n,), and Wilson's interval, which is right at 0 and 1 too."""
    checks.enough("a share", 1, len(yes))
    return Estimate(float(np.mean(yes)), *wilson(int(np.sum(yes)), len(yes)))
