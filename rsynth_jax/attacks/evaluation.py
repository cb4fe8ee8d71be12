"""Accuracy of a classifier, on clean images and under attack.

attacks = standard(threat, num_classes=10)
found = evaluate(model, variables, images, labels, threat, attacks, key=jax.random.key(0))
print(found.clean.mean(), found.robust.mean())
"""

import functools
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from rsynth_jax import sharding
from rsynth_jax.attacks.autoattack import Attack
from rsynth_jax.attacks.runner import BATCH_SIZE, Examples, image_keys, make_runner, run_attack
from rsynth_jax.attacks.threats import Threat
from rsynth_jax.images import decode
from rsynth_jax.models import bind, embedding
from rsynth_jax.types import Bytes, Key, Variables

Callback = Callable[[Attack, int, int, int], None]  # an attack, and the three counts of `runner.Callback`


class Evaluation(NamedTuple):
    """Which of n images are classified correctly.

    Attributes:
      clean: before any attack, bool (n,).
      remaining: after each attack and all before it, bool (n,) each.
      seconds: of the clean predictions, then of each attack, compilation included.
    """

    clean: Bool[np.ndarray, " n"]
    remaining: tuple[Bool[np.ndarray, " n"], ...]
    seconds: tuple[float, ...]

    @property
    def robust(self) -> Bool[np.ndarray, " n"]:
        """Which images are correct under every attack, bool (n,)."""
        return (self.clean, *self.remaining)[-1]


def evaluate(
    model: nn.Module,
    variables: Variables,
    images: Bytes,
    labels: Int[np.ndarray, " n"],
    threat: Threat,
    attacks: Sequence[Attack],
    *,
    key: Key,
    part: slice = slice(None),
    batch_size: int = BATCH_SIZE,
    callback: Callback | None = None,
) -> Evaluation:
    """Classify the images, then attack those still classified correctly, one attack after the other.

    The images uint8 (n, h, w, c) have labels in [0, k). `attacks` are `autoattack.standard`, or any sequence;
    none for clean accuracy. The attacks of image i draw from `key` and i: the result does not depend on
    `batch_size`, nor on the `part` of the images that is evaluated.
    """
    keys = image_keys(key, len(images))[part]
    images = images[part]
    labels = labels[part]
    if not len(images):
        raise ValueError("no images: give one or more, of several processes at least one for each")
    began = time.perf_counter()
    logits = predict_logits(model, variables, images, batch_size)
    examples = Examples(images, labels, logits)
    clean = correct(logits, labels)
    found = Evaluation(clean, (), (time.perf_counter() - began,))
    for attack in attacks:
        began = time.perf_counter()
        runner = make_runner(model, threat, attack)
        progress = None if callback is None else functools.partial(callback, attack)
        result = run_attack(runner, variables, keys, examples, found.robust, batch_size, progress)
        remaining = (*found.remaining, found.robust & ~result.broken)
        found = Evaluation(clean, remaining, (*found.seconds, time.perf_counter() - began))
    return found


def merged(found: Evaluation, num: int) -> Evaluation:
    """Join what several processes found, each for its `sharding.own_part` of `num` images."""
    clean, *remaining = (sharding.merged(each, num) for each in (found.clean, *found.remaining))
    return Evaluation(clean, tuple(remaining), found.seconds)


def correct(logits: Array | np.ndarray, labels: Array | np.ndarray) -> np.ndarray:
    """Check whether the logits (n, k) are finite and the largest is the label's, bool (n,)."""
    finite = np.isfinite(logits).all(axis=-1)
    return finite & (np.asarray(logits).argmax(axis=-1) == np.asarray(labels))


def predict_logits(
    model: nn.Module, variables: Variables, images: Bytes, batch_size: int = BATCH_SIZE
) -> Float[np.ndarray, "n k"]:
    """Compute the logits float32 (n, k), finite or not, of images uint8 (n, h, w, c)."""
    size = sharding.padded(min(batch_size, len(images)))
    return embedding.apply(logits_program(model), variables, embedding.in_batches(images, size), size)


@functools.lru_cache(maxsize=16)
def logits_program(model: nn.Module) -> embedding.Program:
    """Compile (variables, images uint8 (n, h, w, c)) -> logits (n, k), once for each model."""
    return jax.jit(jax.vmap(lambda variables, image: bind(model, variables).logits(decode(image)), (None, 0)))
