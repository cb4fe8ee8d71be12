"""Critics: networks that score how real an image is. Their convolutions have no strides.

    pixels = pixel_critic(10, pixel_widths(32))
    critic = beside(pixels, robust_critic(classifier, moments(classifier, images), 10))
    scores = critic.score(params, critic.view(image), label)

A critic that sees a robust classifier's maps alone leaves a grid in the pixels below its stem: the robust
critic is an addition to a pixel critic.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsynth_jax.models.equalized import Conv, Dense, halved, leaky_relu, space_to_depth
from rsynth_jax.types import Classifier, Critic, Image, Images, Key, Label, Map

HEAD_SIDE = 4  # pixels of the map from which a head scores


class Score(nn.Module):
    """The score of a map (n, h, w, c) and a class: linear, plus the product with the class's embedding."""

    width: int
    num_classes: int

    @nn.compact
    def __call__(self, x, labels):
        x = leaky_relu(Dense(self.width)(x.reshape(len(x), -1)))
        table = self.param("classes", nn.initializers.normal(1.0), (self.num_classes, self.width))
        return Dense(1)(x)[:, 0] + jnp.sum(table[labels] * x, axis=-1) / self.width**0.5


class PixelCritic(nn.Module):
    """Space-to-depth, then 3 x 3 convolutions of `widths`, a tuple for each size; means halve the sizes."""

    widths: tuple[tuple[int, ...], ...]
    num_classes: int

    @nn.compact
    def __call__(self, images, labels):
        x = _trunk(images, self.widths)
        return Score(self.widths[-1][-1], self.num_classes)(x, labels)[:, None]


class PatchCritic(nn.Module):
    """The same convolutions, then a score for each position of the last map: of a patch of the image."""

    widths: tuple[tuple[int, ...], ...]

    @nn.compact
    def __call__(self, images, labels):
        return Conv(1, 1)(_trunk(images, self.widths)).reshape(len(images), -1)


def _trunk(images: jax.Array, widths: tuple[tuple[int, ...], ...]) -> jax.Array:
    """The convolutions of a critic of pixels: modules of the one that calls it."""
    x = space_to_depth(images, 2)
    for size, own in enumerate(widths):
        x = halved(x) if size else x
        for width in own:
            x = leaky_relu(Conv(width)(x))
    return x


class MapHeads(nn.Module):
    """A head for each of a classifier's maps (n, h, w, c)."""

    width: int
    num_classes: int

    @nn.compact
    def __call__(self, maps, labels):
        scores = []
        for x in maps:
            x = leaky_relu(Conv(self.width, 1)(x))
            while x.shape[1] > HEAD_SIDE:
                x = halved(leaky_relu(Conv(self.width)(x)))
            x = leaky_relu(Conv(self.width)(x))
            scores.append(Score(self.width, self.num_classes)(x, labels))
        return jnp.stack(scores, axis=-1)


def pixel_widths(side: int, most: int = 128) -> tuple[tuple[int, ...], ...]:
    """Choose the widths of a pixel critic for images of `side` pixels.

    Args:
      side: a power of two, 8 or more.
      most: channels at 4 and at 8 pixels; each doubling of the size halves them.

    Returns:
      The channels of each convolution, a tuple for each size from side / 2 down to 4: two, but one at 4.

    Raises:
      ValueError: the side is no power of two, or too small.
    """
    if side < 2 * HEAD_SIDE or side & (side - 1):
        raise ValueError(f"a pixel critic's side is {side}: give a power of two, {2 * HEAD_SIDE} or more")
    sizes = [2**i for i in range(side.bit_length() - 2, 1, -1)]
    widths = [max(1, min(most, 8 * most // size)) for size in sizes]
    return tuple(
        (width,) * (1 if size == HEAD_SIDE else 2) for size, width in zip(sizes, widths, strict=True)
    )


def pixel_critic(num_classes: int, widths: tuple[tuple[int, ...], ...]) -> Critic:
    """Make a critic of the pixels, scaled from [0, 1] to [-2, 2].

    Args:
      widths: see `pixel_widths`.
    """
    return _critic(PixelCritic(widths, num_classes), lambda image: 4 * image - 2)


def patch_critic(side: int, most: int = 128) -> Critic:
    """Make a critic of patches (Isola et al. 2017), of images of any class, scaled from [0, 1] to [-2, 2].

    Its sizes are side / 2, / 4 and / 8, those of 1 pixel or more, and a position of the last is a score: at
    64 pixels, 64 patches of 30 x 30.

    Args:
      side: of its images, 2 or more, a power of two.
      most: channels of the last size; each doubling of the size halves them.
    """
    widths = tuple((max(1, most * 2**halving // 8),) for halving in (1, 2, 3) if side >> halving)
    return _critic(PatchCritic(widths), lambda image: 4 * image - 2)


def of_part(critic: Critic, part: Callable[[Any], Image]) -> Critic:
    """Return the critic of a part of an image, such as one of a pair, or of the image at another size."""
    return Critic(
        init=lambda key, image: critic.init(key, part(image)),
        view=lambda image: critic.view(part(image)),
        score=critic.score,
    )


class Moments(NamedTuple):
    """Mean and deviation of each channel, (c,) for each of a classifier's maps."""

    mean: tuple[jax.Array, ...]
    deviation: tuple[jax.Array, ...]


def moments(classifier: Classifier, images: Images) -> Moments:
    """Measure the maps of images (n, h, w, c) in [0, 1]."""
    maps = jax.vmap(classifier.maps)(images)
    means, deviations = zip(*((x.mean((0, 1, 2)), x.std((0, 1, 2))) for x in maps), strict=True)
    return Moments(means, deviations)


def standardized(classifier: Classifier, seen: Moments) -> Callable[[Image], tuple[Map, ...]]:
    """Return the function from an image to the classifier's maps, standardized by their moments."""

    def maps(image: Image) -> tuple[Map, ...]:
        triples = zip(classifier.maps(image), seen.mean, seen.deviation, strict=True)
        return tuple((x - mean) / (deviation + 1e-6) for x, mean, deviation in triples)

    return maps


def robust_critic(classifier: Classifier, seen: Moments, num_classes: int, width: int = 64) -> Critic:
    """Make a critic with a head on each map of a frozen classifier, standardized by its moments.

    Args:
      classifier: of images whose side is a power of two.
      seen: the moments of its maps, see `moments`.
      num_classes: of the generator's data, which may be others than the classifier's.
      width: channels of a head.
    """
    return _critic(MapHeads(width, num_classes), standardized(classifier, seen))


def beside(first: Critic, second: Critic) -> Critic:
    """Return both critics as one: the views of both, and the scores of both, one after the other."""

    def init(key: Key, image: Image) -> tuple[Any, Any]:
        keys = jax.random.split(key)
        return first.init(keys[0], image), second.init(keys[1], image)

    def score(params: Any, view: Any, label: Label):
        scores = first.score(params[0], view[0], label), second.score(params[1], view[1], label)
        return jnp.concatenate(scores)

    return Critic(init, lambda image: (first.view(image), second.view(image)), score)


def _critic(model: nn.Module, view: Callable[[Image], Any]) -> Critic:
    def batch_of_one(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf[None], tree)

    return Critic(
        init=lambda key, image: model.init(key, batch_of_one(view(image)), jnp.zeros(1, jnp.int32)),
        view=view,
        score=lambda params, seen, label: model.apply(params, batch_of_one(seen), label[None])[0],
    )
