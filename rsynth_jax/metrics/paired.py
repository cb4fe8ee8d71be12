"""Similarity of an image (h, w, c), values in [0, 1], and a reference; `vmap` is the batch."""

import functools
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rsynth_jax.types import Image, Map, Scalar

WINDOW, SIGMA = 11, 1.5  # Wang et al. 2004, section III-B
C1, C2 = 0.01**2, 0.03**2


def psnr(image: Image, reference: Image) -> Scalar:
    """Compute -10 log10 of the mean squared error, in dB; infinite for equal images."""
    return -10 * jnp.log10(jnp.mean((image - reference) ** 2))


def ssim(image: Image, reference: Image) -> Scalar:
    """Compute the structural similarity (Wang et al. 2004), at most 1, over channels and window positions.

    The window is Gaussian, 11 pixels wide, sigma 1.5. Raises ValueError for a side below 11 pixels.
    """
    if min(image.shape[:2]) < WINDOW:
        raise ValueError(f"SSIM needs {WINDOW} pixels a side, not {image.shape[0]} x {image.shape[1]}")
    down, across = (jnp.asarray(_gaussian(side), image.dtype) for side in image.shape[:2])

    def blur(x):
        return jnp.einsum("ih,hwc,jw->ijc", down, x, across, precision="highest")

    x, y = image - 0.5, reference - 0.5  # variances do not change, and lose fewer digits
    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    both = blur(x * y) - mean_x * mean_y
    m, n = mean_x + 0.5, mean_y + 0.5
    luminance = (2 * m * n + C1) / (m**2 + n**2 + C1)
    return jnp.mean(luminance * (2 * both + C2) / (var_x + var_y + C2))


def lpips(maps: Sequence[Map], others: Sequence[Map], heads: Sequence[Float[Array, " c"]]) -> Scalar:
    """Compute the learned perceptual distance (Zhang et al. 2018, eq. 1) of two images' feature maps.

    A sum over layers of the mean over positions of head . (unit(map) - unit(other))^2.
    """
    layers = zip(maps, others, heads, strict=True)
    return functools.reduce(jnp.add, (jnp.mean((_unit(a) - _unit(b)) ** 2 @ head) for a, b, head in layers))


def _gaussian(size: int) -> np.ndarray:
    """The matrix (size - 10, size) whose product is the Gaussian mean at every window position."""
    weights = np.exp(-0.5 * ((np.arange(WINDOW) - WINDOW // 2) / SIGMA) ** 2)
    matrix = np.zeros((size - WINDOW + 1, size))
    for row in range(len(matrix)):
        matrix[row, row : row + WINDOW] = weights / weights.sum()
    return matrix


def _unit(features: Map) -> Map:
    """Every position's channels scaled to length 1; the 1e-10 is the published code's."""
    return features / (jnp.sqrt(jnp.sum(features**2, axis=-1, keepdims=True)) + 1e-10)
