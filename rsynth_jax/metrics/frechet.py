"""The Fréchet distance of two sets' Gaussians (Dowson & Landau 1982; FID, Heusel et al. 2017).

    distance = frechet(moments(generated), functools.reduce(merge, map(moments, batches)))

|m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1^1/2 S2 S1^1/2)^1/2. With S1 = F1 F1' and S2 = F2 F2' the last trace is
the sum of the singular values of F1' F2: no root of a nearly singular product, so fewer images than features
suffice, and the distance from a set to itself is 0 to rounding. It is biased upwards in few images: compare
sets of equal size.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from rsynth_jax import checks
from rsynth_jax.metrics.estimates import Estimate, normal

_ROWS = 4096  # features in double precision at a time


class Moments(NamedTuple):
    """Of `num` feature vectors: their mean (d,) and scatter (d, d) = sum of (x - mean)(x - mean)'."""

    num: int
    mean: Float64[np.ndarray, " d"]
    scatter: Float64[np.ndarray, "d d"]


def moments(features: np.ndarray) -> Moments:
    """Compute the moments of finite features (n, d), n > 0."""
    checks.features("a mean", 1, features)
    whole = Moments(0, np.zeros(features.shape[1]), np.zeros((features.shape[1],) * 2))
    for block in _blocks(features):
        centred = block - block.mean(axis=0)
        whole = merge(whole, Moments(len(block), block.mean(axis=0), centred.T @ centred))
    return whole


def merge(a: Moments, b: Moments) -> Moments:
    """Compute the moments of two sets' union (Chan, Golub & LeVeque 1983): associative and commutative."""
    checks.same_width(a.mean, b.mean)
    num, gap = a.num + b.num, b.mean - a.mean
    mean = a.mean + gap * (b.num / num)
    return Moments(num, mean, a.scatter + b.scatter + np.outer(gap, gap) * (a.num * b.num / num))


def covariance(of: Moments) -> Float64[np.ndarray, "d d"]:
    """Compute the unbiased covariance, scatter / (n - 1)."""
    checks.enough("a covariance", 2, of.num)
    return of.scatter / (of.num - 1)


def frechet(a: Moments, b: Moments) -> float:
    """Compute the squared Fréchet distance in double precision, from two images or more of each set."""
    return _transport(a, b)[0]


def frechet_estimate(generated: np.ndarray, real: np.ndarray) -> Estimate:
    """Estimate the distance of two sets of features, with the interval of the delta method.

    The variance is that of the mean of every image's influence on the distance. The interval does not
    cover the bias. A bootstrap costs twenty times as much and agrees where images are many; where they are
    few its resamples exaggerate the distance (tests/metrics/test_frechet.py).
    """
    checks.features("the Fréchet distance", 2, generated, real)
    a, b = moments(generated), moments(real)
    distance, onward, back = _transport(a, b)
    moved = (
        _influence(generated, a, a.mean - b.mean, onward),
        _influence(real, b, b.mean - a.mean, back),
    )
    variance = sum(np.var(each, ddof=1) / len(each) for each in moved)
    return normal(distance, math.sqrt(variance), lowest=0.0)


def _blocks(features: np.ndarray) -> Iterator[np.ndarray]:
    return (features[i : i + _ROWS].astype(np.float64) for i in range(0, len(features), _ROWS))


def _root(of: Moments) -> np.ndarray:
    """F with F F' the covariance, without zero columns: over many of them LAPACK's SVD may not converge."""
    values, vectors = np.linalg.eigh(covariance(of))
    spread = values > len(values) * np.finfo(np.float64).eps * values[-1]
    return vectors[:, spread] * np.sqrt(values[spread])


def _transport(a: Moments, b: Moments) -> tuple[float, np.ndarray, np.ndarray]:
    """The distance; F with F F' the optimal linear map of Gaussian a to b; the same of b to a."""
    checks.same_width(a.mean, b.mean)
    root_a, root_b, gap = _root(a), _root(b), a.mean - b.mean
    left, overlap, right = np.linalg.svd(root_a.T @ root_b, full_matrices=False)
    distance = gap @ gap + np.sum(root_a**2) + np.sum(root_b**2) - 2 * overlap.sum()
    kept = overlap > 1e-10 * overlap.max(initial=0)
    scale = np.sqrt(overlap[kept])
    return max(0.0, float(distance)), root_b @ right[kept].T / scale, root_a @ left[:, kept] / scale


def _influence(features: np.ndarray, of: Moments, gap: np.ndarray, carry: np.ndarray) -> np.ndarray:
    """How much each row moves the distance, times n: 2 gap.c + |c|^2 - |carry' c|^2 with c = x - mean."""
    centred = (block - of.mean for block in _blocks(features))
    parts = [2 * c @ gap + np.sum(c**2, axis=1) - np.sum((c @ carry) ** 2, axis=1) for c in centred]
    return np.concatenate(parts)
