"""Measure images by the outputs of a network: scores of a set against another, energies, detection.

scores = score(extractor, generated, real)
print(scores["fd"].value, scores["fd"].low, scores["fd"].high)
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import numpy as np
from jaxtyping import Float

from rsynth_jax import checks
from rsynth_jax.metrics import frechet, inception_score, kernel, neighbors, ranking
from rsynth_jax.metrics.estimates import Estimate
from rsynth_jax.sampling import embedding
from rsynth_jax.sampling.embedding import Embedding, Images
from rsynth_jax.storage.extractors import Extractor

FEWEST = 6  # images that can be scored: a fifth neighbour, and the image itself
SCORES = ("fd", "kid_x1000", "inception_score", "precision", "recall", "density", "coverage")

Track = Callable[[Iterable], Iterable]  # wraps a loop, as a progress bar does


def score(
    extractor: Extractor, generated: Images, real: Images, *, seed: int = 0, batch_size: int = 50
) -> dict[str, Estimate]:
    """Score generated images against real ones by the features of a network.

    Args:
      extractor: the network, see `rsynth_jax.storage.extractors.load`.
      generated: images uint8 (h, w, c), 6 or more.
      real: images uint8 (h, w, c), 6 or more; they may be of another size.
      seed: of the blocks of KID and the resamples of the Inception Score.
      batch_size: images computed together.

    Returns:
      An estimate with its 95 % interval for each of `SCORES`: Fréchet distance and 1000 times KID (lower is
      better), the Inception Score of the generated images, precision, recall, density, coverage.

    Raises:
      ValueError: there are too few images, or the network takes no such images.
    """
    for images in (generated, real):
        checks.enough("a comparison", FEWEST, len(images))
    found = [
        embedding.embed_images(extractor.model, extractor.variables, s, batch_size) for s in (generated, real)
    ]
    return compare(found[0], found[1].features, seed=seed)


def compare(
    generated: Embedding, real: Float[np.ndarray, "n d"], *, seed: int = 0, track: Track = iter
) -> dict[str, Estimate]:
    """Score an embedding of generated images against the features of real ones, see `score`."""
    features = generated.features
    rng = functools.partial(np.random.default_rng, seed)
    measures: Mapping[tuple[str, ...], Callable[[], Sequence[Estimate]]] = {
        ("fd",): lambda: [frechet.frechet_estimate(features, real)],
        ("kid_x1000",): lambda: [_thousandfold(kernel.kid(features, real, rng()))],
        ("inception_score",): lambda: [inception_score.inception_score(generated.logits, rng())],
        ("precision", "recall"): lambda: neighbors.precision_recall(features, real),
        ("density", "coverage"): lambda: neighbors.density_coverage(features, real),
    }
    found = {}
    for names, measure in track(measures.items()):
        found |= zip(names, measure(), strict=True)
    return {name: found[name] for name in SCORES}


def _thousandfold(estimate: Estimate) -> Estimate:
    return Estimate(1000 * estimate.value, 1000 * estimate.low, 1000 * estimate.high)


def energies(
    model: nn.Module, variables: Any, images: Images, *, batch_size: int = 100, track: Track = iter
) -> Float[np.ndarray, " n"]:
    """Measure the log-sum-exp of each image's logits: log p(image) + const of an energy-based classifier."""
    batch_size = min(batch_size, len(images))
    batches = embedding.in_batches(images, batch_size, track)
    logits = embedding.embed(model, variables, batches, batch_size).logits
    most = logits.max(axis=1)
    return most + np.log(np.exp(logits - most[:, None]).sum(axis=1))


def detect(model: nn.Module, variables: Any, inside: Images, outside: Images) -> Estimate:
    """Measure the chance that an image of the training distribution has more energy than another.

    Args:
      model: a classifier.
      variables: its weights.
      inside: images uint8 (h, w, c) like those of training, two or more.
      outside: other images, two or more.

    Returns:
      The AUROC (1: always, 0.5: no difference) with its 95 % interval by DeLong's variance.
    """
    return ranking.auroc(energies(model, variables, inside), energies(model, variables, outside))
