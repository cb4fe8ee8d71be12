"""Linear separability: 1 where a plane separates, exp H(Y) where codes tell nothing, closed forms between."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from tiny import refused

from rsynth_jax.metrics.separability import conditional_entropy, fit_logistic, separability

RNG = np.random.default_rng(0)
CODES = RNG.normal(size=(4000, 6)).astype(np.float32)


def of(margins: np.ndarray, codes: np.ndarray = CODES):
    return separability(codes, margins, np.random.default_rng(0))


def test_attributes_on_either_side_of_a_plane_give_1():
    margins = CODES[:, :2] - 0.1
    found = of(margins)
    assert found.low == 1 and found.value == pytest.approx(1, abs=0.02)


def test_attributes_that_codes_do_not_tell_multiply_by_2_each():
    margins = RNG.normal(size=(4000, 2))
    found = of(margins)
    assert found.value == pytest.approx(4, abs=0.05) and found.low <= 4


def test_a_rare_attribute_that_codes_do_not_tell_gives_exp_of_its_entropy():
    margins = np.where(RNG.random((4000, 1)) < 0.2, 1.0, -1.0)
    assert of(margins).value == pytest.approx(np.exp(-0.2 * np.log(0.2) - 0.8 * np.log(0.8)), abs=0.05)


def test_answers_flipped_at_random_give_exp_of_the_entropy_of_the_flips():
    """Margins of one size, so that no code is left out for its uncertainty."""
    flipped = RNG.random(4000) < 0.1
    margins = np.sign(CODES[:, :1]) * np.where(flipped, -1, 1)[:, None]
    assert of(margins).value == pytest.approx(np.exp(-0.1 * np.log(0.1) - 0.9 * np.log(0.9)), abs=0.08)


def test_a_round_attribute_has_no_plane():
    margins = np.sum(CODES[:, :1] ** 2, axis=1, keepdims=True) - 0.45
    assert of(margins).value > 1.8


def test_many_dimensions_separate_nothing_by_chance():
    """In sample, 60 dimensions would separate 40 codes: each half is judged by the other's plane."""
    codes = RNG.normal(size=(80, 60))
    assert of(RNG.normal(size=(80, 1)), codes).value > 1.7


def test_an_attribute_that_all_images_have_is_told():
    found = of(np.ones((4000, 1)))
    assert found.value == found.low == found.high == 1


def test_the_scale_and_the_place_of_the_codes_do_not_matter():
    margins = CODES[:, :1] + 0.5 * RNG.normal(size=(4000, 1))
    assert of(margins, 1000 * CODES + 7).value == pytest.approx(of(margins).value, abs=1e-3)


def test_conditional_entropy_is_that_of_its_definition():
    table = np.array([[3, 1], [2, 2]])
    expected = 0.5 * (-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)) + np.log(2))
    assert_allclose(conditional_entropy(table), expected)
    assert_allclose(conditional_entropy(np.array([[[3, 0], [0, 2]], [[1, 1], [1, 1]]])), [0, np.log(2)])


def test_the_regression_is_where_the_gradient_of_its_loss_is_0():
    codes = CODES[:200].astype(np.float64)
    answers = codes[:, 0] + RNG.normal(size=200) > 0
    weights = fit_logistic(codes, answers)
    points = np.concatenate([codes, np.ones((200, 1))], axis=1)
    residual = 1 / (1 + np.exp(-points @ weights)) - answers
    assert_allclose(residual @ points / 200 + 1e-4 * weights, 0, atol=1e-7)


def test_codes_that_do_not_fit_are_refused():
    with refused(match="separability needs 8"):
        of(np.ones((4, 1)), CODES[:4])
    with refused(match="margins holds NaN"):
        of(np.full((4000, 1), np.nan))
