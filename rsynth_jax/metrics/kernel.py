"""The kernel distance of two sets (KID, Binkowski et al. 2018): unbiased, also in few images.

estimate = kid(generated, real, np.random.default_rng(0))
"""

import numpy as np

from rsynth_jax import checks
from rsynth_jax.metrics.estimates import Estimate, mean

BLOCK = 1000  # images a block at most, as the paper's code has it
BLOCKS = 20  # at least, so that their spread is known


def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(x.y / d + 1)^3 of every pair of rows."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def off_diagonal_mean(matrix: np.ndarray) -> float:
    """The mean of all entries but the diagonal's."""
    num = len(matrix)
    return (matrix.sum() - matrix.trace()) / (num * (num - 1))


def mmd(generated: np.ndarray, real: np.ndarray) -> float:
    """The unbiased squared maximum mean discrepancy (Gretton et al. 2012, eq. 3); below 0 at times."""
    checks.features("the kernel distance", 2, generated, real)
    x, y = generated.astype(np.float64), real.astype(np.float64)
    within = off_diagonal_mean(kernel(x, x)) + off_diagonal_mean(kernel(y, y))
    return float(within - 2 * kernel(x, y).mean())


def kid(generated: np.ndarray, real: np.ndarray, rng: np.random.Generator) -> Estimate:
    """The mean of `mmd` over disjoint random blocks, and the interval of that mean.

    Both sets are shuffled and cut into the same number of blocks: of `BLOCK` images or fewer, and `BLOCKS`
    of them or more. Blocks share no image, so they are independent.
    """
    checks.features("the kernel distance", 4, generated, real)
    num = min(len(generated), len(real))
    num_blocks = min(num // 2, max(BLOCKS, max(len(generated), len(real)) // BLOCK))
    parts = [np.array_split(rng.permutation(len(each)), num_blocks) for each in (generated, real)]
    return mean(np.array([mmd(generated[a], real[b]) for a, b in zip(*parts, strict=True)]))
