"""Judging: every image once, whatever the batches."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from rsynth_jax import attacks, evaluation
from rsynth_jax.models.layers import Outputs

SHAPE = (4, 4, 3)
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (13, *SHAPE), np.uint8)
LABELS = RNG.integers(0, 3, 13).astype(np.int32)


class Linear(nn.Module):
    """logits = W x + b."""

    @nn.compact
    def __call__(self, images):
        features = images.reshape(len(images), -1)
        return Outputs(nn.Dense(3)(features), features)


MODEL = Linear()
VARIABLES = MODEL.init(jax.random.key(0), jnp.zeros((1, *SHAPE)))


def drawn(key, classifier, image, label):
    """An adversary that draws: another image altogether."""
    return jax.random.uniform(key, image.shape)


@functools.cache
def step(adversary):
    return jax.jit(evaluation.make_eval_step(MODEL, adversary))


def judge(adversary, num=13, **options):
    return evaluation.judge(
        step(adversary), VARIABLES, jax.random.key(5), IMAGES[:num], LABELS[:num], **options
    )


def right(images, labels=LABELS):
    logits = MODEL.apply(VARIABLES, jnp.asarray(images)).logits
    return np.asarray(jnp.argmax(logits, axis=-1) == labels)


def negative(key, classifier, image, label):
    return 1 - image


@pytest.mark.parametrize("batch_size", [1, 3, 8, 13, 40])
def test_judging_is_the_plain_count_whatever_the_batch(batch_size):
    judged = judge(negative, batch_size=batch_size)
    clean, inverted = right(IMAGES / np.float32(255)), right(1 - IMAGES / np.float32(255))
    assert_array_equal(judged.clean, clean)
    assert_array_equal(judged.adversarial, inverted)
    assert clean.any() and not clean.all() and (clean != inverted).any()  # the comparison can fail


@pytest.mark.parametrize("batch_size", [1, 8, 20])
def test_the_draw_of_image_i_depends_on_i_alone(batch_size):
    keys = [jax.random.fold_in(jax.random.key(5), i) for i in range(13)]
    expected = right(np.stack([jax.random.uniform(key, SHAPE) for key in keys]))
    assert_array_equal(judge(drawn, batch_size=batch_size).adversarial, expected)
    assert_array_equal(judge(drawn, num=5, batch_size=batch_size).adversarial, expected[:5])


def test_without_an_adversary_both_counts_agree():
    judged = judge(attacks.identity(), batch_size=8)
    assert_array_equal(judged.clean, judged.adversarial)


def test_track_sees_every_batch():
    seen = []

    def track(batches):
        seen.extend(batches)
        return batches

    judge(negative, batch_size=5, track=track)
    assert len(seen) == 3
