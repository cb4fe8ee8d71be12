"""What can be done to one image with arrays alone.

thumbnail = downsample(image, 4)
start = fill(image, hole)
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt8

from rsynth_jax.types import Image, Images, Key, Mask


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


def random_crop(key: Key, image: Image, padding: int) -> Image:
    """A random window of the image's own size, after zero padding on every side."""
    padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    row, column = jax.random.randint(key, (2,), 0, 2 * padding + 1)
    return jax.lax.dynamic_slice(padded, (row, column, 0), image.shape)


def random_flip(key: Key, image: Image) -> Image:
    """Mirrored left to right, half the time."""
    return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)


def random_shift(key: Key, image: Image, reach: int) -> Image:
    """Moved by up to `reach` pixels each way; what leaves on one side comes back on the other."""
    return jnp.roll(image, jax.random.randint(key, (2,), -reach, reach + 1), axis=(0, 1))


def grid(images: Images, columns: int, gap: int = 2) -> Image:
    """The images in rows of `columns`, apart by `gap` white pixels; missing ones stay white."""
    num, height, width, channels = images.shape
    rows = -(-num // columns)
    missing = rows * columns - num
    padded = jnp.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0)), constant_values=1)
    padded = jnp.pad(padded, ((0, 0), (0, gap), (0, gap), (0, 0)), constant_values=1)
    cells = padded.reshape(rows, columns, height + gap, width + gap, channels)
    return cells.swapaxes(1, 2).reshape(rows * (height + gap), columns * (width + gap), channels)
