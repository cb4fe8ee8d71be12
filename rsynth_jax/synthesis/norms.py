"""The two norms that measure how far an image moves: each is one value with all that an ascent needs of it.

steepest(L2, 0.5)
Threat(LINF, epsilon=8 / 255)
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rsynth_jax.synthesis import projections
from rsynth_jax.types import Image, Key, Projection, Scalar


class Norm(NamedTuple):
    """A norm of images.

    Attributes:
      name: as programs and files spell it.
      length: the norm of an offset.
      direction: turns a gradient into the steepest direction of unit length, 0 where the gradient is 0;
        of a pytree, the length over all leaves.
      ball: (center, radius) -> the projection onto the closed ball.
      sample: (key, shape, dtype) -> an offset drawn uniformly from the unit ball.
      speed: normal of a hyperplane -> how fast each value moves on the shortest way to it.
      largest: radius from which on a ball around any image of [0, 1] holds all of them, whatever their size.
    """

    name: str
    length: Callable[[Image], Scalar]
    direction: optax.GradientTransformation
    ball: Callable[[Image, float], Projection]
    sample: Callable[[Key, tuple[int, ...], Any], Image]
    speed: Callable[[Image], Image]
    largest: float = math.inf


def _sample_l2(key: Key, shape: tuple[int, ...], dtype: Any) -> Image:
    """A uniform direction times u^(1/d), u uniform in [0, 1)."""
    direction_key, radius_key = jax.random.split(key)
    normal = jax.random.normal(direction_key, shape, dtype)
    radius = jax.random.uniform(radius_key, (), dtype) ** (1 / normal.size)
    return normal * radius / jnp.linalg.norm(normal.ravel())


def _sample_linf(key: Key, shape: tuple[int, ...], dtype: Any) -> Image:
    """Every value uniform in [-1, 1)."""
    return jax.random.uniform(jax.random.split(key)[0], shape, dtype, -1.0, 1.0)


L2 = Norm(
    name="l2",
    length=lambda offset: jnp.linalg.norm(offset.ravel()),
    direction=optax.normalize_by_update_norm(eps=1e-12),
    ball=projections.l2_ball,
    sample=_sample_l2,
    speed=jnp.abs,
)
LINF = Norm(
    name="linf",
    length=lambda offset: jnp.max(jnp.abs(offset)),
    direction=optax.scale_by_sign(),
    ball=projections.linf_ball,
    sample=_sample_linf,
    speed=lambda normal: jnp.where(normal == 0, 0.0, 1.0).astype(normal.dtype),
    largest=1.0,
)
NORMS = {norm.name: norm for norm in (L2, LINF)}  # for programs and files
