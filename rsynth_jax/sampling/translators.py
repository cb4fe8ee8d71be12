"""A learned translator on whole arrays: drawn styles, styles of examples, the way between styles.

    release = load("cat-dog-munit-64")
    dogs = translate_by(release, cats, "dog", styles=5, seed=0)          # dogs.images[:, j] has style j
    like = translate_like(release, cats, "dog", others)                  # like.images[:, j] that of others[j]
    frames = blend_styles(release, cats, "dog", styles=4, frames=10)     # from each style to the next

Arguments that mean the same everywhere:

  release: the translator.
  images: uint8 (n, h, w, c), of the domain that is not `to`.
  to: the domain to translate into, by name or number.
  seed: of the drawn styles. Style j of image i depends on (seed, i, j) alone.
  batch_size: translations made together, those of one image at least; it changes the speed, and the results
    by no more than rounding.

Each raises ValueError, in one line, for a class that the translator does not have, images of another size,
and numbers that make no sense.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from rsynth_jax import checks, models, seeds
from rsynth_jax.images import decode, encode
from rsynth_jax.models import translator
from rsynth_jax.models.translator import TranslatorConfig
from rsynth_jax.sampling import runner
from rsynth_jax.sampling.runner import BATCH_SIZE
from rsynth_jax.storage.translators import TranslatorRelease
from rsynth_jax.types import Bytes


class Translations(NamedTuple):
    """Translations of n images, in k styles each.

    Attributes:
      images: uint8 (n, k, h, w, c).
      styles: (n, k, d).
      style_error: mean absolute difference of each translation's style, encoded again, from its style.
    """

    images: UInt8[np.ndarray, "n k h w c"]
    styles: Float[np.ndarray, "n k d"]
    style_error: Float[np.ndarray, "n k"]


def translate_by(
    release: TranslatorRelease,
    images: Bytes,
    to: str | int,
    *,
    styles: int = 5,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
) -> Translations:
    """Translate each image in so many styles, drawn from N(0, I)."""
    checks.positive(styles=styles)
    drawn = _drawn_styles(release.config.style_size, len(images), styles, seed)
    return _translated(release, images, to, drawn, batch_size)


def translate_like(
    release: TranslatorRelease,
    images: Bytes,
    to: str | int,
    examples: Bytes,
    *,
    batch_size: int = BATCH_SIZE,
) -> Translations:
    """Translate each image in the style of each example, uint8 (k, h, w, c), of the domain `to`."""
    _check(release, examples)
    domain = release.variables[models.label_of(to, release.class_names)]
    parts = runner.batches(_styles(release.config), domain, (examples,), batch_size)
    found = np.concatenate(list(parts))
    styles = np.broadcast_to(found, (len(images), *found.shape))
    return _translated(release, images, to, styles, batch_size)


def blend_styles(
    release: TranslatorRelease,
    images: Bytes,
    to: str | int,
    *,
    styles: int = 4,
    frames: int = 10,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
) -> Translations:
    """Go from each drawn style to the next, and from the last to the first: k = styles * frames.

    Frame j * frames is that of style j. The way is cos(t) a + sin(t) b, t from 0 to pi / 2, which has the
    distribution N(0, I) at every t.
    """
    checks.positive(frames=frames, styles=styles)
    if styles < 2:
        raise ValueError(f"styles is {styles}: the way between styles needs 2 or more")
    stops = _drawn_styles(release.config.style_size, len(images), styles, seed)[:, :, None]
    t = np.linspace(0, np.pi / 2, frames, endpoint=False, dtype=np.float32)[:, None]
    way = np.cos(t) * stops + np.sin(t) * np.roll(stops, -1, axis=1)
    return _translated(release, images, to, way.reshape(len(images), styles * frames, -1), batch_size)


def _drawn_styles(size: int, num: int, styles: int, seed: int) -> Float[np.ndarray, "n k d"]:
    rows, columns = np.indices((num, styles)).reshape(2, -1)
    draw = jax.vmap(lambda key: jax.random.normal(key, (size,)))
    return np.asarray(draw(seeds.keys(seed, rows, columns))).reshape(num, styles, size)


def _check(release: TranslatorRelease, images: Bytes) -> None:
    """Raise ValueError unless images are of the translator's size, and there are some."""
    checks.images(images)
    if images.shape[1:] != release.image_shape:
        own, given = (" x ".join(map(str, shape)) for shape in (release.image_shape, images.shape[1:]))
        raise ValueError(f"the translator's images are {own}, these are {given}: give its size")
    checks.enough("a translation", 1, len(images))


def _translated(
    release: TranslatorRelease, images: Bytes, to: str | int, styles: np.ndarray, batch_size: int
) -> Translations:
    _check(release, images)
    label = models.label_of(to, release.class_names)
    weights = release.variables[1 - label], release.variables[label]
    size = min(max(1, batch_size // styles.shape[1]), len(images))
    parts = list(runner.batches(_translate(release.config), weights, (images, styles), size))
    made, errors = (np.concatenate(column) for column in zip(*parts, strict=True))
    if not np.isfinite(errors).all():
        raise ValueError("an image holds NaN or infinity: give another translator")
    return Translations(made, styles, errors)


@functools.lru_cache(maxsize=16)
def _translate(config: TranslatorConfig) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """(weights of the source and of the target, image, styles (k, d)) -> images (k, ...), errors (k,)."""

    def translate(weights: Any, image: jax.Array, styles: jax.Array) -> tuple[jax.Array, jax.Array]:
        source, target = (translator.bind(config, variables) for variables in weights)
        content = source.content(decode(image))

        def one(style: jax.Array) -> tuple[jax.Array, jax.Array]:
            made = target.decode(content, style)
            return encode(made), jnp.mean(jnp.abs(target.style(made) - style))

        return jax.vmap(one)(styles)

    return translate


@functools.lru_cache(maxsize=16)
def _styles(config: TranslatorConfig) -> Callable[..., jax.Array]:
    return lambda weights, image: translator.bind(config, weights).style(decode(image))
