"""A Gaussian for each class in low-rank form: where generation starts.

    gaussians = fit(images, labels, num_classes=10, factor=2, share=0.95)
    start = sample(key, gaussians, label, (32, 32, 3))
    likely = conditional_mean(gaussians, label, photo, 1 - missing, variance=0.03)
    gaussians = grey(channels=3)                  # without training images

With X the n images of a class as rows and mu their mean, x0 = mu + n^(-1/2) Z (X - mu), Z ~ N(0, I_n), has
exactly their mean and covariance. Its singular value decomposition says the same with fewer rows, and
leaving out the smallest keeps the chosen share of the variance. At the paper's 56 x 56 x 3 a row takes 38 kB,
the dense covariance 354 MB a class.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from rsynth_jax.types import Image, Key, Label, Weights


class ClassGaussians(NamedTuple):
    """The class Gaussians at low resolution.

    Attributes:
      mean: one image a class; a single one is that of every class, in the components too.
      components: principal components a class, each times its standard deviation; classes that need
        fewer than the most are padded with zeros.
    """

    mean: Float[jax.Array | np.ndarray, "k h w c"]
    components: Float[jax.Array | np.ndarray, "k m h w c"]


_SIDE = 7  # of the noise of `grey`: 32 pixels of a side of 224
_DEVIATION = 0.21  # at 8 x 8, that of the class Gaussians of cifar10-robust and restricted-imagenet-64-robust


def grey(channels: int) -> ClassGaussians:
    """Make one Gaussian for all classes, for a classifier whose classes have none: grey 0.5 and noise.

    The 7 x 7 values of each channel are independent with a standard deviation of 0.21.
    """
    shape = (_SIDE, _SIDE, channels)
    size = _SIDE * _SIDE * channels
    components = _DEVIATION * np.eye(size, dtype=np.float32)
    return ClassGaussians(np.full((1, *shape), 0.5, np.float32), components.reshape(1, size, *shape))


def _principal_components(centered: np.ndarray, share: float) -> np.ndarray:
    """Rows C with C^T C = X^T X / n up to the left-out variance, for the rows X (float64)."""
    _, deviations, directions = np.linalg.svd(centered / np.sqrt(len(centered)), full_matrices=False)
    held = np.cumsum(deviations**2)
    rank = min(int(np.searchsorted(held, share * held[-1] * (1 - 1e-12))) + 1, len(deviations))
    return deviations[:rank, None] * directions[:rank]


def _block_means(images: np.ndarray, factor: int) -> np.ndarray:
    """`images.downsample` for a whole data set in bytes, one batch of float64 at a time."""
    num, height, width, channels = images.shape
    shape = (num, height // factor, factor, width // factor, factor, channels)
    return images.reshape(shape).mean(axis=(2, 4)) / 255


def fit(
    images: UInt8[np.ndarray, "n h w c"],
    labels: np.ndarray,
    num_classes: int,
    factor: int,
    share: float,
) -> ClassGaussians:
    """Fit the class Gaussians to *training* images (the paper fitted its own to test images).

    Args:
      images: bytes; labels: their classes, each with at least two images.
      factor: downsampling; must divide the sides.
      share: of the variance to keep, in (0, 1]; 1 is exact.
    """
    height, width, _ = images.shape[1:]
    if height % factor or width % factor:
        raise ValueError(f"images of {height} x {width} do not divide into blocks of {factor}")
    means = []
    components = []
    for label in range(num_classes):
        low = _block_means(images[labels == label], factor)
        if len(low) < 2:
            raise ValueError(f"class {label} has {len(low)} training images: seeds need at least 2")
        rows = low.reshape(len(low), -1)
        means.append(low.mean(axis=0))
        components.append(_principal_components(rows - rows.mean(axis=0), share).reshape(-1, *low.shape[1:]))
    most = max(map(len, components))
    padded = [np.pad(c, ((0, most - len(c)), (0, 0), (0, 0), (0, 0))) for c in components]
    return ClassGaussians(np.stack(means).astype(np.float32), np.stack(padded).astype(np.float32))


def _of_class(gaussians: ClassGaussians, label: Label) -> tuple[jax.Array, jax.Array]:
    """The mean and the components of a class."""
    row = label if len(gaussians.mean) > 1 else 0
    return jnp.asarray(gaussians.mean)[row], jnp.asarray(gaussians.components)[row]


def sample(key: Key, gaussians: ClassGaussians, label: Label, shape: tuple[int, int, int]) -> Image:
    """Draw from the Gaussian of class `label` at low resolution, resized (bilinear) to `shape`.

    Not clipped: the ascent's own projection does that.
    """
    mean, components = _of_class(gaussians, label)
    z = jax.random.normal(key, components.shape[:1], components.dtype)
    low = mean + jnp.tensordot(z, components, axes=1)
    return jax.image.resize(low, shape, "linear")


def with_temperature(gaussians: ClassGaussians, temperature: float) -> ClassGaussians:
    """The Gaussians with every deviation from the mean `temperature` times as large."""
    return gaussians._replace(components=jnp.asarray(gaussians.components) * temperature)


def conditional_mean(
    gaussians: ClassGaussians, label: Label, image: Image, known: Weights, variance: float
) -> Image:
    """Compute the mean of a class's Gaussian given the known pixels of an image.

    x0 = mu + C'z, z ~ N(0, I), and the known pixels, K = diag(known), are seen through noise of `variance`,
    for what the components leave out: z = (C K C' + variance I)^-1 C K (image - mu).
    """
    mean, components = _of_class(gaussians, label)
    mean = jax.image.resize(mean, image.shape, "linear")
    components = jax.image.resize(components, (len(components), *image.shape), "linear")
    rows = components.reshape(len(components), -1)
    observed = (known * components).reshape(len(components), -1)
    covariance = jnp.matmul(observed, rows.T, precision="highest") + variance * jnp.eye(len(rows))
    factor = jax.scipy.linalg.cho_factor(covariance)
    z = jax.scipy.linalg.cho_solve(factor, jnp.matmul(observed, (image - mean).ravel(), precision="highest"))
    return mean + jnp.tensordot(z, components, axes=1)
