"""The class Gaussians: NumPy's mean and covariance, and the laws of sampling."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from rsynth_jax.synthesis import class_gaussians

RNG = np.random.default_rng(5)
LABELS = np.repeat([0, 1, 2], [2, 12, 20])
IMAGES = RNG.integers(0, 256, (34, 4, 4, 3), np.uint8)
SHAPE = (4, 4, 3)


@pytest.fixture(scope="module")
def exact():
    return class_gaussians.fit(IMAGES, LABELS, num_classes=3, factor=1, share=1)


def rows(images):
    return images.reshape(len(images), -1) / 255


def draws(fitted, label, num):
    keys = jax.random.split(jax.random.key(0), num)
    return np.asarray(jax.vmap(lambda key: class_gaussians.sample(key, fitted, label, SHAPE))(keys))


@pytest.mark.parametrize("label", range(3))
def test_fit_has_the_mean_and_the_covariance_of_the_class(exact, label):
    members = rows(IMAGES[label == LABELS])
    components = np.float64(exact.components[label]).reshape(-1, 48)
    assert_allclose(exact.mean[label].ravel(), members.mean(0), atol=1e-6)
    assert_allclose(components.T @ components, np.cov(members.T, bias=True), atol=1e-6)


def test_fit_works_on_block_means():
    fitted = class_gaussians.fit(IMAGES, LABELS, num_classes=3, factor=2, share=1)
    blocks = IMAGES[LABELS == 1].reshape(-1, 2, 2, 2, 2, 3).mean((2, 4))
    components = np.float64(fitted.components[1]).reshape(-1, 12)
    assert_allclose(fitted.mean[1], blocks.mean(0) / 255, atol=1e-6)
    assert_allclose(components.T @ components, np.cov(rows(blocks).T, bias=True), atol=1e-6)


@pytest.mark.parametrize("share", [0.3, 0.8, 0.95])
def test_fit_keeps_the_fewest_components_that_hold_the_share(share):
    fitted = class_gaussians.fit(IMAGES, LABELS, num_classes=3, factor=1, share=share)
    for label in range(3):
        held = np.sum(np.float64(fitted.components[label]) ** 2, axis=(1, 2, 3))
        held = held[held > 0] / rows(IMAGES[label == LABELS]).var(0).sum()
        assert held.sum() >= share - 1e-6 > held[:-1].sum()


def test_classes_that_need_fewer_components_are_padded_with_zeros(exact):
    assert exact.components.shape == (3, 19, 4, 4, 3)  # n centered images span n - 1 directions
    assert_array_equal(exact.components[0, 1:], np.zeros((18, 4, 4, 3)))
    assert_array_equal(exact.components[1, 11:], np.zeros((8, 4, 4, 3)))


def test_a_class_of_equal_images_is_its_mean():
    same = np.stack([IMAGES[0], IMAGES[0]])
    fitted = class_gaussians.fit(same, np.array([0, 0]), num_classes=1, factor=1, share=0.95)
    assert_allclose(draws(fitted, 0, 2), same / 255, atol=1e-6)


def test_a_sample_is_its_keys_alone(exact):
    one, same, other = (class_gaussians.sample(jax.random.key(s), exact, 1, SHAPE) for s in (0, 0, 1))
    assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.01


def test_samples_have_the_mean_and_the_deviations_of_the_class(exact):
    images, members = draws(exact, 2, 4000).reshape(4000, -1), rows(IMAGES[LABELS == 2])
    error = members.std(0) / np.sqrt(4000)
    assert (np.abs(images.mean(0) - members.mean(0)) < 4 * error).all()
    assert_allclose(images.std(0), members.std(0), rtol=4 / np.sqrt(2 * 4000))


def test_a_tempered_sample_is_so_much_farther_from_the_mean(exact):
    cold, hot = (
        class_gaussians.sample(jax.random.key(0), class_gaussians.with_temperature(exact, t), 1, SHAPE)
        for t in (1.0, 1.5)
    )
    assert_allclose(hot - exact.mean[1], 1.5 * (cold - exact.mean[1]), atol=1e-5)


def test_labels_may_be_a_batch(exact):
    keys, labels = jax.random.split(jax.random.key(0), 3), np.arange(3)
    batch = jax.vmap(class_gaussians.sample, (0, None, 0, None))(keys, exact, labels, SHAPE)
    loop = [class_gaussians.sample(key, exact, label, SHAPE) for key, label in zip(keys, labels, strict=True)]
    assert_allclose(batch, loop, atol=1e-5)


@pytest.mark.parametrize("label", range(3))
def test_what_is_expected_is_the_gaussians_conditional_mean(exact, label):
    """mu + S_xk (S_kk + variance)^-1 (image - mu)_k, in float64, with S the covariance of the class."""
    image, known = RNG.random(SHAPE, np.float32), RNG.random((4, 4, 1)) < 0.6
    members, where = rows(IMAGES[label == LABELS]), np.broadcast_to(known, SHAPE).ravel()
    mean, covariance = members.mean(0), np.cov(members.T, bias=True)
    weights = np.linalg.inv(covariance[np.ix_(where, where)] + 0.02 * np.eye(where.sum()))
    wanted = mean + covariance[:, where] @ weights @ (image.ravel() - mean)[where]
    found = class_gaussians.conditional_mean(exact, label, image, np.float32(known), 0.02)
    assert_allclose(found.ravel(), wanted, atol=1e-5)


def test_with_nothing_known_the_mean_is_expected_and_half_a_weight_is_twice_the_noise(exact):
    image = RNG.random(SHAPE, np.float32)
    expect = functools.partial(class_gaussians.conditional_mean, exact, 1, image)
    ones = np.ones((4, 4, 1), np.float32)
    assert_allclose(expect(0 * ones, 0.02), exact.mean[1], atol=1e-6)
    assert_allclose(expect(ones / 2, 0.02), expect(ones, 0.04), atol=1e-5)


def test_grey_is_one_gaussian_of_independent_values_for_every_class():
    grey = class_gaussians.grey(channels=3)
    components = np.float64(grey.components[0]).reshape(-1, 147)
    assert_array_equal(grey.mean, np.full((1, 7, 7, 3), 0.5, np.float32))
    assert_allclose(components.T @ components, 0.21**2 * np.eye(147), atol=1e-8)
    hot = class_gaussians.with_temperature(grey, 2.0)
    assert_allclose(hot.components, 2 * grey.components)


def test_grey_serves_every_label_and_costs_the_same_for_a_thousand_classes():
    grey = class_gaussians.grey(channels=1)
    keys = jnp.broadcast_to(jax.random.key(0), 3)
    drawn = jax.vmap(class_gaussians.sample, (0, None, 0, None))(
        keys, grey, np.array([0, 1, 999]), (28, 28, 1)
    )
    assert np.isfinite(drawn).all() and np.std(drawn[0]) > 0.05
    assert_array_equal(drawn[0], drawn[1])
    assert_array_equal(drawn[0], drawn[2])


def test_what_is_expected_of_grey_is_the_mean_far_from_what_is_known():
    image, known = np.zeros((28, 28, 3), np.float32), np.zeros((28, 28, 1), np.float32)
    known[:8] = 1
    found = class_gaussians.conditional_mean(class_gaussians.grey(channels=3), 999, image, known, 0.02)
    assert_allclose(found[-8:], np.full((8, 28, 3), 0.5), atol=1e-6)
    assert np.abs(found[:4]).max() < 0.05


@pytest.mark.parametrize("shape", [(4, 4, 3), (8, 8, 3), (9, 5, 3)])
def test_a_sample_has_the_shape_asked(exact, shape):
    assert class_gaussians.sample(jax.random.key(0), exact, 0, shape).shape == shape


@pytest.mark.parametrize("num", [0, 1])
def test_a_class_of_fewer_than_two_images_is_refused_by_name(num):
    labels = np.where(np.arange(34) < num, 1, 0)
    with pytest.raises(ValueError, match=f"class 1 has {num} "):
        class_gaussians.fit(IMAGES, labels, num_classes=2, factor=1, share=1)


def test_a_factor_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="4 x 4 do not divide into blocks of 3"):
        class_gaussians.fit(IMAGES, LABELS, num_classes=3, factor=3, share=1)
