"""Evaluation: every image once whatever the batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from numpy.testing import assert_allclose, assert_array_equal

from rsynth_jax import images
from rsynth_jax.attacks import autoattack, evaluation
from rsynth_jax.attacks.threats import Steps, Threat
from rsynth_jax.synthesis.norms import L2

SHAPE = (4, 4, 3)
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (13, *SHAPE), np.uint8)
LABELS = RNG.integers(0, 3, 13).astype(np.int32)
THREAT = Threat(L2, 0.2)

MODEL = tiny.Linear()
VARIABLES = MODEL.init(jax.random.key(0), jnp.zeros((1, *SHAPE)))


def evaluate(*attacks, batch_size=40, **options):
    key = jax.random.key(5)
    given = (MODEL, VARIABLES, IMAGES, LABELS, THREAT, attacks)
    return evaluation.evaluate(*given, key=key, batch_size=batch_size, **options)


@pytest.mark.parametrize("batch_size", [1, 3, 8, 13, 40])
def test_the_clean_count_is_the_plain_one_whatever_the_batch(batch_size):
    found = evaluate(batch_size=batch_size)
    plain = MODEL.apply(VARIABLES, images.decode(jnp.asarray(IMAGES))).logits.argmax(-1) == LABELS
    assert_array_equal(found.clean, plain)
    assert_array_equal(found.robust, plain)
    assert found.remaining == () and len(found.seconds) == 1
    assert plain.any() and not plain.all()  # the comparison can fail


def test_attacks_add_up():
    """The images that withstand two attacks are those that withstand each of them alone."""
    one, two = autoattack.pgd(THREAT, Steps(0.1, 4)), autoattack.square_attack(THREAT, 20)
    alone, other, both = (evaluate(*attacks) for attacks in ((one,), (two,), (one, two)))
    assert_array_equal(both.remaining[0], alone.robust)
    assert_array_equal(both.remaining[1], alone.robust & other.robust)
    assert len(both.seconds) == 3
    assert alone.robust.sum() < alone.clean.sum()


def test_the_callback_names_the_attack():
    calls = []
    attack = autoattack.pgd(THREAT, Steps(0.1, 4))
    found = evaluate(attack, batch_size=4, callback=lambda *call: calls.append(call))
    assert {call[0] for call in calls} == {attack}
    assert calls[-1][1:] == (found.clean.sum(), found.clean.sum(), found.robust.sum())


def test_logits_are_those_of_the_network_whatever_the_batch():
    expected = MODEL.apply(VARIABLES, images.decode(jnp.asarray(IMAGES))).logits
    for batch_size in (1, 5, 100):
        assert_allclose(evaluation.predict_logits(MODEL, VARIABLES, IMAGES, batch_size), expected, atol=1e-5)
