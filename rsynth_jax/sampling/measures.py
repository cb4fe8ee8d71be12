"""Measure images and units by the outputs of a network: scores of a set against another, energies, weights.

made, given = (embed_images(model, variables, images, 50) for images in (generated, real))
scores = compare(made, given.features)
print(scores["fd"].value, scores["fd"].low, scores["fd"].high)
"""

import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from rsynth_jax import checks, models, seeds
from rsynth_jax.images import decode
from rsynth_jax.metrics import frechet, inception_score, kernel, neighbors
from rsynth_jax.metrics.estimates import Estimate
from rsynth_jax.models import embedding
from rsynth_jax.models.embedding import Embedding, Images, Track
from rsynth_jax.sampling.runner import log_prob
from rsynth_jax.storage import files, paths
from rsynth_jax.storage.extractors import Extractor
from rsynth_jax.storage.releases import Release
from rsynth_jax.synthesis import objectives
from rsynth_jax.types import Bytes

LOW = 0.05  # share of test images that are taken for unlike them, by `low_p`
FEWEST = 6  # images that can be scored: a fifth neighbour, and the image itself
SCORES = ("fd", "kid_x1000", "inception_score", "precision", "recall", "density", "coverage")


def compare(
    generated: Embedding, real: Float[np.ndarray, "n d"], *, seed: int = 0, track: Track = iter
) -> dict[str, Estimate]:
    """Score an embedding of generated images against the features of real ones, 6 or more of each.

    Args:
      seed: of the blocks of KID and the resamples of the Inception Score.

    Returns:
      An estimate with its 95 % interval for each of `SCORES`: Fréchet distance and 1000 times KID (lower is
      better), the Inception Score of the generated images, precision, recall, density, coverage.
    """
    features = generated.features
    rng = functools.partial(seeds.rng, seed)
    measures: dict[tuple[str, ...], Callable[[], Sequence[Estimate]]] = {
        ("fd",): lambda: [frechet.frechet_estimate(features, real)],
        ("kid_x1000",): lambda: [Estimate(*(1000 * each for each in kernel.kid(features, real, rng())))],
        ("inception_score",): lambda: [inception_score.inception_score(generated.logits, rng())],
        ("precision", "recall"): lambda: neighbors.precision_recall(features, real),
        ("density", "coverage"): lambda: neighbors.density_coverage(features, real),
    }
    found = {}
    for names, measure in track(measures.items()):
        found |= zip(names, measure(), strict=True)
    return {name: found[name] for name in SCORES}


def real_features(
    extractor: Extractor, images: Images, path: Path | None, *, batch_size: int = 50, track: Track = iter
) -> Float[np.ndarray, "n d"]:
    """Compute the features of real images, or read them from the .npz that an earlier call wrote to `path`.

    Raises ValueError if the file cannot be read, or is that of another network or of other images.
    """
    batch_size = min(batch_size, len(images))
    total = hashlib.sha256()
    batches = embedding.hashed(embedding.in_batches(images, batch_size, track), total)
    if path is None or not paths.is_file(path):
        features = embedding.embed(extractor.model, extractor.variables, batches, batch_size).features
        if path is not None:
            digests = {"images": np.array(total.hexdigest()), "network": np.array(extractor.digest)}
            files.write_arrays(path, {"features": features} | digests)
        return features
    stored = files.read_arrays(path, "features", "images", "network")
    if str(stored["network"]) != extractor.digest:
        raise ValueError(f"{path} holds features of another network than {extractor.name}: give another FILE")
    for _ in batches:
        pass
    if str(stored["images"]) != total.hexdigest():
        raise ValueError(f"{path} holds features of other images: give another FILE")
    checks.features("a comparison", len(images), stored["features"])
    return stored["features"]


def low_p(model: nn.Module, variables: Any, images: Bytes, batch_size: int = 100) -> float:
    """Measure which value the largest probability of one image in twenty is below."""
    outputs = embedding.embed_images(model, variables, images, batch_size)
    return float(np.quantile(np.exp(log_prob(outputs, outputs.predicted)), LOW))


def energies(
    model: nn.Module, variables: Any, images: Images, *, batch_size: int = 100, track: Track = iter
) -> Float[np.ndarray, " n"]:
    """Measure the log-sum-exp of each image's logits: log p(image) + const of an energy-based classifier."""
    logits = embedding.embed_images(model, variables, images, batch_size, track).logits
    most = logits.max(axis=1)
    return most + np.log(np.exp(logits - most[:, None]).sum(axis=1))


class Resemblance(NamedTuple):
    """How far n images are from n others; 0 where they agree."""

    perceptual: Float[np.ndarray, " n"]  # distance over the classifier's own layers, `objectives.perceptual`
    rmse: Float[np.ndarray, " n"]  # root mean square difference of values in [0, 1]


def resemblance(
    model: nn.Module, variables: Any, images: Bytes, others: Bytes, *, batch_size: int = 100
) -> Resemblance:
    """Measure how far images are from others, uint8 (n, h, w, c) both, for a classifier that has maps."""
    starts = range(0, len(images), batch_size)
    pairs = [(images[i : i + batch_size], others[i : i + batch_size]) for i in starts]
    parts = [jax.device_get(_resemblance(model)(variables, *pair)) for pair in pairs]
    return Resemblance(*map(np.concatenate, zip(*parts, strict=True)))


@functools.lru_cache(maxsize=16)
def _resemblance(model: nn.Module) -> Callable[[Any, Bytes, Bytes], tuple[jax.Array, jax.Array]]:
    def compare(variables: Any, *pair: jax.Array) -> tuple[jax.Array, jax.Array]:
        image, other = map(decode, pair)
        alike = objectives.perceptual(models.bind(model, variables), other)
        return -alike(image), jnp.sqrt(jnp.mean((image - other) ** 2))

    return jax.jit(jax.vmap(compare, (None, 0, 0)))


def unit_weights(release: Release) -> Float[np.ndarray, "d k"]:
    """Return the weights with which the logits read the units; k is 0 where the last layer is not known."""
    if models.LAST in release.variables.get("params", {}):
        return np.asarray(models.readout(release.variables)[0])
    images = jax.ShapeDtypeStruct((1, *release.image_shape), jnp.float32)
    outputs = jax.eval_shape(release.model.apply, release.variables, images)
    return np.empty((outputs.features.shape[-1], 0), np.float32)


def units_by_effect(
    weights: Float[np.ndarray, "d k"], features: Float[np.ndarray, "n d"] | None = None
) -> Int[np.ndarray, " d"]:
    """Sort the units of the penultimate layer by what they do to the probabilities, the largest first.

    It is |weights[unit] - mean(weights[unit])|, times the deviation of the unit's values on real images. A
    unit that moves all logits alike moves no probability. Units that are on for every image, whose mean is
    farther from 0 than their deviation, come after all others: of the released classifiers they climb to
    noise.

    Args:
      weights: with which the logits read the units, see `unit_weights`.
      features: the units' values on real images.
    """
    effect = np.linalg.norm(weights - weights.mean(axis=1, keepdims=True), axis=1)
    if features is None:
        return np.argsort(-effect, kind="stable")
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    return np.lexsort((-effect * deviation, np.abs(mean) > deviation))


def readers(weights: Float[np.ndarray, " k"], class_names: Sequence[str]) -> dict[str, float]:
    """Name the weights with which the classes read a unit, the largest first."""
    order = np.argsort(-weights, kind="stable")
    return {str(class_names[label]): float(weights[label]) for label in order}
