"""Quality and diversity apart, by balls around images that reach to their k-th neighbours.

precision, recall = precision_recall(generated, real)
density, coverage = density_coverage(generated, real)

Intervals are those of a mean over images, with the balls fixed.
"""

from collections.abc import Iterator

import numpy as np

from rsynth_jax import checks
from rsynth_jax.metrics.estimates import Estimate, mean, share

ENTRIES = 1 << 23  # distances in memory at a time
_SAME = 1e-5  # rows whose squared distance is below this share of their squares are the same image


def precision_recall(generated: np.ndarray, real: np.ndarray, k: int = 3) -> tuple[Estimate, Estimate]:
    """Estimate the share of generated images in a real one's ball, and of real ones in a generated one's.

    Improved precision and recall, Kynkäänniemi et al. 2019, with their k. Needs k + 1 images of each.
    """
    checks.features("precision and recall", k + 1, generated, real)
    precise, _ = _count_hits(generated, real, _squared_radii(real, k))
    recalled, _ = _count_hits(real, generated, _squared_radii(generated, k))
    return share(precise > 0), share(recalled > 0)


def density_coverage(generated: np.ndarray, real: np.ndarray, k: int = 5) -> tuple[Estimate, Estimate]:
    """Estimate the mean number of real balls around a generated image, over k; and the share that hold any.

    Naeem et al. 2020, with their k. Both use balls around real images alone, which outliers among the
    generated ones cannot inflate; density may exceed 1. Needs k + 1 real images and 2 generated ones.
    """
    checks.features("density and coverage", k + 1, real)
    checks.features("density and coverage", 2, generated, real)
    balls, points = _count_hits(generated, real, _squared_radii(real, k))
    return mean(balls / k, lowest=0.0), share(points > 0)


def nearest(queries: np.ndarray, keys: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the k keys nearest to each query, nearest first: their indices (n, k) and distances (n, k)."""
    checks.features("a nearest image", 1, queries)
    checks.features(f"{k} nearest images", k, keys)
    checks.same_width(queries, keys)
    found = []
    for _, distances in _squared_distances(queries, keys):
        few = np.argpartition(distances, k - 1, axis=1)[:, :k]
        order = np.argsort(np.take_along_axis(distances, few, axis=1), axis=1, kind="stable")
        found.append(np.take_along_axis(few, order, axis=1))
    indices = np.concatenate(found)
    return indices, np.linalg.norm(queries[:, None].astype(np.float64) - keys[indices], axis=2)


def median_nearest(features: np.ndarray) -> float:
    """Measure the median over the rows (n, d) of the distance to the nearest other row."""
    checks.features("a nearest image", 2, features)
    return float(np.median(np.sqrt(_squared_radii(features, 1))))


def _squared_distances(points: np.ndarray, centers: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """|x - y|^2 of some rows and all centers at a time, in single precision."""
    middle = centers.mean(axis=0, dtype=np.float64)  # |x|^2 + |y|^2 - 2 x.y loses what x and y have in common
    y = (centers - middle).astype(np.float32)
    y_squares = np.sum(y**2, axis=1)
    size = max(1, ENTRIES // len(y))
    for start in range(0, len(points), size):
        rows = slice(start, start + size)
        x = (points[rows] - middle).astype(np.float32)
        squares = np.sum(x**2, axis=1)[:, None] + y_squares
        distances = squares - 2 * (x @ y.T)
        yield rows, np.where(distances > _SAME * squares, distances, 0)


def _squared_radii(features: np.ndarray, k: int) -> np.ndarray:
    """The squared distance (n,) to the k-th nearest other row, rounded up so that a copy of it is inside."""
    found = np.empty(len(features), np.float32)
    for rows, distances in _squared_distances(features, features):
        distances[np.arange(len(distances)), np.arange(rows.start, rows.start + len(distances))] = np.inf
        found[rows] = np.partition(distances, k - 1, axis=1)[:, k - 1]
    return found * np.float32(1 + 1e-5)


def _count_hits(
    points: np.ndarray, centers: np.ndarray, squared_radii: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """For each point the number of balls it is in, and for each ball the number of points in it."""
    balls, inside = np.empty(len(points), int), np.zeros(len(centers), int)
    for rows, distances in _squared_distances(points, centers):
        within = distances <= squared_radii
        balls[rows] = within.sum(axis=1)
        inside += within.sum(axis=0)
    return balls, inside
