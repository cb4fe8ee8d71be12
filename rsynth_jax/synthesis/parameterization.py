"""Other coordinates for the same ascent: as if it moved z, where image = decode(z) and decode is linear.

    optimizer = optax.chain(through(pyramid(image.shape, 4)), steepest(L2, 0.2))

A step dz = decode'(gradient) moves the image by decode(decode'(gradient)), so a parameterisation is a
transform of gradients: the ascent, its projections and its start stay those of the image.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rsynth_jax.types import Image


class Coordinates(NamedTuple):
    """decode(z) -> image, linear; and what z is like, a tree of `jax.ShapeDtypeStruct`."""

    decode: Callable[[Any], Image]
    like: Any


def through(coordinates: Coordinates) -> optax.GradientTransformation:
    """Gradients of the image, as the move of the image that their counterpart in z makes."""
    transpose = jax.linear_transpose(*coordinates)
    return optax.stateless(lambda gradient, _: coordinates.decode(*transpose(gradient)))


def pyramid(shape: tuple[int, int, int], levels: int) -> Coordinates:
    """An image as the sum of images of the full size, a half, a quarter ... of it, each upsampled (bilinear).

    Coarse structure then moves as fast as fine (direct ascent synthesis).
    """
    height, width, channels = shape
    sizes = [(-(-height >> level), -(-width >> level), channels) for level in range(levels)]

    def decode(images: list[Image]) -> Image:
        return sum(jax.image.resize(image, shape, "linear") for image in images)

    return Coordinates(decode, [jax.ShapeDtypeStruct(size, jnp.float32) for size in sizes])


def spectrum(shape: tuple[int, int, int], power: float = 1.0) -> Coordinates:
    """An image as its Fourier coefficients, each times its frequency to the minus `power`.

    With the power 1 the coordinates are as natural images have them, whose amplitudes fall like 1 / f.
    """
    height, width, channels = shape
    frequencies = jnp.hypot(jnp.fft.fftfreq(height)[:, None], jnp.fft.rfftfreq(width))
    scale = jnp.maximum(frequencies, 1 / max(height, width))[:, :, None] ** -power

    def decode(parts: tuple[jax.Array, jax.Array]) -> Image:
        coefficients = jax.lax.complex(*(scale * part for part in parts))
        return jnp.fft.irfft2(coefficients, (height, width), axes=(0, 1), norm="ortho")

    part = jax.ShapeDtypeStruct((height, width // 2 + 1, channels), jnp.float32)
    return Coordinates(decode, (part, part))
