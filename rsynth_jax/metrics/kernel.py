"""The kernel distance of two sets (KID, Binkowski et al. 2018): unbiased, also in few images."""

import numpy as np

from rsynth_jax import checks
from rsynth_jax.metrics.estimates import Estimate, mean

BLOCK = 1000  # images a block at most, as in the paper's code
BLOCKS = 20  # at least, to estimate their variance


def kid(generated: np.ndarray, real: np.ndarray, rng: np.random.Generator) -> Estimate:
    """Estimate the mean of `mmd` over disjoint random blocks, which are independent.

    Both sets are shuffled and cut into the same number of blocks: of `BLOCK` images or fewer, and `BLOCKS`
    of them or more.
    """
    checks.features("the kernel distance", 4, generated, real)
    num = min(len(generated), len(real))
    num_blocks = min(num // 2, max(BLOCKS, max(len(generated), len(real)) // BLOCK))
    parts = [np.array_split(rng.permutation(len(each)), num_blocks) for each in (generated, real)]
    return mean(np.array([mmd(generated[a], real[b]) for a, b in zip(*parts, strict=True)]))


def mmd(generated: np.ndarray, real: np.ndarray) -> float:
    """Compute the unbiased squared MMD (Gretton et al. 2012, eq. 3), at times below 0."""
    checks.features("the kernel distance", 2, generated, real)
    x, y = generated.astype(np.float64), real.astype(np.float64)
    within = _off_diagonal_mean(_kernel(x, x)) + _off_diagonal_mean(_kernel(y, y))
    return float(within - 2 * _kernel(x, y).mean())


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(x.y / d + 1)^3 of every pair of rows."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def _off_diagonal_mean(matrix: np.ndarray) -> float:
    num = len(matrix)
    return (matrix.sum() - matrix.trace()) / (num * (num - 1))
