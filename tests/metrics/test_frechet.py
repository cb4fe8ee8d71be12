"""The Fréchet distance: closed forms, laws, the usual formula, and an interval that is of chance alone."""

import functools

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tiny import refused

from rsynth_jax.metrics.frechet import Moments, _root, covariance, frechet, frechet_estimate, merge, moments

seeds = st.integers(0, 2**32 - 1)


def gaussian(mean, matrix) -> Moments:
    """The moments of a hundred images with this mean and covariance."""
    return Moments(100, np.array(mean, float), 99.0 * np.array(matrix, float))


def spread(rng, num, width) -> np.ndarray:
    return rng.normal(size=(num, width)) @ rng.normal(size=(width, width)) + rng.normal(size=width)


def assert_same(a: Moments, b: Moments) -> None:
    assert a.num == b.num
    assert_allclose(a.mean, b.mean, rtol=1e-9, atol=1e-9)
    assert_allclose(a.scatter, b.scatter, rtol=1e-9, atol=1e-9 * np.abs(b.scatter).max(initial=1))


# ---- moments


@given(seed=seeds, num=st.integers(2, 30), width=st.integers(1, 6))
def test_moments_are_numpy_s_mean_and_covariance(seed, num, width):
    features = spread(np.random.default_rng(seed), num, width)
    assert_allclose(moments(features).mean, features.mean(axis=0), atol=1e-12)
    assert_allclose(covariance(moments(features)), np.cov(features.T).reshape(width, width), atol=1e-9)


@given(seed=seeds, cuts=st.lists(st.integers(1, 39), min_size=1, max_size=4, unique=True))
def test_merged_batches_are_the_whole_in_any_order(seed, cuts):
    rng = np.random.default_rng(seed)
    features = spread(rng, 40, 3) + 100
    parts = [moments(part) for part in np.split(features, sorted(cuts))]
    rng.shuffle(parts)
    assert_same(functools.reduce(merge, parts), moments(features))


def test_more_rows_than_a_block_are_one_set():
    features = np.random.default_rng(0).normal(size=(5000, 2)).astype(np.float32)
    assert_allclose(covariance(moments(features)), np.cov(features.T.astype(float)), rtol=1e-9)


def test_a_mean_far_from_zero_costs_no_digits():
    features = np.random.default_rng(0).normal(size=(50, 3))
    assert_allclose(covariance(moments(features + 1e6)), np.cov(features.T), rtol=1e-8, atol=1e-8)


# ---- the distance


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [
        (gaussian([0, 0], np.eye(2)), gaussian([3, 4], np.eye(2)), 25.0),
        (gaussian([0, 0], np.eye(2)), gaussian([0, 0], 4 * np.eye(2)), 2.0),
        (gaussian([1, 0], np.diag([4, 9])), gaussian([0, 0], np.diag([1, 16])), 1 + 1 + 1),
        (gaussian([0, 0], np.diag([1, 0])), gaussian([0, 0], np.diag([0, 1])), 2.0),
        (gaussian([2], [[0]]), gaussian([5], [[0]]), 9.0),
    ],
    ids=["means", "scales", "diagonal", "singular", "points"],
)
def test_gaussians_of_known_distance(a, b, distance):
    assert frechet(a, b) == pytest.approx(distance, rel=1e-12)
    assert frechet(b, a) == pytest.approx(distance, rel=1e-12)


@given(seed=seeds, width=st.integers(1, 8))
def test_the_distance_is_the_one_with_a_root_of_the_product(seed, width):
    rng = np.random.default_rng(seed)
    a, b = (moments(spread(rng, 60, width)) for _ in range(2))
    product = covariance(a) @ covariance(b)
    usual = np.sum((a.mean - b.mean) ** 2) + np.trace(covariance(a)) + np.trace(covariance(b))
    usual -= 2 * np.trace(scipy.linalg.sqrtm(product).real)
    scale = np.trace(covariance(a)) + np.trace(covariance(b))
    assert_allclose(frechet(a, b), usual, rtol=1e-6, atol=1e-9 * scale)


@given(seed=seeds, num=st.integers(2, 40), width=st.integers(1, 20))
def test_a_set_is_at_no_distance_from_itself_however_few_its_images(seed, num, width):
    whole = moments(spread(np.random.default_rng(seed), num, width))
    assert frechet(whole, whole) <= 1e-9 * (1 + np.trace(covariance(whole)))


