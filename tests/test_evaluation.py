"""Judging: every image once whatever the batches."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from numpy.testing import assert_array_equal

from rsynth_jax import images
from rsynth_jax.attacks import autoattack as attempts
from rsynth_jax.attacks import evaluation
from rsynth_jax.attacks.threats import Steps, Threat
from rsynth_jax.synthesis.norms import L2

SHAPE = (4, 4, 3)
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (13, *SHAPE), np.uint8)
LABELS = RNG.integers(0, 3, 13).astype(np.int32)
THREAT = Threat(L2, 0.2)

MODEL = tiny.Linear()
VARIABLES = MODEL.init(jax.random.key(0), jnp.zeros((1, *SHAPE)))
logits = jax.jit(evaluation.make_logits(MODEL))


@functools.cache
def judge(*attacks):
    return evaluation.make_judge(MODEL, THREAT, attacks)


@pytest.mark.parametrize("batch_size", [1, 3, 8, 13, 40])
def test_the_clean_count_is_the_plain_one_whatever_the_batch(batch_size):
    found = judge()(VARIABLES, jax.random.key(5), IMAGES, LABELS, batch_size)
    plain = MODEL.apply(VARIABLES, images.decode(jnp.asarray(IMAGES))).logits.argmax(-1) == LABELS
    assert_array_equal(found.clean, plain)
    assert_array_equal(found.adversarial, plain)
    assert plain.any() and not plain.all()  # the comparison can fail


def test_attacks_add_up():
    """What stands after two attacks is what each of them alone leaves standing."""
    one, two = attempts.pgd(THREAT, Steps(0.1, 4)), attempts.square_attack(THREAT, 20)
    alone, other, both = (
        judge(*attacks)(VARIABLES, jax.random.key(5), IMAGES, LABELS).adversarial
        for attacks in ((one,), (two,), (one, two))
    )
    assert_array_equal(both, alone & other)
    assert alone.sum() < judge()(VARIABLES, jax.random.key(5), IMAGES, LABELS).clean.sum()
