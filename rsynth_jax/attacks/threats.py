"""Threat models: which images an adversary may choose, apart from how it searches among them."""

from typing import NamedTuple

from rsynth_jax.synthesis import projections
from rsynth_jax.synthesis.norms import Norm
from rsynth_jax.types import Image, Key, Projection


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


def allowed(threat: Threat, image: Image) -> Projection:
    """Project onto the threat's ball around `image`, then onto [0, 1]."""
    return projections.chain(threat.norm.ball(image, threat.epsilon), projections.box())


def random_start(key: Key, threat: Threat, image: Image) -> Image:
    """Draw a point uniformly from the threat's ball around `image`, and clip it to [0, 1]."""
    noise = threat.norm.sample(key, image.shape, image.dtype)
    return projections.box()(image + threat.epsilon * noise)
