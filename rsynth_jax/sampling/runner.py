"""A climb carried out on many images: batch after batch over all devices, and what became of each.

    climb = synthesis.stages(model, synthesis.with_optimizer(task, steepest(L2, 0.1)), num_steps=20)
    frames = expedition.frames(climb, release.variables, lambda rows: (starts[rows], labels[rows]), 1000, 40)
    found = expedition.outcome(model, release.variables, frames[0], frames[-1], labels, 40)

Images leave as bytes, and every figure is of those bytes: of what is written, not of what was computed.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Float, Int, UInt8

from rsynth_jax import sharding as parallel
from rsynth_jax.images import encode
from rsynth_jax.sampling import embedding
from rsynth_jax.synthesis import class_gaussians
from rsynth_jax.synthesis.projections import box
from rsynth_jax.types import Images, Key

Bytes = UInt8[np.ndarray, "n h w c"]


def draws(
    key: Key, class_seeds: class_gaussians.ClassGaussians, shape: tuple[int, int, int]
) -> Callable[[np.ndarray, np.ndarray], Images]:
    """(labels (n,), numbers (n, m)) -> starts: row r by its class's Gaussian and (key, *numbers[r]) alone."""

    @jax.jit
    def starts(class_seeds, labels, numbers):
        def draw(label, numbers):
            return box()(
                class_gaussians.sample(
                    functools.reduce(jax.random.fold_in, numbers, key), class_seeds, label, shape
                )
            )

        return jax.vmap(draw)(labels, numbers)

    return functools.partial(starts, class_seeds)


def frames(
    climb: Callable,
    variables: Any,
    rows_of: Callable[[np.ndarray], tuple],
    num: int,
    batch_size: int,
    track: Callable[[range], Iterable[int]] = iter,
) -> list[Bytes]:
    """All `num` images at the start and after each chunk of steps.

    Args:
      climb: as `synthesis.stages` makes it.
      rows_of: the inputs of the images with these indices, a batch each; the last batch wraps around.
      track: wraps the loop over batches, as a progress bar does.
    """
    batch_size = min(batch_size, num)
    devices, batches = parallel.over_devices(batch_size), []
    placed = devices.replicate(variables)
    for start in track(range(0, num, batch_size)):
        rows = np.arange(start, start + batch_size) % num
        stages = climb(placed, *devices.split(rows_of(rows)))
        batches.append([np.asarray(jax.vmap(encode)(stage)) for stage in stages])
    return [np.concatenate(stage)[:num] for stage in zip(*batches, strict=True)]


class Outcome(NamedTuple):
    """What became of n images that climbed towards their labels.

    Attributes:
      seen_start, seen: the class the network saw in each before, and sees now.
      log_prob_start, log_prob: log p(label) before and now.
      l2_moved: from start to end, in pixel values of [0, 1].
    """

    seen_start: Int[np.ndarray, " n"]
    seen: Int[np.ndarray, " n"]
    log_prob_start: Float[np.ndarray, " n"]
    log_prob: Float[np.ndarray, " n"]
    l2_moved: Float[np.ndarray, " n"]


def embedded(
    model: nn.Module,
    variables: Any,
    images: Sequence,
    batch_size: int,
    track: Callable[[range], Iterable[int]] = iter,
) -> embedding.Embedding:
    """What the network makes of images uint8 (n, h, w, c), in batches no larger than there are images."""
    batch_size = min(batch_size, len(images))
    return embedding.embed(model, variables, embedding.in_batches(images, batch_size, track), batch_size)


def logits(model: nn.Module, variables: Any, images: Sequence, batch_size: int) -> np.ndarray:
    """Of images uint8 (n, h, w, c): logits (n, k)."""
    return embedded(model, variables, images, batch_size).logits


def seen(model: nn.Module, variables: Any, images: Sequence, batch_size: int) -> Int[np.ndarray, " n"]:
    """The class that the network sees in each image."""
    return np.int32(logits(model, variables, images, batch_size).argmax(axis=1))


def outcome(model: nn.Module, variables: Any, start: Bytes, end: Bytes, labels, batch_size: int) -> Outcome:
    """The start and the end of each image compared, as `model` sees them."""
    both = np.array(jax.nn.log_softmax(logits(model, variables, np.concatenate([start, end]), batch_size)))
    before, after = np.split(both, 2)
    chosen = np.arange(len(labels)), labels
    moved = np.linalg.norm((end / 255.0 - start / 255.0).reshape(len(labels), -1), axis=1)
    return Outcome(before.argmax(axis=1), after.argmax(axis=1), before[chosen], after[chosen], moved)


def numbers(found: Outcome, described: Sequence[dict]) -> dict[str, Any]:
    """The means over all images, and each image's own numbers under its description, as plain values."""
    columns = {name: getattr(found, name) for name in ("log_prob_start", "log_prob", "l2_moved")}
    each = [
        about | {name: float(column[i]) for name, column in columns.items()}
        for i, about in enumerate(described)
    ]
    return {name: float(column.mean()) for name, column in columns.items()} | {"images": each}
