"""Before a training: a classifier to start from, and as many epochs as fit into a time.

name, accuracy = nearest(images, labels)                  # "cat-dog-64", 0.93
seconds = seconds_a_step(run.trainer, state, batch, run.keys[1])
plan = fitted(int(left / seconds), run.steps_per_epoch, evaluation)
"""

import math
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from rsynth_jax import messages
from rsynth_jax.models import embedding
from rsynth_jax.storage import release_files, releases
from rsynth_jax.training.state import Trainer
from rsynth_jax.types import Bytes, Key

_MOST = 10  # evaluations in a run
_SHARE = 0.2  # of the time, for all evaluations, if one takes no more
_IMAGES = 2000  # to compare classifiers on, at most
_BATCH = 100
_FIRST = 2  # steps that may compile: the second one where the first one's state has another layout
_STEPS = 3  # that are timed, or more
_SECONDS = 2.0  # for which steps are timed, or longer


class Plan(NamedTuple):
    """The length of a training, and the epochs from one evaluation to the next."""

    num_epochs: int
    judge_every: int


def fitted(num_steps: int, epoch: int, evaluation: int) -> Plan:
    """Plan as many epochs as fit into a time, and up to ten evaluations in equal parts of it.

    Args:
      num_steps: the time, in steps of training.
      epoch: steps of an epoch.
      evaluation: of the time of so many steps; the last epoch is always evaluated.
    """
    num = max(1, min(_MOST, int(_SHARE * num_steps / evaluation)))
    num_epochs = max(0, num_steps - num * evaluation) // epoch
    return Plan(num_epochs, max(1, math.ceil(num_epochs / num)))


def seconds_a_step(trainer: Trainer[Any], state: Any, batch: Any, key: Key) -> tuple[float, float]:
    """Measure a train step: the seconds of its first two runs, which compile it, and of each one after.

    The steps are taken from a copy of the state, which stays as it is.
    """
    state = jax.tree.map(jnp.copy, state)
    laps: list[float] = []
    while len(laps) < _FIRST + _STEPS or sum(laps[_FIRST:]) < _SECONDS:
        began = time.perf_counter()
        state, metrics = trainer.step(state, key, *batch)
        jax.block_until_ready((state, metrics))
        laps.append(time.perf_counter() - began)
    return sum(laps[:_FIRST]), float(np.mean(laps[_FIRST:]))


def nearest(images: Bytes, labels: np.ndarray) -> tuple[str, float]:
    """Find the released classifier whose penultimate features separate classes best, see `separation`.

    Args:
      images: uint8 (n, h, w, c), of the side of the classifier; of more than 2,000 evenly spaced ones count.
      labels: int (n,).

    Returns:
      The classifier's name, and the accuracy.

    Raises:
      ValueError: no classifier that is here, or has an address, has images of this size.
    """
    chosen = np.arange(0, len(images), -(-len(images) // _IMAGES))
    found: dict[str, float] = {}
    shapes = set()
    for name in release_files.available(release_files.CLASSIFIER):
        release = releases.load(name)
        shapes.add(" x ".join(map(str, release.image_shape[:2])))
        if release.image_shape == images.shape[1:]:
            shown = embedding.embed_images(release.model, release.variables, images[chosen], _BATCH)
            found[name] = separation(shown.features, labels[chosen])
    if not found:
        size = " x ".join(map(str, images.shape[1:]))
        known = messages.listed(sorted(shapes))
        raise ValueError(
            f"no released classifier here has images of {size}, but of {known}:"
            " give --start CLASSIFIER or --image-size, or set RSYNTH_RELEASES"
        )
    name = max(found, key=found.__getitem__)
    return name, found[name]


def separation(features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"]) -> float:
    """Measure the accuracy of the nearest class mean, the mean over the classes, in [0, 1].

    Features are divided by their standard deviations. The mean of an image's own class is taken without it.
    """
    scaled = features / np.maximum(features.std(axis=0), 1e-6)
    classes, own = np.unique(labels, return_inverse=True)
    counts = np.bincount(own)
    means = np.stack([scaled[own == i].mean(axis=0) for i in range(len(classes))])
    distances = np.stack([np.square(scaled - mean).sum(axis=1) for mean in means], axis=1)
    rows = np.arange(len(own))
    others = np.maximum(counts - 1, 1)[own]
    distances[rows, own] *= np.square(counts[own] / others)  # |x - m'| = |x - m| n / (n - 1)
    correct = distances.argmin(axis=1) == own
    return float(np.mean([correct[own == i].mean() for i in range(len(classes))]))
