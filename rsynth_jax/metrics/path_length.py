"""Perceptual path length (Karras et al. 2019, section 4.1): how far images change along a way between codes.

    length = step_length(lambda t: decode(lerp(style, other, t)), time, distance)    # of one pair of styles
    estimate = estimate_length(lengths)

Lower is smoother: a straight way in the codes then passes through no images that neither end resembles.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rsynth_jax import checks
from rsynth_jax.metrics.estimates import Estimate, Z
from rsynth_jax.types import Image, Scalar

EPSILON = 1e-4  # of the paper
REJECTED = 0.01  # of the lengths at either end, in the paper's code

Distance = Callable[[Image, Image], Scalar]  # that grows like the square of a small change, as LPIPS does


def step_length(
    image_at: Callable[[Scalar], Image], t: Scalar, distance: Distance, epsilon: Scalar | float = EPSILON
) -> Scalar:
    """Compute distance(image_at(t), image_at(t + epsilon)) / epsilon^2 of one way through images."""
    return distance(image_at(t), image_at(t + epsilon)) / epsilon**2


def lerp(a: Float[Array, "*d"], b: Float[Array, "*d"], t: Scalar | float) -> Float[Array, "*d"]:
    """Go straight from a, t = 0, to b, t = 1: the way between styles."""
    return (1 - t) * a + t * b


def slerp(a: Float[Array, " d"], b: Float[Array, " d"], t: Scalar | float) -> Float[Array, " d"]:
    """Go along a great circle, with lengths from that of a to that of b: the way between latents."""
    first, last = jnp.linalg.norm(a), jnp.linalg.norm(b)
    ahead = b / last - jnp.vdot(a, b) / (first**2 * last) * a
    sine = jnp.linalg.norm(ahead)
    angle = t * jnp.arctan2(sine, jnp.vdot(a, b) / (first * last))
    direction = jnp.cos(angle) * a / first + jnp.sin(angle) * ahead / jnp.maximum(sine, 1e-12)
    return ((1 - t) * first + t * last) * direction


def estimate_length(lengths: Float[np.ndarray, " n"], rejected: float = REJECTED) -> Estimate:
    """Estimate the mean of lengths without the share `rejected` of them at either end, two or more.

    The paper's code keeps what lies between the 1st and the 99th percentile. The interval is that of a
    trimmed mean (Tukey and McLaughlin 1963), whose deviation is that of the lengths cut at these percentiles.
    """
    checks.enough("a path length", 2, len(lengths))
    checks.finite(lengths=lengths)
    low = np.percentile(lengths, 100 * rejected, method="lower")
    high = np.percentile(lengths, 100 * (1 - rejected), method="higher")
    value = float(np.mean(lengths[(low <= lengths) & (lengths <= high)]))
    spread = float(np.std(np.clip(lengths, low, high), ddof=1)) / (1 - 2 * rejected)
    half = Z * spread / len(lengths) ** 0.5
    return Estimate(value, max(0.0, value - half), value + half)
