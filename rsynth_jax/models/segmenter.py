"""A segmenter: a U-Net (Ronneberger et al. 2015) that gives each pixel of an image one logit a class.

    config = SegmenterConfig(num_classes=6)
    segment = bind(config, variables)
    classes = segment(image).argmax(axis=-1)               # (h, w)

Blocks of 2 x 2 pixels are the channels of the first maps, and of the last, which costs half of a first layer
at full size. Twice the maps are halved, then doubled again beside those of the way down: 0.48 M parameters at
a width of 48. Batch norm is in training mode exactly while its statistics are mutable.
"""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsynth_jax import checks
from rsynth_jax.models import layers
from rsynth_jax.models.equalized import depth_to_space, doubled, space_to_depth
from rsynth_jax.types import Image, Map, Segmenter, Variables

FACTORS = (1, 2, 2)  # of the width, at each size on the way down
BLOCK = 2  # pixels a side of the blocks that are channels of the first maps
MULTIPLE = BLOCK * 2 ** (len(FACTORS) - 1)  # of which the sides of an image must be multiples


class SegmenterConfig(NamedTuple):
    """Plain data that determines a segmenter, stored as JSON.

    Attributes:
      num_classes: of each pixel.
      width: channels at the first size.
      mean, std: the first layer computes (x - mean) / std; one value, or one a channel.
    """

    num_classes: int
    width: int = 48
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)


class UNet(nn.Module):
    """Logits (n, h, w, classes) of images (n, h, w, c), see `bind`."""

    config: SegmenterConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        config = self.config
        check_size(images.shape[1:3])
        widths = [config.width * factor for factor in FACTORS]
        x = space_to_depth(layers.normalize(images, config.mean, config.std, self.dtype), BLOCK)
        kept = []
        for width in widths[:-1]:
            x = self._twice(x, width)
            kept.append(x)
            x = _pooled(x)
        x = self._twice(x, widths[-1])
        for same in reversed(kept):
            x = self._twice(jnp.concatenate([doubled(x), same], axis=-1), config.width)
        logits = nn.Conv(BLOCK**2 * config.num_classes, (1, 1), dtype=self.dtype)(x)
        return depth_to_space(logits.astype(jnp.float32), BLOCK)

    def _twice(self, x: jax.Array, width: int) -> jax.Array:
        norm = layers.batch_norm(self)
        for _ in range(2):
            x = nn.relu(norm()(layers.conv(width, 3, 1, self.dtype)(x)))
        return x


def check(config: SegmenterConfig) -> None:
    """Raise ValueError unless the description is one of a segmenter."""
    checks.positive(num_classes=config.num_classes, width=config.width, std=min(config.std, default=0.0))


def check_size(shape: tuple[int, ...]) -> None:
    """Raise ValueError unless the sides of an image can be halved as often as the network does."""
    if any(side % MULTIPLE for side in shape[:2]):
        height, width = shape[:2]
        raise ValueError(
            f"images of {height} x {width}: a segmenter takes sides that are multiples of {MULTIPLE}"
        )


def create(config: SegmenterConfig) -> UNet:
    """Make the module of a `SegmenterConfig`. Raises ValueError as `check` does."""
    check(config)
    return UNet(config)


def bind(config: SegmenterConfig, variables: Variables) -> Segmenter:
    """Close over `variables`, with batch norm in evaluation mode: logits (h, w, classes) of one image."""
    model = create(config)

    def segment(image: Image) -> Map:
        return model.apply(variables, image[None])[0]  # pyright: ignore[reportIndexIssue]

    return segment


def _pooled(x: jax.Array) -> jax.Array:
    """The maxima of 2 x 2 blocks, by pairs: where XLA computes x twice, the gradient of `max` is 0 / 0."""
    return functools.reduce(jnp.maximum, layers.windows(x, 2, 2))
