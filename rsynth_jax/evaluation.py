"""Judging a classifier: who is right, on clean images and under attack.

right = judge(jax.jit(make_eval_step(model, pgd(threat))), variables, key, images, labels)
print(right.clean.mean(), right.adversarial.mean())
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rsynth_jax import parallel
from rsynth_jax.attacks import Adversary
from rsynth_jax.images import decode
from rsynth_jax.models import bind
from rsynth_jax.types import Key


class Right(NamedTuple):
    """Of each image, bool (n,): whether the class was right on it, clean and attacked."""

    clean: np.ndarray
    adversarial: np.ndarray


def make_eval_step(model: nn.Module, adversary: Adversary) -> Callable:
    """(variables, keys (n,), images uint8 (n, h, w, c), labels (n,)) -> Right."""

    def right(classifier, image, label):
        return jnp.argmax(classifier.logits(image)) == label

    def evaluate(variables, key, image, label):
        classifier = bind(model, variables)
        clean = decode(image)
        adversarial = adversary(key, classifier, clean, label)
        return Right(right(classifier, clean, label), right(classifier, adversarial, label))

    return jax.vmap(evaluate, (None, 0, 0, 0))


def judge(
    eval_step: Callable,
    variables,
    key: Key,
    images,
    labels,
    batch_size: int = 100,
    track: Callable[[range], Iterable[int]] = iter,
) -> Right:
    """`eval_step` over any number of images, in batches of one size; image i draws from key i alone.

    `track` wraps the loop over the batches, as a progress bar does.
    """
    devices = parallel.over_devices(batch_size)
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(len(labels)))
    variables, parts = devices.replicate(variables), []
    for start in track(range(0, len(labels), batch_size)):
        chosen = np.arange(start, start + batch_size) % len(labels)  # the last batch wraps around
        batch = devices.split((keys[chosen], images[chosen], labels[chosen]))
        parts.append(jax.device_get(eval_step(variables, *batch)))
    return Right(*(np.concatenate(part)[: len(labels)] for part in zip(*parts, strict=True)))
