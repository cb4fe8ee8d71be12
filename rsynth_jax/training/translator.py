"""The losses of a translator beside its games (MUNIT, Huang et al. 2018): an `Extra` of the adversarial step.

    extra = make_extra(lambda params: [bind(config, each) for each in params], Weights())
    step = make_generator_step(setup, game, optimizer, extra)

MUNIT is two games, one a domain, as one step on pairs of images, plus four losses: the generator's image is
the pair of translations (`translator.as_generator`), the critic is one of each half (`critics.of_part`,
`critics.beside`), and the losses below are the `extra`. A fifth holds the styles of images near N(0, I).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rsynth_jax.models.inversion import Posterior, divergence
from rsynth_jax.models.translator import Domain, Pair, decode_pair
from rsynth_jax.training.augmentation import Augment
from rsynth_jax.training.gan import BATCH_AXIS, Extra, Made
from rsynth_jax.types import Key, Params, Scalar

_SMALLEST = 1e-6  # variance of styles, whose logarithm is taken


class Weights(NamedTuple):
    """Weights of the losses, which are means over values, summed over domains; 0 leaves a loss out.

    Attributes:
      image: of |decode(content(x), style(x)) - x|, pixels in [-1, 1]; the paper's 10.
      content: of the content of a translation, encoded again; the paper's 1. More keeps more.
      style: of the style of a translation, encoded again; the paper's 1.
      cycle: of the image translated there and back with its own style, pixels in [-1, 1]; the paper's 10
        for photographs. More keeps more of the content.
      moment: of the divergence of the styles of a batch's images from N(0, I); not in the paper.
    """

    image: float = 10.0
    content: float = 1.0
    style: float = 1.0
    cycle: float = 10.0
    moment: float = 1.0


def make_extra(domains: Callable[[Params], Sequence[Domain]], weights: Weights) -> Extra:
    """Make the weighted losses of a pair of translations whose condition is the pair of images.

    The style loss has two names: "style_loss" is the mean over the translations of a batch in a drawn style,
    "example_style_loss" that over those in the style of an image; 0 where there are none.

    Args:
      domains: params -> the autoencoders of both domains.
    """

    def extra(params: Params, key: Key, made: Made) -> dict[str, Scalar]:
        both, real, codes = domains(params), made.real, made.code
        own = jnp.stack([domain.style(image) for domain, image in zip(both, real, strict=True)])
        found = jnp.stack([domain.style(image) for domain, image in zip(both, made.image, strict=True)])
        again = tuple(domain.content(image) for domain, image in zip(both, made.image, strict=True))
        kept = zip(again[::-1], codes.contents, strict=True)
        style = 2 * jnp.mean(jnp.abs(found - codes.styles))
        losses = {
            "image": (weights.image, pixels(decode_pair(both, codes.contents, own), real)),
            "content": (weights.content, sum(jnp.mean(jnp.abs(a - b)) for a, b in kept)),
            "style": (weights.style, mean_where(~codes.by_example, style)),
            "example_style": (weights.style, mean_where(codes.by_example, style)),
            "cycle": (weights.cycle, pixels(decode_pair(both, again[::-1], own), real)),
            "moment": (weights.moment, moment_loss(own)),
        }
        return {
            f"{name}_loss": weight * jnp.asarray(loss) for name, (weight, loss) in losses.items() if weight
        }

    return extra


def pixels(found: Pair, wanted: Pair) -> Scalar:
    """Return the mean absolute difference of two pairs of images, in [-1, 1], summed over the pair."""
    return 2 * 2 * jnp.mean(jnp.abs(found - wanted))


def mean_where(chosen: jax.Array, value: Scalar) -> Scalar:
    """Scale the value of one image so that the mean over the batch is that over the chosen images, or 0."""
    share = jax.lax.pmean(chosen.astype(jnp.float32), BATCH_AXIS)
    return jnp.where(chosen, value, 0.0) / jnp.where(share > 0, share, 1.0)


def moment_loss(styles: jax.Array) -> Scalar:
    """Return KL(N(m, v) || N(0, I)) over the number of values, summed over the rows of styles (2, d).

    m and v are the mean and the variance of each value over the batch.
    """
    mean = jax.lax.pmean(styles, BATCH_AXIS)
    variance = jax.lax.pmean((styles - mean) ** 2, BATCH_AXIS)
    return len(styles) * divergence(Posterior(mean, jnp.sqrt(variance + _SMALLEST)))


def pairwise(augment: Augment) -> Augment:
    """Return the augmentation of both images of a pair, each with a key of its own."""
    return lambda key, pair: jax.vmap(augment)(jax.random.split(key), pair)
