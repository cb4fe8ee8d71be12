"""Data parallelism: as many devices as divide the batch, and each its own part."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from rsynth_jax import sharding

BATCH = np.arange(48, dtype=np.float32).reshape(16, 3)


def num_devices(array) -> int:
    return len(array.sharding.device_set)


@pytest.mark.parametrize(
    ("batch_size", "devices"), [(1, 1), (2, 2), (7, 7), (8, 8), (9, 3), (11, 1), (12, 6), (128, 8)]
)
def test_a_batch_is_split_over_the_largest_number_of_devices_that_divides_it(batch_size, devices):
    assert jax.device_count() == 8
    assert num_devices(sharding.over_devices(batch_size).split(np.zeros((batch_size, 2)))) == devices


@pytest.mark.parametrize(("batch_size", "size"), [(1, 1), (5, 5), (8, 8), (9, 16), (100, 104), (128, 128)])
def test_a_padded_batch_leaves_no_device_idle(batch_size, size):
    assert sharding.padded(batch_size) == size
    devices = sharding.over_devices(size)
    assert num_devices(devices.split(np.zeros(size))) == min(batch_size, jax.device_count())


def test_every_device_has_its_own_part_of_a_split_batch():
    split = sharding.over_devices(16).split({"images": BATCH, "labels": np.arange(16)})
    assert_array_equal(split["images"], BATCH)
    for name, shape in (("images", (2, 3)), ("labels", (2,))):
        shards = split[name].addressable_shards
        assert len({shard.device for shard in shards}) == 8
        assert {shard.data.shape for shard in shards} == {shape}
        rows = np.concatenate(
            [shard.data for shard in sorted(shards, key=lambda shard: shard.index[0].start)]
        )
        assert_array_equal(rows, split[name])


def test_every_device_has_all_of_what_is_replicated():
    copied = sharding.over_devices(16).place({"w": BATCH})["w"]
    assert copied.sharding.is_fully_replicated and num_devices(copied) == 8
    for shard in copied.addressable_shards:
        assert_array_equal(shard.data, BATCH)


def test_keys_are_split_like_any_array():
    keys = jax.random.split(jax.random.key(0), 16)
    split = sharding.over_devices(16).split(keys)
    assert num_devices(split) == 8
    assert_array_equal(jax.random.key_data(split), jax.random.key_data(keys))


def test_a_function_of_split_arrays_runs_on_all_devices_and_gives_the_same():
    devices = sharding.over_devices(16)
    weights = np.full((3, 2), 0.5, np.float32)
    product = jax.jit(jnp.matmul)(devices.split(BATCH), devices.place(weights))
    assert num_devices(product) == 8 and not product.sharding.is_fully_replicated
    assert_array_equal(product, BATCH @ weights)
