"""Judging a classifier: who is right, on clean images and under attack.

judge = make_judge(model, threat, standard(threat, num_classes=10))
right = judge(variables, key, images, labels)
print(right.clean.mean(), right.adversarial.mean())
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np

from rsynth_jax import sharding as parallel
from rsynth_jax.attacks import runner as siege
from rsynth_jax.attacks.autoattack import Attack
from rsynth_jax.attacks.runner import BATCH_SIZE, Examples
from rsynth_jax.attacks.threats import Threat
from rsynth_jax.images import decode
from rsynth_jax.models import bind


class Right(NamedTuple):
    """Of each image, bool (n,): whether the class was right on it, clean and attacked."""

    clean: np.ndarray
    adversarial: np.ndarray


def make_logits(model: nn.Module) -> Callable:
    """(variables, images uint8 (n, h, w, c)) -> logits (n, k)."""

    def logits(variables, image):
        return bind(model, variables).logits(decode(image))

    return jax.vmap(logits, (None, 0))


def seen(logits: Callable, variables, images, labels, batch_size: int = BATCH_SIZE) -> Examples:
    """The images with their labels and the logits they get, in batches of one size."""
    devices = parallel.over_devices(batch_size)
    variables, parts = devices.replicate(variables), []
    for start in range(0, len(labels), batch_size):
        chosen = np.arange(start, start + batch_size) % len(labels)  # the last batch wraps around
        parts.append(np.asarray(logits(variables, devices.split(images[chosen]))))
    return Examples(images, labels, np.concatenate(parts)[: len(labels)])


def right(logits, labels):
    """Whose largest logit is the label's, bool (n,)."""
    return logits.argmax(axis=-1) == labels


def make_judge(model: nn.Module, threat: Threat, attacks: Sequence[Attack]) -> Callable:
    """(variables, key, images, labels, batch_size) -> Right, after all attacks one after the other."""
    logits = jax.jit(make_logits(model))
    sieges = [siege.make_siege(model, threat, attack) for attack in attacks]

    def judge(variables, key, images, labels, batch_size=BATCH_SIZE) -> Right:
        victims = seen(logits, variables, images, labels, batch_size)
        clean = standing = right(victims.logits, labels)
        for each in sieges:
            fallen = siege.run_attack(each, variables, key, victims, standing, batch_size)
            standing = standing & ~fallen.images
        return Right(clean, standing)

    return judge
