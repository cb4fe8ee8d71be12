"""Decoding into memory, and the order of training."""

import hashlib
import itertools
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image as Pillow
from tiny import refused

from rsynth_jax.data.loader import (
    MEMORY,
    batches,
    batches_between,
    batches_from,
    cached,
    in_memory,
    rows_between,
)
from rsynth_jax.data.sources import Dataset, Example, load

RNG = np.random.default_rng(0)
both_ways = pytest.mark.parametrize("memory", [MEMORY, 0], ids=["in memory", "streamed"])


def noise(*shape):
    return RNG.integers(0, 256, shape, np.uint8)


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(image).save(path)


def train(photos: Path, memory: int = MEMORY, **options) -> Dataset:
    return cached(load(f"folder:{photos}", "train", **options), memory)


def test_the_rows_of_steps_are_those_of_whole_epochs_wherever_one_begins():
    whole = list(rows_between(7, 3, 5, 0, 6))  # three epochs of two batches
    assert all(len({*map(int, np.concatenate(whole[i : i + 2]))}) == 6 for i in (0, 2, 4))
    for first in range(7):
        assert_array_equal(list(rows_between(7, 3, 5, first, 6)), whole[first:])


@both_ways
def test_the_first_images_of_a_folder_are_of_every_class(photos, memory):
    first = in_memory(train(photos, memory).first(20))
    assert len(first.labels) == 20 and set(first.labels.tolist()) == {0, 1}


def test_a_head_longer_than_the_data_set_is_all_of_it(photos):
    for memory in (MEMORY, 0):
        assert len(in_memory(train(photos, memory).first(100)).labels) == 60


def test_mixed_sizes_are_refused_and_image_size_makes_them_one(photos):
    write(photos / "train/cat/large.png", noise(16, 16, 3))
    with refused(match=r"mixed size.*--image-size"):
        train(photos)
    assert len(train(photos, image_size=8)) == 61


# ---- batches


@pytest.fixture(params=[MEMORY, 0], ids=["in memory", "streamed"])
def sixty(photos, request) -> Dataset:
    """The photos, in memory or streamed through grain."""
    dataset = train(photos, request.param)
    assert (dataset.decoded is not None) == (request.param > 0)
    return dataset


def seen(batches) -> list[list[int]]:
    return [images[:, 0, 0, 0].tolist() for images, _ in batches]


def test_an_epoch_hands_out_every_image_at_most_once_in_full_batches(sixty):
    epoch = list(batches(sixty, 16, seed=0, epoch=0))
    assert [len(labels) for _, labels in epoch] == [16, 16, 16]
    drawn = list(itertools.chain(*seen(epoch)))
    assert len(set(drawn)) == 48
    assert_array_equal(
        np.concatenate([labels for _, labels in epoch]), [int(number < 40) for number in drawn]
    )
    assert all(images.dtype == np.uint8 and labels.dtype == np.int32 for images, labels in epoch)


def test_the_order_depends_on_the_seed_and_the_epoch_alone(sixty):
    orders = {key: seen(batches(sixty, 16, *key)) for key in [(0, 0), (0, 1), (1, 0)]}
    assert seen(batches(sixty, 16, 0, 0)) == orders[0, 0]
    assert all(orders[one] != orders[other] for one, other in itertools.combinations(orders, 2))


@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_an_epoch_from_batch_k_on_is_the_rest_of_an_uninterrupted_one(sixty, start):
    assert seen(batches(sixty, 16, 3, 2, start)) == seen(batches(sixty, 16, 3, 2))[start:]


def test_streamed_or_in_memory_the_examples_are_the_same(photos):
    kept, streamed = (train(photos, memory) for memory in (MEMORY, 0))
    assert len(streamed) == len(kept) and streamed.class_names == kept.class_names
    for one, other in zip(in_memory(streamed), (kept.decoded, kept.labels), strict=True):
        assert_array_equal(one, other)


def test_what_fits_in_a_limit_is_evenly_spaced_over_the_data_set(sixty):
    everything = in_memory(sixty)
    some = in_memory(sixty, limit=20 * everything.images[0].size + 1)
    assert_array_equal(some.images, everything.images[::3])
    assert_array_equal(some.labels, everything.labels[::3])
    assert len(in_memory(sixty, limit=1).labels) == 1


def test_the_batches_from_a_step_on_are_the_rest_of_all_epochs(sixty):
    whole = [batch for epoch in range(3) for batch in seen(batches(sixty, 16, 5, epoch))]
    for step in (0, 2, 3, 7, 9):
        assert seen(batches_from(sixty, 16, 5, 3, step)) == whole[step:]
        assert seen(batches_between(sixty, 16, 5, step, 8)) == whole[step:8]


@pytest.mark.parametrize(
    ("memory", "digest"),
    [(MEMORY, "8072d080462b5b61"), (0, "3dd802f7a499873d")],
    ids=["in memory", "streamed"],
)
def test_the_order_of_an_epoch_never_changes(memory, digest):
    """A run that an earlier version began is resumed with the images that it has not seen."""
    numbers = np.arange(200, dtype=np.uint8)
    examples = [Example(number.reshape(1, 1, 1), 0) for number in numbers]
    dataset = cached(Dataset("numbers", examples.__getitem__, np.arange(200), ("number",)), memory)
    order = np.concatenate([images.ravel() for images, _ in batches(dataset, 10, 1, 2)])
    assert hashlib.sha256(order.tobytes()).hexdigest()[:16] == digest
