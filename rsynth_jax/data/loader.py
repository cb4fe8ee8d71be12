"""What a data set is, and the order in which training sees it.

    for images, labels in batches(dataset, batch_size=128, seed=0, epoch=0):
        ...

A data set is a sequence of (image uint8, label) pairs. What fits in memory is decoded once and indexed;
what does not streams through grain. `rsynth_jax.data` makes them from what users have.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np


class Arrays(NamedTuple):
    """Decoded examples: images uint8 (n, h, w, c) and labels int32 (n,)."""

    images: np.ndarray
    labels: np.ndarray


class Dataset(NamedTuple):
    """Examples and the names of their classes.

    Attributes:
      examples: `Arrays` in memory, or a random-access sequence of (image, label) to stream.
      num: how many.
      class_names: label i is class_names[i].
    """

    examples: Arrays | Sequence
    num: int
    class_names: tuple[str, ...]


def same_size(first: tuple[int, ...], other: tuple[int, ...]) -> None:
    """Raise ValueError where two images' shapes differ."""
    if first != other:
        sizes = f"{first[0]} x {first[1]} and {other[0]} x {other[1]}"
        raise ValueError(f"images of mixed size ({sizes}): give one with --image-size")


def gather(source: Sequence) -> Arrays:
    """Every example, decoded. Raises ValueError where sizes differ."""
    pairs = (source[i] for i in range(len(source)))
    first, label = next(pairs)
    images = np.empty((len(source), *first.shape), np.uint8)
    labels = np.empty(len(source), np.int32)
    images[0], labels[0] = first, label
    for i, (image, label) in enumerate(pairs, start=1):
        same_size(first.shape, image.shape)
        images[i], labels[i] = image, label
    return Arrays(images, labels)


def head(dataset: Dataset, num: int) -> Arrays:
    """The first `num` examples, decoded."""
    if isinstance(dataset.examples, Arrays):
        return Arrays(dataset.examples.images[:num], dataset.examples.labels[:num])
    return gather([dataset.examples[i] for i in range(min(num, dataset.num))])


def spread(dataset: Dataset, memory: int) -> Arrays:
    """As many examples as fit in `memory` bytes, evenly spaced over the set: all of them where they fit."""
    if isinstance(dataset.examples, Arrays):
        return dataset.examples
    num = min(dataset.num, max(1, memory // dataset.examples[0][0].size))
    return gather([dataset.examples[i * dataset.num // num] for i in range(num)])


def batches(
    dataset: Dataset, batch_size: int, seed: int, epoch: int, start: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """One epoch in random order, from batch `start` on; what does not fill a batch is left out.

    The order depends on (seed, epoch) alone, so a resumed run sees what an uninterrupted one would.
    """
    if isinstance(dataset.examples, Arrays):
        order = np.random.default_rng((seed, epoch)).permutation(dataset.num)
        for i in range(start, dataset.num // batch_size):
            chosen = order[i * batch_size : (i + 1) * batch_size]
            yield dataset.examples.images[chosen], dataset.examples.labels[chosen]
    else:
        yield from stream(dataset.examples, batch_size, seed, epoch, start)


def batches_from(
    dataset: Dataset, batch_size: int, seed: int, num_epochs: int, step: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The batches of every step from `step` on, to the end of the last epoch."""
    first, start = divmod(step, dataset.num // batch_size)
    for epoch in range(first, num_epochs):
        yield from batches(dataset, batch_size, seed, epoch, start if epoch == first else 0)


def stream(source: Sequence, batch_size: int, seed: int, epoch: int, start: int) -> Iterator:
    """The same through grain, which decodes ahead in threads."""
    import grain

    shuffled = grain.MapDataset.source(source).seed(seed + 1_000_003 * epoch).shuffle()
    batched = shuffled.batch(batch_size, drop_remainder=True)
    for images, labels in batched[start:].to_iter_dataset():
        yield images, np.asarray(labels, np.int32)
