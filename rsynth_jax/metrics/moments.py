"""The mean and the scatter of features, batch by batch: no number of images is too many.

    whole = functools.reduce(merge, map(moments, batches))

`merge` is associative and commutative, and moments(concatenate([a, b])) == merge(moments(a), moments(b)).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from rsynth_jax import checks

ROWS = 4096  # features in double precision at a time


class Moments(NamedTuple):
    """Of `num` feature vectors: their mean (d,) and scatter (d, d) = sum of (x - mean)(x - mean)'."""

    num: int
    mean: Float64[np.ndarray, " d"]
    scatter: Float64[np.ndarray, "d d"]


def blocks(features: np.ndarray) -> Iterator[np.ndarray]:
    """Consecutive rows in double precision, `ROWS` at a time."""
    return (features[i : i + ROWS].astype(np.float64) for i in range(0, len(features), ROWS))


def moments(features: np.ndarray) -> Moments:
    """Of features (n, d). Raises ValueError for none, and for NaN."""
    checks.features("a mean", 1, features)
    whole = Moments(0, np.zeros(features.shape[1]), np.zeros((features.shape[1],) * 2))
    for block in blocks(features):
        centred = block - block.mean(axis=0)
        whole = merge(whole, Moments(len(block), block.mean(axis=0), centred.T @ centred))
    return whole


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of both sets together (Chan, Golub & LeVeque 1983)."""
    checks.same_width(a.mean, b.mean)
    num, gap = a.num + b.num, b.mean - a.mean
    mean = a.mean + gap * (b.num / num)
    return Moments(num, mean, a.scatter + b.scatter + np.outer(gap, gap) * (a.num * b.num / num))


def covariance(of: Moments) -> Float64[np.ndarray, "d d"]:
    """The unbiased covariance, scatter / (n - 1)."""
    checks.enough("a covariance", 2, of.num)
    return of.scatter / (of.num - 1)