@given(seed=seeds, num=st.integers(2, 12))
def test_the_distance_is_symmetric_and_blind_to_rotation_also_where_singular(seed, num):
    rng = np.random.default_rng(seed)
    a, b = spread(rng, num, 6), spread(rng, 20, 6)
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    distance = frechet(moments(a), moments(b))
    assert_allclose(frechet(moments(b), moments(a)), distance, rtol=1e-6, atol=1e-6)
    assert_allclose(frechet(moments(a @ turn), moments(b @ turn)), distance, rtol=1e-6, atol=1e-6)


@given(seed=seeds, num=st.integers(2, 12), width=st.integers(1, 8))
def test_a_root_has_no_column_for_a_flat_direction(seed, num, width):
    of = moments(spread(np.random.default_rng(seed), num, width))
    half = _root(of)
    assert half.shape == (width, np.linalg.matrix_rank(of.scatter, tol=1e-12 * np.trace(of.scatter)))
    assert_allclose(half @ half.T, covariance(of), atol=1e-9 * np.trace(covariance(of)))


# ---- its interval


def drawn(rng) -> tuple[np.ndarray, np.ndarray]:
    """Heavy tails against a wider Gaussian, 300 of each in 8 dimensions."""
    scale = np.arange(1, 9) ** -0.5
    return rng.standard_t(8, (300, 8)) * scale, 1.4 * rng.normal(size=(300, 8)) * scale + 0.3


def test_the_interval_is_as_wide_as_the_distances_of_fresh_draws_and_the_bootstrap_s_is_no_better():
    rng = np.random.default_rng(0)
    estimates = [frechet_estimate(*drawn(rng)) for _ in range(200)]
    truth = np.std([estimate.value for estimate in estimates], ddof=1)
    half_widths = [(estimate.high - estimate.low) / 2 for estimate in estimates]
    assert np.mean(half_widths) / 1.96 == pytest.approx(truth, rel=0.15)
    a, b = drawn(rng)
    resampled = [frechet_estimate(rng.choice(a, 300), rng.choice(b, 300)).value for _ in range(100)]
    assert np.std(resampled, ddof=1) > 0.9 * np.mean(half_widths) / 1.96


def test_the_estimate_is_the_distance_of_the_moments():
    a, b = drawn(np.random.default_rng(0))
    estimate = frechet_estimate(a, b)
    assert estimate.value == frechet(moments(a), moments(b))
    assert 0 <= estimate.low < estimate.value < estimate.high


@pytest.mark.parametrize("num", [2, 5, 8])
def test_fewer_images_than_dimensions_have_a_finite_interval(num):
    rng = np.random.default_rng(0)
    assert np.isfinite(frechet_estimate(rng.normal(size=(num, 8)), rng.normal(size=(6, 8)))).all()


def test_identical_images_have_distance_zero_and_no_interval():
    assert frechet_estimate(np.ones((4, 3)), np.ones((5, 3))) == (0, 0, 0)


# ---- refusals


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        (np.zeros((1, 3)), np.zeros((9, 3)), "2 images or more, not 1"),
        (np.zeros((9, 3)), np.full((9, 3), np.nan), "NaN"),
        (np.full((9, 3), np.inf), np.zeros((9, 3)), "infinity"),
        (np.zeros((9, 3)), np.zeros((9, 4)), "3 and 4 dimensions"),
        (np.zeros(9), np.zeros((9, 4)), r"\(9,\)"),
    ],
)
def test_sets_that_cannot_be_compared_are_refused(a, b, said):
    with refused(match=said):
        frechet_estimate(a, b)


def test_moments_that_cannot_be_compared_are_refused():
    with refused(match="2 and 1 dimensions"):
        frechet(gaussian([0, 0], np.eye(2)), gaussian([0], [[1]]))
    with refused(match="2 images or more, not 1"):
        frechet(moments(np.ones((1, 2))), moments(np.ones((5, 2))))
    with refused(match="1 and 2 dimensions"):
        merge(gaussian([0], [[1]]), gaussian([0, 0], np.eye(2)))
    with refused(match="not 0"):
        moments(np.zeros((0, 3)))
