"""The Fréchet distance of two sets' Gaussians (Dowson & Landau 1982; FID, Heusel et al. 2017).

    distance = frechet(moments(generated), moments(real))

|m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1^1/2 S2 S1^1/2)^1/2. With S1 = F1 F1' and S2 = F2 F2' the last trace is
the sum of the singular values of F1' F2: no root of a product that is nearly singular, so that d features
need not d images, and the distance from a set to itself is 0 to rounding. It is biased upwards in few
images: compare sets of equal size.
"""

import math
from typing import NamedTuple

import numpy as np

from rsynth_jax import checks
from rsynth_jax.metrics.estimates import Estimate, normal
from rsynth_jax.metrics.moments import Moments, blocks, covariance, moments


class Coupling(NamedTuple):
    """How two Gaussians are carried to each other at the least cost.

    Attributes:
      distance: that cost, squared: Fréchet's.
      onward: F with F F' the linear map that carries the first to the second.
      back: the same from the second to the first.
    """

    distance: float
    onward: np.ndarray
    back: np.ndarray


def root(of: Moments) -> np.ndarray:
    """F with F F' the covariance, a column for each direction in which it is not flat but for rounding.

    Columns of zeros would say the same, but over many of them LAPACK's SVD may fail to converge.
    """
    values, vectors = np.linalg.eigh(covariance(of))
    spread = values > len(values) * np.finfo(np.float64).eps * values[-1]
    return vectors[:, spread] * np.sqrt(values[spread])


def coupling(a: Moments, b: Moments) -> Coupling:
    """The optimal transport between the Gaussians of these moments. Needs two images of each."""
    checks.same_width(a.mean, b.mean)
    root_a, root_b, gap = root(a), root(b), a.mean - b.mean
    left, overlap, right = np.linalg.svd(root_a.T @ root_b, full_matrices=False)
    distance = gap @ gap + np.sum(root_a**2) + np.sum(root_b**2) - 2 * overlap.sum()
    kept = overlap > 1e-10 * overlap.max(initial=0)
    scale = np.sqrt(overlap[kept])
    return Coupling(max(0.0, float(distance)), root_b @ right[kept].T / scale, root_a @ left[:, kept] / scale)


def frechet(a: Moments, b: Moments) -> float:
    """The squared Fréchet distance between the Gaussians of these moments, in double precision."""
    return coupling(a, b).distance


def influence(features: np.ndarray, of: Moments, gap: np.ndarray, carry: np.ndarray) -> np.ndarray:
    """How much each row moves the distance, times n: 2 gap.c + |c|^2 - |carry' c|^2 with c = x - mean."""
    centred = (block - of.mean for block in blocks(features))
    parts = [2 * c @ gap + np.sum(c**2, axis=1) - np.sum((c @ carry) ** 2, axis=1) for c in centred]
    return np.concatenate(parts)


def frechet_estimate(generated: np.ndarray, real: np.ndarray) -> Estimate:
    """The distance between two sets of features, with the interval of the delta method.

    The distance is smooth in the moments, so its variance is that of the mean of every image's influence.
    A bootstrap says the same where images are many, at twenty times the cost, and where they are few its
    resamples, which hold fewer distinct images still, exaggerate it (tests/test_metrics_frechet.py). The
    interval is of chance alone and holds none of the bias.
    """
    checks.features("the Fréchet distance", 2, generated, real)
    a, b = moments(generated), moments(real)
    carried = coupling(a, b)
    moved = (
        influence(generated, a, a.mean - b.mean, carried.onward),
        influence(real, b, b.mean - a.mean, carried.back),
    )
    variance = sum(np.var(each, ddof=1) / len(each) for each in moved)
    return normal(carried.distance, math.sqrt(variance), lowest=0.0)
