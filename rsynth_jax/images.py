"""Array functions of one image.

thumbnail = downsample(image, 4)
start = harmonic_fill(image, mask)
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt8

from rsynth_jax.types import Image, Key, Mask, Weights

ROUNDS = 1000  # of conjugate gradients at most: they stop at a residual of 1e-5 of the first


def decode(image: UInt8[Array, "h w c"]) -> Image:
    """Bytes 0 ... 255 as float32 in [0, 1]."""
    return image.astype(jnp.float32) / 255


def encode(image: Image) -> UInt8[Array, "h w c"]:
    """Values in [0, 1] as the nearest bytes 0 ... 255."""
    return jnp.round(jnp.clip(image, 0, 1) * 255).astype(jnp.uint8)


def downsample(image: Image, factor: int) -> Image:
    """Means of factor x factor blocks. Raises ValueError where the sides do not divide."""
    height, width, channels = image.shape
    if height % factor or width % factor:
        raise ValueError(f"an image of {height} x {width} does not divide into blocks of {factor}")
    blocks = image.reshape(height // factor, factor, width // factor, factor, channels)
    return blocks.mean(axis=(1, 3))


def upsample(image: Image, factor: int, method: str = "nearest") -> Image:
    """`factor` times the height and the width; methods as in `jax.image.resize`."""
    height, width, channels = image.shape
    return jax.image.resize(image, (height * factor, width * factor, channels), method)


def fill(image: Image, hole: Mask) -> Image:
    """The image with its hole filled by the mean color of the rest (the paper's start of inpainting)."""
    known = ~hole
    mean = jnp.sum(jnp.where(known, image, 0.0), axis=(0, 1)) / jnp.maximum(
        jnp.sum(known, dtype=image.dtype), 1
    )
    return jnp.where(hole, mean, image)


def neighbors(image: Image) -> Image:
    """Average every pixel's four neighbours; at an edge the pixel itself replaces the missing one."""
    wide = jnp.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
    return (wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]) / 4


def harmonic_fill(image: Image, missing: Weights) -> Image:
    """The image with what is missing stretched between what is known, as a soap film over a frame.

    It solves x = (1 - w) image + w neighbors(x), w = `missing`: the image where w is 0, Laplace's equation
    where it is 1, so that no extremum lies inside, and a blend between. With x = fill + s z and s^2 = w,
    (1 - s neighbors s) z = s (neighbors(fill) - fill) is symmetric: conjugate gradients solve it.
    """
    filled = fill(image, missing >= 1)
    root = jnp.sqrt(missing)
    slope = root * (neighbors(filled) - filled)
    film, _ = jax.scipy.sparse.linalg.cg(lambda z: z - root * neighbors(root * z), slope, maxiter=ROUNDS)
    return filled + root * film


def blends(image: Image, missing: Weights) -> tuple[Image, Image]:
    """The least and the greatest of (1 - w) image + w y over all y in [0, 1], w = `missing`: a box."""
    least = image - missing * image
    return least, least + missing


def random_crop(key: Key, image: Image, padding: int) -> Image:
    """A random window of the image's own size, after zero padding on every side."""
    return _random_window(key, image, padding, "constant")


def random_flip(key: Key, image: Image) -> Image:
    """Mirrored left to right, half the time."""
    return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)


def random_shift(key: Key, image: Image, max_shift: int) -> Image:
    """Move by up to `max_shift` pixels each way; what comes in at a border is the mirror image of it."""
    return _random_window(key, image, max_shift, "symmetric")


def _random_window(key: Key, image: Image, padding: int, mode: str) -> Image:
    padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)), mode)
    row, column = jax.random.randint(key, (2,), 0, 2 * padding + 1)
    return jax.lax.dynamic_slice(padded, (row, column, 0), image.shape)
