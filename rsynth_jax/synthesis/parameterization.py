"""Other coordinates for the same ascent: as if it moved z, where image = decode(z) and decode is linear.

    optimizer = optax.chain(reparameterized(fourier), steepest(L2, 0.2))

A step dz = decode'(gradient) moves the image by decode(decode'(gradient)), so a parameterization is a
transform of gradients: the ascent, its projections and its start are unchanged.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rsynth_jax.types import Image

Shape = tuple[int, int, int]


class Parameterization(NamedTuple):
    """decode(z) -> image, linear; and the shapes of z, a tree of `jax.ShapeDtypeStruct`."""

    decode: Callable[[Any], Image]
    like: Any


Kind = Callable[[Shape], Parameterization]


def reparameterized(kind: Kind) -> optax.GradientTransformation:
    """Turn the gradient of an image into the move of the image that its counterpart in z makes."""

    def move(gradient: Any, _: Any) -> Any:
        with jax.ensure_compile_time_eval():
            decode, like = kind(gradient.shape)
        return decode(*jax.linear_transpose(decode, like)(gradient))

    return optax.stateless(move)


def pixel(shape: Shape) -> Parameterization:
    """Parameterize an image by its own values."""
    return Parameterization(lambda image: image, jax.ShapeDtypeStruct(shape, jnp.float32))


def pyramid(shape: Shape, levels: int = 4) -> Parameterization:
    """Parameterize an image as a sum of images of full, half, quarter ... size, each upsampled (bilinear).

    Coarse structure then moves as fast as fine structure (Fort and Whitaker 2025, direct ascent synthesis).
    """
    height, width, channels = shape
    sizes = [(-(-height >> level), -(-width >> level), channels) for level in range(levels)]

    def decode(images: list[Image]) -> Image:
        return sum((jax.image.resize(image, shape, "linear") for image in images), jnp.zeros(shape))

    return Parameterization(decode, [jax.ShapeDtypeStruct(size, jnp.float32) for size in sizes])


def fourier(shape: Shape, power: float = 1.0) -> Parameterization:
    """Parameterize an image by its Fourier coefficients, each times its frequency to the minus `power`.

    With power 1 the coordinates are scaled like natural images, whose amplitudes fall like 1 / f.
    """
    height, width, channels = shape
    frequencies = jnp.hypot(jnp.fft.fftfreq(height)[:, None], jnp.fft.rfftfreq(width))
    scale = jnp.maximum(frequencies, 1 / max(height, width))[:, :, None] ** -power

    def decode(parts: tuple[jax.Array, jax.Array]) -> Image:
        coefficients = jax.lax.complex(*(scale * part for part in parts))
        return jnp.fft.irfft2(coefficients, (height, width), axes=(0, 1), norm="ortho")

    part = jax.ShapeDtypeStruct((height, width // 2 + 1, channels), jnp.float32)
    return Parameterization(decode, (part, part))


PARAMETERIZATIONS = {"pixel": pixel, "fourier": fourier, "pyramid": pyramid}
