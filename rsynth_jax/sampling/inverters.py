"""A learned inverter on whole arrays: one pass, passes repeated, few activations, draws of the prior.

    classifier, inverter = releases.load("cat-dog-64"), inverters.load("faces-deepsim-64")
    again = invert_by(classifier, inverter, photos)              # again.images, again.distance
    rounds = reencode(classifier, inverter, photos, rounds=8)    # rounds.images[:, 0] is again.images
    faint = invert_by(classifier, inverter, photos, strongest=5)
    closer = samplers.invert_from(classifier, photos, again.images)   # then the ascent

Arguments that mean the same everywhere:

  release: the classifier, the one whose representations the inverter reads.
  inverter: of images of the classifier's size.
  images: uint8 (n, h, w, c).
  batch_size: images computed together; it changes the speed, and the results by no more than rounding.

Each raises ValueError, in one line, for another classifier, images of another size, and numbers that make no
sense.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8

from rsynth_jax import checks, models, seeds
from rsynth_jax.images import decode, encode
from rsynth_jax.models import embedding, inversion
from rsynth_jax.models.embedding import Embedding
from rsynth_jax.models.inversion import InverterConfig
from rsynth_jax.sampling import runner
from rsynth_jax.sampling.runner import BATCH_SIZE
from rsynth_jax.storage import inverters
from rsynth_jax.storage.inverters import InverterRelease
from rsynth_jax.storage.releases import Release
from rsynth_jax.types import Bytes, Key


class Reconstruction(NamedTuple):
    """Images of representations.

    Attributes:
      images: uint8 (n, h, w, c).
      distance: |R(image) - R| / |R|, R the penultimate features of the given image.
      predicted: the class of each image.
      predicted_given: the class of the given one.
    """

    images: Bytes
    distance: Float[np.ndarray, " n"]
    predicted: Int[np.ndarray, " n"]
    predicted_given: Int[np.ndarray, " n"]


class Rounds(NamedTuple):
    """Images of representations of images of representations ...: the fields of `Reconstruction` by round."""

    images: UInt8[np.ndarray, "n r h w c"]
    distance: Float[np.ndarray, "n r"]  # from the features of the given image
    predicted: Int[np.ndarray, "n r"]
    predicted_given: Int[np.ndarray, " n"]


def invert_by(
    release: Release,
    inverter: InverterRelease,
    images: Bytes,
    *,
    strongest: int | None = None,
    batch_size: int = BATCH_SIZE,
) -> Reconstruction:
    """Make the image of each image's representation in one pass; of a variational inverter, by the mean code.

    Args:
      strongest: keep so many of the activations, those farthest from their mean over training images, and
        set the others to their mean; by default all. A map has h * w * c activations.

    Raises:
      ValueError: the representation has fewer activations, or the images do not fit.
    """
    checks.given(checks.positive, strongest=strongest)
    num = math.prod(inverter.config.shape)
    if strongest is not None and strongest > num:
        raise ValueError(f"strongest is {strongest}: the representation has {num} activations")
    made = _one_pass(release, inverter, images, strongest, batch_size)
    return _reconstruction(release, images, made, batch_size)


def reencode(
    release: Release,
    inverter: InverterRelease,
    images: Bytes,
    rounds: int = 8,
    *,
    batch_size: int = BATCH_SIZE,
) -> Rounds:
    """Invert the images, then invert the results, and so on; round 0 is the one pass.

    Args:
      rounds: number of passes.
    """
    checks.positive(rounds=rounds)
    made, found = images, []
    for _ in range(rounds):
        made = _one_pass(release, inverter, made, None, batch_size)
        found.append(_reconstruction(release, images, made, batch_size))
    columns = {
        name: np.stack([getattr(each, name) for each in found], axis=1)
        for name in ("images", "distance", "predicted")
    }
    return Rounds(**columns, predicted_given=found[0].predicted_given)


def decode_prior(
    inverter: InverterRelease, num: int = 8, *, seed: int = 0, batch_size: int = BATCH_SIZE
) -> Bytes:
    """Make `num` images of codes drawn from N(0, I), by a variational inverter: no class is given.

    Image i depends on (seed, i) alone.
    """
    checks.positive(num=num)
    if not inverter.config.latent_size:
        raise ValueError("this inverter is not variational: its codes are not near N(0, I)")
    weights = (inverter.variables, seeds.key(seed))
    parts = runner.batches(_drawn(inverter.config), weights, (np.arange(num),), min(batch_size, num))
    return _finite(parts)


def _reconstruction(release: Release, images: Bytes, made: Bytes, batch_size: int) -> Reconstruction:
    outputs: Callable[[Bytes], Embedding] = functools.partial(
        embedding.embed_images, release.model, release.variables, batch_size=batch_size
    )
    given, found = outputs(images), outputs(made)
    lengths = np.maximum(np.linalg.norm(given.features, axis=1), 1e-12)
    distance = np.linalg.norm(found.features - given.features, axis=1) / lengths
    return Reconstruction(made, distance, found.predicted, given.predicted)


def _one_pass(
    release: Release, inverter: InverterRelease, images: Bytes, strongest: int | None, batch_size: int
) -> Bytes:
    inverters.check_classifier(inverter, release)
    checks.images(images)
    if images.shape[1:] != inverter.image_shape:
        made, given = (" x ".join(map(str, shape)) for shape in (inverter.image_shape, images.shape[1:]))
        raise ValueError(f"the inverter makes images of {made}, these are {given}: give its size")
    inputs = (images,) if strongest is None else (images, np.full(len(images), strongest, np.int32))
    weights = (release.variables, inverter.variables, inverter.moments)
    size = min(batch_size, max(1, len(images)))
    return _finite(runner.batches(_inverted(release.model, inverter.config), weights, inputs, size))


def _finite(parts: Iterator[tuple[Bytes, np.ndarray]]) -> Bytes:
    """The images of all batches. Raises ValueError if a number was not finite."""
    batches = list(parts)
    if not all(finite.all() for _, finite in batches):
        raise ValueError("an image holds NaN or infinity: give another inverter")
    return np.concatenate([images for images, _ in batches])


@functools.lru_cache(maxsize=16)
def _inverted(model: nn.Module, config: InverterConfig) -> Callable[..., tuple[jax.Array, jax.Array]]:
    represent = inversion.reader(config.layer)

    def inverted(weights: Any, image: jax.Array, num: jax.Array | None = None) -> Any:
        variables, own, seen = weights
        kept = represent(models.bind(model, variables).outputs(decode(image)))
        if num is not None:
            kept = inversion.strongest(kept, seen, num)
        made = inversion.decoder(config, own)(inversion.encoder(config, own, seen)(kept).mean)
        return encode(made), jnp.isfinite(made).all()

    return inverted


@functools.lru_cache(maxsize=16)
def _drawn(config: InverterConfig) -> Callable[..., tuple[jax.Array, jax.Array]]:
    def drawn(weights: tuple[Any, Key], number: jax.Array) -> tuple[jax.Array, jax.Array]:
        variables, key = weights
        latent = jax.random.normal(jax.random.fold_in(key, number), config.code_shape)
        made = inversion.decoder(config, variables)(latent)
        return encode(made), jnp.isfinite(made).all()

    return drawn
