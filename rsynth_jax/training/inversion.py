"""The losses of an inverter beside the adversarial one (Dosovitskiy & Brox 2016): an `Extra` of the step.

    compare = standardized(comparator, moments(comparator, images))
    extra = make_extra(encoder_of, compare, Weights(feature=10.0, image=10.0, kl=0.05))
    step = make_generator_step(setup, scaled(GAMES["relativistic"], 1.0), optimizer, extra)

The paper's losses are sums, with weights of 0.01, 100 and 2e-6 for features, game and image. These are means,
so that a weight means the same at any size.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from rsynth_jax.models.inversion import Posterior, divergence
from rsynth_jax.training.gan import Extra, Made
from rsynth_jax.types import Image, Key, Map, Params, Representation, Scalar

Compare = Callable[[Image], tuple[Map, ...]]
MakeEncoder = Callable[[Params], Callable[[Representation], Posterior]]


class Weights(NamedTuple):
    """Weights of the losses; a weight of 0 leaves a loss out."""

    feature: float
    image: float
    kl: float = 0.0


def feature_loss(compare: Compare, fake: Image, real: Image) -> Scalar:
    """Average the squared difference of two images' maps over the values of each map, then over the maps."""
    pairs = zip(compare(fake), compare(real), strict=True)
    return jnp.mean(jnp.stack([jnp.mean((a - b) ** 2) for a, b in pairs]))


def make_extra(encoder: MakeEncoder, compare: Compare, weights: Weights) -> Extra:
    """Make the weighted losses of a generated image whose condition is (label, representation).

    Args:
      encoder: params -> the posterior of a representation, for the divergence.
      compare: an image's maps, such as `critics.standardized`.
    """

    def extra(params: Params, key: Key, made: Made) -> dict[str, Scalar]:
        losses = {
            "feature": (weights.feature, lambda: feature_loss(compare, made.image, made.real)),
            "image": (weights.image, lambda: jnp.mean((made.image - made.real) ** 2)),
            "kl": (weights.kl, lambda: divergence(encoder(params)(made.condition[1]))),
        }
        return {f"{name}_loss": weight * loss() for name, (weight, loss) in losses.items() if weight}

    return extra
