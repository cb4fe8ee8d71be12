"""AlexNet's convolutions (Krizhevsky 2014), whose five layers LPIPS compares (Zhang et al. 2018, v0.1).

    maps = features(params, image)                 # five, from fine to coarse

A plain function of weights that others trained: a (kernel, bias) pair a layer, kernels in HWIO.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsynth_jax.models import layers
from rsynth_jax.types import Image

SHIFT = (-0.030, -0.088, -0.188)  # what LPIPS normalises images in [-1, 1] with
SCALE = (0.458, 0.448, 0.450)
SMALLEST = 31  # pixels a side that leave one position after the pools

Params = tuple[tuple[jax.Array, jax.Array], ...]


class Layer(NamedTuple):
    """A convolution: its shape, (height, width, in, out), its stride and its padding."""

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
POOLED = (1, 2)  # layers that a 3 x 3 max pool of stride 2 stands before


def convolve(x: jax.Array, kernel: jax.Array, layer: Layer) -> jax.Array:
    """The layer's convolution of (n, h, w, c)."""
    pads, numbers = [(layer.padding, layer.padding)] * 2, ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, [layer.stride] * 2, pads, dimension_numbers=numbers)


def features(params: Params, image: Image) -> tuple[jax.Array, ...]:
    """The five outputs (h', w', c') of the ReLUs, for one image in [0, 1] of any size from 31 pixels on.

    A grey image counts as one whose three channels are equal. Raises ValueError for a smaller one.
    """
    if min(image.shape[:2]) < SMALLEST:
        raise ValueError(f"an image of {image.shape[:2]} is too small: LPIPS needs {SMALLEST} pixels a side")
    colours = jnp.broadcast_to(image, (*image.shape[:2], 3))[None]
    x, maps = layers.normalize(2.0 * colours - 1.0, SHIFT, SCALE, jnp.float32), []
    for index, (layer, (kernel, bias)) in enumerate(zip(LAYERS, params, strict=True)):
        x = nn.max_pool(x, (3, 3), (2, 2), "VALID") if index in POOLED else x
        x = nn.relu(convolve(x, kernel, layer) + bias)
        maps.append(x[0])
    return tuple(maps)
