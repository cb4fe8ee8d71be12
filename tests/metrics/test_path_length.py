"""Perceptual path length: closed forms of linear generators, the ways between codes, the trimmed mean."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from tiny import refused

from rsynth_jax.metrics.path_length import estimate_length, lerp, slerp, step_length

RNG = np.random.default_rng(0)
A, B = (jnp.asarray(RNG.normal(size=6), jnp.float32) for _ in range(2))
LINEAR = jnp.asarray(RNG.normal(size=(12, 6)), jnp.float32)


def squared(image, other):
    return jnp.sum((image - other) ** 2)


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("epsilon", "error"), [(1e-4, 2e-2), (1e-2, 2e-4)])
def test_the_length_of_a_linear_generator_is_that_of_its_image_of_the_difference(t, epsilon, error):
    """|L (b - a)|^2 wherever on the way; the error is float32's rounding over epsilon."""
    found = step_length(lambda t: LINEAR @ lerp(A, B, t), jnp.float32(t), squared, epsilon)
    assert_allclose(found, np.sum(np.asarray(LINEAR @ (B - A)) ** 2), rtol=error)


def test_the_length_of_a_circle_is_the_squared_angle():
    a, b = jnp.array([2.0, 0.0]), jnp.array([-1.0, 1.0])
    found = step_length(lambda t: slerp(a, b, t) / jnp.linalg.norm(slerp(a, b, t)), 0.4, squared, 1e-2)
    assert_allclose(found, (3 * np.pi / 4) ** 2, rtol=1e-3)


def test_a_distance_counts_as_often_as_it_is_weighted():
    ways = [
        step_length(lambda t: LINEAR @ lerp(A, B, t), 0.5, lambda *pair, k=k: k * squared(*pair))
        for k in (1, 3)
    ]
    assert_allclose(ways[1], 3 * ways[0], rtol=1e-5)


@pytest.mark.parametrize("way", [lerp, slerp])
def test_a_way_leads_from_one_code_to_the_other(way):
    assert_allclose(way(A, B, 0.0), A, rtol=1e-5, atol=1e-6)
    assert_allclose(way(A, B, 1.0), B, rtol=1e-5, atol=1e-6)
    assert_allclose(way(A, B, 0.25), way(B, A, 0.75), rtol=1e-5, atol=1e-6)


def test_a_great_circle_keeps_the_length_and_turns_evenly():
    a, b = A / jnp.linalg.norm(A), B / jnp.linalg.norm(B)
    points = jax.vmap(lambda t: slerp(a, b, t))(jnp.linspace(0, 1, 5))
    assert_allclose(jnp.linalg.norm(points, axis=1), 1, rtol=1e-5)
    assert_allclose(jnp.sum(points[1:] * points[:-1], axis=1), jnp.cos(jnp.arccos(a @ b) / 4), rtol=1e-5)


def test_the_way_from_a_code_to_itself_stays_there():
    assert_allclose(slerp(A, A, 0.3), A, rtol=1e-5)


def test_outliers_at_either_end_are_rejected():
    lengths = np.concatenate([np.full(98, 5.0), [1e9, 0.0]])
    found = estimate_length(lengths, rejected=0.02)
    assert found.value == 5 and found.low == found.high == 5


def test_the_interval_covers_the_trimmed_mean_of_the_distribution():
    """The trimmed mean of Exp(1), by the integral between its 1st and 99th percentiles."""
    low, high = -np.log(0.99), -np.log(0.01)
    truth = ((low + 1) * np.exp(-low) - (high + 1) * np.exp(-high)) / 0.98
    found = [estimate_length(RNG.exponential(size=500)) for _ in range(400)]
    assert np.mean([each.low <= truth <= each.high for each in found]) == pytest.approx(0.95, abs=0.04)


def test_a_length_is_refused_where_there_are_too_few_or_one_is_not_finite():
    with refused(match="path length needs 2"):
        estimate_length(np.ones(1))
    with refused(match="NaN"):
        estimate_length(np.array([1.0, np.nan]))
