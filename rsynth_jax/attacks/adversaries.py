"""Adversaries: the same ascent, climbing a loss inside a small ball around one clean image.

    adversary = pgd(Threat("l2", epsilon=0.5, step_size=0.1, num_steps=20))
    adversarial = adversary(key, classifier, image, label)

An `Adversary` sees one image and a bound classifier, whose batch norm is in evaluation mode.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rsynth_jax import checks
from rsynth_jax.synthesis import ascent, objectives, projections
from rsynth_jax.types import Classifier, Image, Key, Label, Objective, Projection

Adversary = Callable[[Key, Classifier, Image, Label], Image]

BALLS = {"l2": projections.l2_ball, "linf": projections.linf_ball}


class Threat(NamedTuple):
    """What the adversary may do.

    Attributes:
      norm: "l2" or "linf".
      epsilon: radius of the ball around the clean image, in units of pixel values in [0, 1].
      step_size: length of one step, in the same norm.
      num_steps: number of steps; 1 with a random start is fast adversarial training.
    """

    norm: str
    epsilon: float
    step_size: float
    num_steps: int


def allowed(threat: Threat, image: Image) -> Projection:
    """The images within the threat's ball around `image`, and within [0, 1]."""
    ball = checks.named("norm", threat.norm, BALLS)
    return projections.chain(ball(image, threat.epsilon), projections.box())


def random_start(key: Key, threat: Threat, image: Image) -> Image:
    """A point drawn uniformly from the threat's ball around `image`, clipped to [0, 1]."""
    direction_key, radius_key = jax.random.split(key)
    if threat.norm == "linf":
        noise = jax.random.uniform(direction_key, image.shape, image.dtype, -1.0, 1.0)
    else:
        normal = jax.random.normal(direction_key, image.shape, image.dtype)
        radius = jax.random.uniform(radius_key, (), image.dtype) ** (1 / image.size)
        noise = normal * radius / jnp.linalg.norm(normal.ravel())
    return projections.box()(image + threat.epsilon * noise)


def climb(threat: Threat, objective: Objective, image: Image, start: Image) -> Image:
    """The threat's steepest ascent of `objective` from `start`, around `image`."""
    optimizer = ascent.steepest(threat.norm, threat.step_size)
    climber = ascent.projected_gradient_ascent(objective, allowed(threat, image), optimizer)
    return ascent.run(climber, start, threat.num_steps)[0]


def identity() -> Adversary:
    """No adversary: natural training."""
    return lambda key, classifier, image, label: image


def pgd(threat: Threat) -> Adversary:
    """Climb the cross-entropy from a random start (Madry et al. 2018)."""

    def adversary(key, classifier, image, label):
        start = random_start(key, threat, image)
        return climb(threat, objectives.cross_entropy(classifier, label), image, start)

    return adversary


def trades(threat: Threat) -> Adversary:
    """Climb KL(p(clean) || p(.)) from the clean image plus 0.001 N(0, I) (Zhang et al. 2019, sec. 5)."""

    def adversary(key, classifier, image, label):
        start = image + 0.001 * jax.random.normal(key, image.shape, image.dtype)
        objective = objectives.kl_divergence(classifier, classifier.logits(image))
        return climb(threat, objective, image, start)

    return adversary
