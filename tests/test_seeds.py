"""Seeds: all 64 bits count, and a seed of 32 bits draws what JAX and NumPy draw of it."""

import jax
import numpy as np
import pytest
from tiny import refused

from rsynth_jax import seeds

SEEDS = [0, 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**33, 2**64 - 1]


@pytest.mark.parametrize("seed", SEEDS[:4])
def test_a_seed_of_32_bits_draws_what_it_always_drew(seed):
    assert (seeds.key(seed) == jax.random.key(seed)).all()
    assert seeds.rng(seed).random() == np.random.default_rng(seed).random()
    assert seeds.rng(seed, 5).random() == np.random.default_rng((seed, 5)).random()


def test_all_bits_of_a_seed_count():
    assert len({jax.random.key_data(seeds.key(seed)).tobytes() for seed in SEEDS}) == len(SEEDS)
    assert len({seeds.rng(seed, i).random() for seed in SEEDS for i in range(3)}) == 3 * len(SEEDS)


@pytest.mark.parametrize("make", [seeds.key, seeds.rng])
@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_number_that_is_no_seed_is_refused(make, seed):
    with refused(match=f"seed is {seed}: give 0 or more, and less than 2"):
        make(seed)


def test_a_row_of_numbers_has_the_key_that_is_folded_by_each_in_turn():
    labels, numbers = np.array([2, 0, 2]), np.array([5, 5, 6])
    folded = [
        jax.random.fold_in(jax.random.fold_in(seeds.key(2**33), label), number)
        for label, number in zip(labels, numbers, strict=True)
    ]
    assert (seeds.keys(2**33, labels, numbers) == jax.numpy.stack(folded)).all()
