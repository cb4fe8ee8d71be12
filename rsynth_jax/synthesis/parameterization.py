"""Other coordinates for the same ascent: as if it moved z, where image = decode(z) and decode is linear.

    optimizer = optax.chain(reparameterized(named("fourier:0.2")), steepest(L2, 0.2))

A step dz = decode'(gradient) moves the image by decode(decode'(gradient)), so a parameterization is a
transform of gradients: the ascent, its projections and its start are unchanged.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rsynth_jax import checks
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

    With power 1 the coordinates are scaled like natural images, whose amplitudes fall like 1 / f; with 0 an
    ascent moves as it does in pixels.
    """
    height, width, channels = shape
    columns = jnp.fft.rfftfreq(width)
    frequencies = jnp.hypot(jnp.fft.fftfreq(height)[:, None], columns)
    stands_for = jnp.where((columns > 0) & (columns < 0.5), 2, 1)  # coefficients: it and its conjugate
    scale = jnp.maximum(frequencies, 1 / max(height, width)) ** -power / jnp.sqrt(stands_for)

    def decode(parts: tuple[jax.Array, jax.Array]) -> Image:
        coefficients = jax.lax.complex(*(scale[:, :, None] * part for part in parts))
        return jnp.fft.irfft2(coefficients, (height, width), axes=(0, 1), norm="ortho")

    part = jax.ShapeDtypeStruct((height, width // 2 + 1, channels), jnp.float32)
    return Parameterization(decode, (part, part))


@functools.cache
def fourier_of(power: float) -> Kind:
    """Return `fourier` of a power in [0, 2], the same function for the same power; `pixel` for 0."""
    checks.power(power=power)
    return functools.partial(fourier, power=power) if power else pixel


PARAMETERIZATIONS = {"pixel": pixel, "fourier": fourier, "pyramid": pyramid}


def named(name: str) -> Kind:
    """Return the parameterization of a name: pixel, pyramid, fourier (of power 1) or fourier:POWER.

    Raises ValueError for a name that does not exist, or a power outside of [0, 2].
    """
    kind, _, power = name.partition(":")
    if kind != "fourier" or not power:
        return checks.named("parameterization", name, PARAMETERIZATIONS)
    try:
        number = float(power)
    except ValueError:
        raise ValueError(f"{power[:40]!r} is no power: give fourier:0.2, or another from 0 to 2") from None
    return fourier_of(number)
