"""The area under the ROC curve: pair by pair, by ranks, and an interval that holds what it says."""

from math import erf

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tiny import refused

from rsynth_jax.metrics.estimates import wilson
from rsynth_jax.metrics.ranking import auc, auroc

RNG = np.random.default_rng(0)
few = st.lists(st.integers(-3, 3), min_size=2, max_size=12).map(lambda values: np.array(values, np.float32))
some = few.map(lambda values: np.resize(values, 12 if len(values) > 6 else 5))  # few shapes to compile


def pairs(positive, negative) -> np.ndarray:
    """(m, n): 1 where the positive is above, a half for a tie."""
    gap = positive[:, None] - negative
    return (gap > 0) + 0.5 * (gap == 0)


@given(positive=some, negative=some)
def test_it_is_the_share_of_pairs_in_order_by_ranks_and_on_the_device(positive, negative):
    expected = pairs(positive, negative).mean()
    assert_allclose(auroc(positive, negative).value, expected, atol=1e-12)
    assert_allclose(jax.jit(auc)(positive, negative, np.ones(len(negative), bool)), expected, rtol=1e-6)


def test_on_the_device_some_negatives_may_be_left_out():
    positive, negative = RNG.integers(0, 5, 30).astype(np.float32), RNG.integers(-1, 4, 20).astype(np.float32)
    where = RNG.random(20) < 0.5
    found = auc(jnp.asarray(positive), jnp.asarray(negative), jnp.asarray(where))
    assert_allclose(found, pairs(positive, negative[where]).mean(), rtol=1e-6)


@given(positive=few, negative=few)
def test_the_other_way_round_it_is_mirrored(positive, negative):
    one, other = auroc(positive, negative), auroc(negative, positive)
    assert_allclose(
        (other.value, other.low, other.high), (1 - one.value, 1 - one.high, 1 - one.low), atol=1e-9
    )


@given(positive=few, negative=few)
def test_only_the_order_counts(positive, negative):
    assert auroc(np.exp(positive), np.exp(negative)) == auroc(positive, negative)


@given(positive=few, negative=few)
def test_the_interval_holds_the_value_and_stays_inside_zero_and_one(positive, negative):
    value, low, high = auroc(positive, negative)
    assert 0 <= low <= value + 1e-12 and value - 1e-12 <= high <= 1 and low < high


@pytest.mark.parametrize(("above", "num"), [(30, 50), (49, 50), (1, 20)])
def test_against_one_constant_it_is_a_share_and_has_wilson_s_interval(above, num):
    """The variance is the sample's, over num - 1."""
    positive = np.where(np.arange(num) < above, 1.0, -1.0)
    value, *ends = auroc(positive, np.zeros(40))
    assert value == above / num
    assert_allclose(ends, wilson(value * (num - 1), num - 1), atol=1e-9)


def test_sets_wholly_apart_leave_the_room_that_the_smaller_has():
    assert auroc(np.arange(10) + 100, np.arange(30)) == (1.0, *wilson(10, 10))


def test_the_variance_is_delong_s():
    """Recovered from the interval's centre, (p + z^2 / 2n) / (1 + z^2 / n)."""
    positive, negative = RNG.normal(1, 1, 60), RNG.normal(0, 2, 45)
    each = pairs(positive, negative)
    expected = each.mean(axis=1).var(ddof=1) / 60 + each.mean(axis=0).var(ddof=1) / 45
    value, low, high = auroc(positive, negative)
    samples = value * (1 - value) / expected
    assert_allclose((low, high), wilson(value * samples, samples), rtol=1e-9)


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5])
def test_nineteen_intervals_in_twenty_hold_the_truth(shift):
    held = []
    for _ in range(1000):
        _, low, high = auroc(RNG.normal(shift, 1, 50), RNG.choice([-1.0, 0.0], 40) + RNG.normal(0, 1e-3, 40))
        truth = np.mean([0.5 * (1 + erf((shift - c) / np.sqrt(2))) for c in (-1.0, 0.0)])
        held.append(low <= truth <= high)
    assert 0.92 < np.mean(held) < 0.98


@pytest.mark.parametrize("bad", [np.array([1.0, np.nan]), np.array([np.inf, 0.0]), np.array([1.0])])
def test_too_few_numbers_and_numbers_that_are_none_are_refused(bad):
    with refused(match="AUROC"):
        auroc(bad, np.arange(3.0))
    with refused(match="negative"):
        auroc(np.arange(3.0), bad)
