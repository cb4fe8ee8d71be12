"""A judge of classes that was never attacked: linear discriminants of EfficientNet-Lite0's features.

    judge = train(options, side=64)
    predicted = predict(judge, images)

The network is trained on ImageNet alone, and nothing here trains or samples with it.
"""

from typing import NamedTuple

import numpy as np

from benchmarks import common
from rsynth_jax.types import Bytes

NUM = 5000  # training images
SHRINKAGE = 0.3  # of the covariance within classes towards its mean variance; by held-out training images


class Judge(NamedTuple):
    weights: np.ndarray  # (d, k)
    bias: np.ndarray  # (k,)


def train(options: common.DataOptions, side: int) -> Judge:
    """Fit a judge to training images, drawn without replacement."""
    images, labels = common.read(options, "train", side=side)
    rows = np.random.default_rng(0).permutation(len(images))[:NUM]
    return fit(common.embed(images[rows]).features, labels[rows])


def fit(features: np.ndarray, labels: np.ndarray) -> Judge:
    """Fit a Gaussian to the features of each class, all of one covariance and equally likely."""
    means = np.stack([features[labels == label].mean(axis=0) for label in range(labels.max() + 1)])
    within = np.cov(features - means[labels], rowvar=False)
    within = (1 - SHRINKAGE) * within + SHRINKAGE * np.trace(within) / len(within) * np.eye(len(within))
    weights = np.linalg.solve(within, means.T)
    return Judge(weights, -np.sum(means * weights.T, axis=1) / 2)


def predict(judge: Judge, images: Bytes) -> np.ndarray:
    return np.argmax(common.embed(images).features @ judge.weights + judge.bias, axis=1)
