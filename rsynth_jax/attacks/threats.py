"""Threat models: which images an adversary may choose, apart from how it searches among them."""

from typing import NamedTuple

import jax.numpy as jnp

from rsynth_jax import checks
from rsynth_jax.synthesis import projections
from rsynth_jax.synthesis.norms import Norm
from rsynth_jax.types import Image, Key, Projection

HUGE = 1e15  # a gradient of a million such values has a finite length in float32


class Threat(NamedTuple):
    """The images within a ball around the clean image, and within [0, 1].

    Attributes:
      norm: of the ball.
      epsilon: its radius, in units of pixel values in [0, 1].
    """

    norm: Norm
    epsilon: float


class Steps(NamedTuple):
    """The steps of a projected gradient ascent.

    Attributes:
      step_size: length of one step, in the threat's norm.
      num_steps: number of steps; 1 with a random start is fast adversarial training.
    """

    step_size: float
    num_steps: int


def check(threat: Threat, step_size: float = 0.0) -> None:
    """Raise ValueError for a radius or a step size that is negative, not finite or too large."""
    checks.not_negative(epsilon=threat.epsilon, step_size=step_size)
    if threat.epsilon > threat.norm.largest:
        most = f"at most {threat.norm.largest:g} in {threat.norm.name}, where pixels are in [0, 1]"
        raise ValueError(f"epsilon is {threat.epsilon:g}: give {most}, such as 8/255")


def usable(gradient: Image) -> Image:
    """Make a gradient one that an attack can follow: 0 where it is not finite, scaled where it is huge.

    One NaN would make the whole image NaN, and the square of a huge value is infinite: either way the attack
    would stop, and the classifier appear robust.
    """
    finite = jnp.where(jnp.isfinite(gradient), gradient, 0.0)
    largest = jnp.max(jnp.abs(finite))
    return jnp.where(largest > HUGE, finite / jnp.maximum(largest, HUGE), finite)


def allowed(threat: Threat, image: Image) -> Projection:
    """Project onto the threat's ball around `image`, then onto [0, 1]."""
    return projections.chain(threat.norm.ball(image, threat.epsilon), projections.box())


def random_start(key: Key, threat: Threat, image: Image) -> Image:
    """Draw a point uniformly from the threat's ball around `image`, and clip it to [0, 1]."""
    noise = threat.norm.sample(key, image.shape, image.dtype)
    return projections.box()(image + threat.epsilon * noise)
