"""AlexNet's convolutions (Krizhevsky 2014), whose five layers LPIPS compares (Zhang et al. 2018, v0.1)."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsynth_jax.models import layers
from rsynth_jax.types import Image, Map

Params = tuple[tuple[jax.Array, jax.Array], ...]  # (kernel HWIO, bias) of each layer


class Layer(NamedTuple):
    """A convolution: the shape (height, width, in, out) of its kernel, its stride and its padding."""

    shape: tuple[int, int, int, int]
    stride: int
    padding: int


LAYERS = (
    Layer((11, 11, 3, 64), 4, 2),
    Layer((5, 5, 64, 192), 1, 2),
    Layer((3, 3, 192, 384), 1, 1),
    Layer((3, 3, 384, 256), 1, 1),
    Layer((3, 3, 256, 256), 1, 1),
)
_POOLED = (1, 2)  # layers after a 3 x 3 max pool of stride 2
_MEAN, _STD = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of LPIPS, for images in [-1, 1]
_AXES = ("NHWC", "HWIO", "NHWC")  # of input, kernel and output
_SMALLEST = 31  # pixels a side that leave one position after the pools


def features(params: Params, image: Image) -> tuple[Map, ...]:
    """Compute the outputs (h', w', c') of the five ReLUs, from fine to coarse, for one image in [0, 1].

    The channel of a grey image is repeated. Raises ValueError for a side below 31 pixels.
    """
    if min(image.shape[:2]) < _SMALLEST:
        raise ValueError(f"an image of {image.shape[:2]} is too small: LPIPS needs {_SMALLEST} pixels a side")
    colours = jnp.broadcast_to(image, (*image.shape[:2], 3))[None]
    x = layers.normalize(2.0 * colours - 1.0, _MEAN, _STD, jnp.float32)
    maps = []
    for index, (layer, (kernel, bias)) in enumerate(zip(LAYERS, params, strict=True)):
        x = nn.max_pool(x, (3, 3), (2, 2), "VALID") if index in _POOLED else x
        pads = [(layer.padding, layer.padding)] * 2
        x = jax.lax.conv_general_dilated(x, kernel, [layer.stride] * 2, pads, dimension_numbers=_AXES)
        x = nn.relu(x + bias)
        maps.append(x[0])
    return tuple(maps)
