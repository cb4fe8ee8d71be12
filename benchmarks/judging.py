"""The judge of every benchmark of images: what an ImageNet EfficientNet-Lite0 makes of them.

    judge = judge_of(test_images)
    distance = frechet_estimate(judge.features(made), judge.real)

Neither the classifiers nor the samplers here ever saw it. Needs the extra `[eval]`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from rsynth_jax.sampling import embedding
from rsynth_jax.storage import extractors

BATCH = 50


class Judge(NamedTuple):
    """What images are held against.

    Attributes:
      features: uint8 images (n, h, w, 3) -> features (n, 1280).
      real: the features of the real images.
    """

    features: Callable[[np.ndarray], np.ndarray]
    real: np.ndarray


def judge_of(real: np.ndarray) -> Judge:
    """The network, and what it makes of the real images, uint8 (n, h, w, 3)."""
    extractor = extractors.load("efficientnet-lite0")

    def features(images: np.ndarray) -> np.ndarray:
        batches = embedding.in_batches(images, BATCH)
        return embedding.embed(extractor.model, extractor.variables, batches, BATCH).features

    return Judge(features, features(real))
