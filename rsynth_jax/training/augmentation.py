"""Augmentation of one image, differentiable (Zhao et al. 2020): of real and generated images alike.

    augment = chain(color(0.25, 1.0, 0.5), translation(1 / 8), cutout(1 / 2))
    seen = augment(key, image)

Gradients pass through to the generator. Pixels that an augmentation removes are grey, 0.5.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from rsynth_jax.types import Image, Key

Augment = Callable[[Key, Image], Image]
GREY = 0.5


def identity(key: Key, image: Image) -> Image:
    """The image itself."""
    return image


def chain(*augments: Augment) -> Augment:
    """One after the other, each with a key of its own."""

    def augment(key: Key, image: Image) -> Image:
        keys = jax.random.split(key, len(augments))
        return functools.reduce(lambda x, part: part[0](part[1], x), zip(augments, keys, strict=True), image)

    return augment


def color(brightness: float, saturation: float, contrast: float) -> Augment:
    """Add up to +- `brightness`, then scale the saturation and the contrast, each by a factor in 1 +- amount.

    Zhao et al. use brightness 0.5 on images in [-1, 1], so 0.25 here, saturation 1 and contrast 0.5.
    """

    def augment(key: Key, image: Image) -> Image:
        draws = jax.random.uniform(key, (3,), minval=-1, maxval=1)
        shift, saturate, sharpen = draws * jnp.array([brightness, saturation, contrast])
        image = image + shift
        grey = image.mean(axis=-1, keepdims=True)
        image = grey + (1 + saturate) * (image - grey)
        return image.mean() + (1 + sharpen) * (image - image.mean())

    return augment


def translation(share: float) -> Augment:
    """Move by whole pixels, up to this share of the side each way, in [0, 1]; Zhao et al. use 1 / 8."""

    def augment(key: Key, image: Image) -> Image:
        height, width, _ = image.shape
        most = round(share * height), round(share * width)
        bounds = jnp.array(most)
        down, right = jax.random.randint(key, (2,), -bounds, bounds + 1)
        rows, columns = _shift(height, down), _shift(width, right)
        moved = jnp.einsum("ih,hwc,jw->ijc", rows, image - GREY, columns, precision="highest")
        return GREY + moved

    return augment


def cutout(share: float) -> Augment:
    """Replace a rectangle with grey, centered anywhere, of this share of each side; Zhao et al. use 1 / 2."""

    def augment(key: Key, image: Image) -> Image:
        middle = jax.random.uniform(key, (2,))
        inside = [
            jnp.abs((jnp.arange(side, dtype=jnp.float32) + 0.5) / side - center) < share / 2
            for side, center in zip(image.shape[:2], middle, strict=True)
        ]
        return jnp.where(inside[0][:, None, None] & inside[1][None, :, None], GREY, image)

    return augment


def _shift(side: int, by: jax.Array) -> jax.Array:
    """The matrix that moves `side` values by some places; on a CPU faster than a gather and a scatter."""
    places = jnp.arange(side)
    return (places[:, None] - by == places[None, :]).astype(jnp.float32)
