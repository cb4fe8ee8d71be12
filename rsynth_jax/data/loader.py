"""Decode a data set into memory, and read it in batches in the order of training.

    train = cached(labelled(load("cifar10", "train")))          # decoded once, if it fits in memory
    for images, labels in batches(train, batch_size=128, seed=0, epoch=0):
        ...
    test = in_memory(labelled(load("cifar10", "test")).first(1000))         # Arrays

A data set in memory is indexed; any other is streamed through grain, which decodes ahead in threads.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from rsynth_jax import checks, seeds
from rsynth_jax.data.sources import Dataset, Example, labelled

MEMORY = 4 << 30  # bytes of decoded images that may stay in memory
ALL = slice(None)  # rows of a batch


class Arrays(NamedTuple):
    """Decoded examples: images uint8 (n, h, w, c) and labels int32 (n,)."""

    images: np.ndarray
    labels: np.ndarray


def in_memory(dataset: Dataset, limit: int | None = None) -> Arrays:
    """Decode a labelled data set, or as many examples as fit in `limit` bytes, evenly spaced over it.

    Raises ValueError if labels are missing, or sizes differ.
    """
    dataset = labelled(dataset)
    total = len(dataset)
    shape = dataset[0].image.shape
    num = total if limit is None else min(total, max(1, limit // int(np.prod(shape))))
    if num < total:
        dataset = dataset.take(np.arange(num) * total // num)
    if dataset.decoded is not None and dataset.labels is not None:
        return Arrays(dataset.decoded, dataset.labels)
    arrays = Arrays(np.empty((num, *shape), np.uint8), np.empty(num, np.int32))
    for i in range(num):
        example = dataset[i]
        checks.same_size(shape, example.image.shape)
        arrays.images[i] = example.image
        arrays.labels[i] = example.label  # pyright: ignore[reportCallIssue, reportArgumentType]
    return arrays


def cached(dataset: Dataset, limit: int = MEMORY) -> Dataset:
    """Return a labelled data set with its images in memory, if they fit in `limit` bytes; else as it is."""
    dataset = labelled(dataset)
    if dataset[0].image.size * len(dataset) > limit:
        return dataset
    images, labels = in_memory(dataset)
    rows = np.arange(len(images))
    return dataclasses.replace(
        dataset, read=lambda row: Example(images[row]), rows=rows, decoded=images, labels=labels
    )


def check_classes(dataset: Dataset, labels: np.ndarray, least: int) -> None:
    """Raise ValueError, by name, for the first class of which there are fewer than `least` images."""
    names = dataset.class_names or ()
    counts = np.bincount(labels, minlength=len(names))
    few = np.flatnonzero(counts < least)
    if few.size:
        from_one = few.tolist() == [0] and not counts[0] and names[few[0]] == "0"
        hint = "; do its labels start at 1? subtract 1" if from_one else ""
        found = f"has {counts[few[0]]} images of the class {names[few[0]]!r}"
        raise ValueError(f"{dataset.source} {found}: training needs {least} of each{hint}")


def batches(
    dataset: Dataset, batch_size: int, seed: int, epoch: int, start: int = 0, rows: slice = ALL
) -> Iterator[Arrays]:
    """Iterate over one epoch in random order, from batch `start` on, in full batches only.

    The order depends on (seed, epoch) alone, so that a resumed run reads what an uninterrupted one would;
    a data set in memory and one that is streamed have orders of their own.

    Args:
      rows: of each batch, one of its equal parts (`sharding.own_rows`); no others are decoded.
    """
    steps = len(dataset) // batch_size
    if dataset.decoded is not None and dataset.labels is not None:
        first, last = epoch * steps + start, (epoch + 1) * steps
        for chosen in rows_between(len(dataset), batch_size, seed, first, last, rows):
            yield Arrays(dataset.decoded[chosen], dataset.labels[chosen])
        return
    import grain

    source: grain.MapDataset = grain.MapDataset.source(dataset)  # pyright: ignore[reportArgumentType]
    begin, end, _ = rows.indices(batch_size)
    part, num_parts = begin // (end - begin), batch_size // (end - begin)
    parts = source.seed(seed + 1_000_003 * epoch).shuffle().batch(end - begin, drop_remainder=True)
    for images, labels in parts[part::num_parts][start:steps].to_iter_dataset():
        yield Arrays(images, np.asarray(labels, np.int32))


def rows_between(
    num: int, batch_size: int, seed: int, first: int, last: int, rows: slice = ALL
) -> Iterator[np.ndarray]:
    """Iterate over the rows of `num` examples in memory, of the steps from `first` to `last` - 1.

    Every epoch has an order of its own, and full batches only. `rows` is as in `batches`.
    """
    steps = num // batch_size
    for epoch in range(first // steps, -(-last // steps)):
        order = seeds.rng(seed, epoch).permutation(num)
        for i in range(max(0, first - epoch * steps), min(steps, last - epoch * steps)):
            yield order[i * batch_size : (i + 1) * batch_size][rows]


def batches_from(
    dataset: Dataset, batch_size: int, seed: int, num_epochs: int, step: int, rows: slice = ALL
) -> Iterator[Arrays]:
    """Iterate over the batches of every step from `step` on, to the end of the last epoch."""
    first, start = divmod(step, len(dataset) // batch_size)
    for epoch in range(first, num_epochs):
        yield from batches(dataset, batch_size, seed, epoch, start if epoch == first else 0, rows)


def batches_between(
    dataset: Dataset, batch_size: int, seed: int, first: int, last: int, rows: slice = ALL
) -> Iterator[Arrays]:
    """Iterate over the batches of the steps from `first` to `last` - 1, in as many epochs as they take."""
    num_epochs = -(-last // (len(dataset) // batch_size))
    steps = batches_from(dataset, batch_size, seed, num_epochs, first, rows)
    return itertools.islice(steps, max(0, last - first))


def by_class(dataset: Dataset) -> list[Dataset]:
    """Split a data set whose labels are in memory: the examples of each class."""
    labels = in_memory(dataset).labels
    return [dataset.take(labels == label) for label in range(len(dataset.class_names or ()))]


def pairs_between(
    halves: tuple[Dataset, Dataset], batch_size: int, seed: int, first: int, last: int, rows: slice = ALL
) -> Iterator[Arrays]:
    """Iterate over batches of pairs, uint8 (n, 2, h, w, c), of two data sets, each in epochs of its own.

    The orders of the two are independent, so that the pairs of an epoch are not those of another. Labels
    are 0.
    """
    runs = (batches_between(half, batch_size, seed ^ i, first, last, rows) for i, half in enumerate(halves))
    for one, other in zip(*runs, strict=True):
        yield Arrays(np.stack([one.images, other.images], axis=1), np.zeros_like(one.labels))
