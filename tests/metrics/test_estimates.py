"""Intervals: Wilson's values, cuts, and that they hold what they should as often as they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tiny import refused

from rsynth_jax.metrics import estimates
from rsynth_jax.metrics.estimates import wilson


@pytest.mark.parametrize(
    ("successes", "num", "low", "high"),
    [
        (0, 10, 0.0, 3.8416 / 13.8416),
        (10, 10, 10 / 13.8416, 1.0),
        (5, 10, 0.2365895, 0.7634105),
        (50, 100, 0.4038298, 0.5961702),
        (1, 4, 0.0455861, 0.6993639),
    ],
)
def test_wilson_equals_hand_computed_values(successes, num, low, high):
    assert_allclose(wilson(successes, num), (low, high), atol=1e-6)


@given(num=st.integers(1, 100_000), part=st.floats(0, 1))
def test_wilson_is_inside_zero_and_one_and_contains_the_share(num, part):
    successes = round(part * num)
    low, high = wilson(successes, num)
    assert 0 <= low <= high <= 1
    assert low - 1e-12 <= successes / num <= high + 1e-12


@given(num=st.integers(1, 100_000), part=st.floats(0, 1))
def test_wilson_of_the_failures_is_the_mirror_image(num, part):
    low, high = wilson(round(part * num), num)
    assert_allclose(wilson(num - round(part * num), num), (1 - high, 1 - low), atol=1e-9)


@given(num=st.integers(1, 1000), part=st.floats(0, 1))
def test_wilson_narrows_with_more_images(num, part):
    successes = round(part * num)
    few, many = wilson(successes, num), wilson(4 * successes, 4 * num)
    assert many[1] - many[0] < few[1] - few[0]


@given(yes=st.lists(st.booleans(), min_size=1, max_size=50))
def test_a_share_is_wilson_s(yes):
    share = estimates.share(np.array(yes))
    assert share.value == pytest.approx(sum(yes) / len(yes))
    assert (share.low, share.high) == wilson(sum(yes), len(yes))


def test_a_mean_has_the_standard_error_of_the_mean():
    value, low, high = estimates.mean(np.array([1.0, 2.0, 3.0, 6.0]))
    assert value == 3.0
    assert_allclose([low, high], 3.0 + 1.96 * np.array([-1, 1]) * np.sqrt(14 / 3 / 4))


def test_replicates_give_a_symmetric_interval_wherever_they_lie():
    value, low, high = estimates.bootstrapped(5.0, np.array([8.0, 9.0, 10.0]))
    assert_allclose([value, low, high], [5.0, 5.0 - 1.96, 5.0 + 1.96])


def test_an_interval_is_cut_at_the_lowest_value_there_can_be():
    assert estimates.normal(1.0, 2.0, lowest=0.0).low == 0.0
    assert estimates.mean(np.array([0.0, 1.0]), lowest=0.0).low == 0.0
    assert estimates.bootstrapped(1.0, np.array([1.0, 9.0]), lowest=1.0).low == 1.0


@pytest.mark.parametrize(
    "estimate",
    [
        lambda rng: estimates.mean(rng.exponential(0.3, 200)),
        lambda rng: estimates.share(rng.random(200) < 0.3),
    ],
    ids=["mean", "share"],
)
def test_95_of_100_intervals_hold_the_truth(estimate):
    drawn = [estimate(np.random.default_rng(seed)) for seed in range(1000)]
    assert 0.93 <= np.mean([low <= 0.3 <= high for _, low, high in drawn]) <= 0.97


def test_too_few_samples_are_refused():
    with refused(match="needs 2 images or more, not 1"):
        estimates.mean(np.ones(1))
    with refused(match="needs 1 images or more, not 0"):
        estimates.share(np.ones(0, bool))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_interval_is_made_of_numbers_that_are_none(value):
    """Cut to [0, 1] or at the lowest value, NaN would be an interval of everything."""
    samples = np.array([0.5, value, 1.0])
    for estimate in (
        lambda: estimates.mean(samples, lowest=0.0),
        lambda: estimates.normal(value, 1.0, lowest=0.0),
        lambda: estimates.bootstrapped(1.0, samples, lowest=0.0),
        lambda: wilson(value, 10),
        lambda: wilson(3, value),
    ):
        with np.errstate(invalid="ignore"), refused(match="NaN or infinity"):
            estimate()
