"""The first kernel under a window: what it does to SGD, and the network of images of twice the side."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from numpy.testing import assert_allclose, assert_array_equal

from rsynth_jax.training import build, stem
from rsynth_jax.training import run as runs
from rsynth_jax.training.recipes import Recipe, replace

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("size", [4, 7, 8])
def test_hann_windows_half_their_size_apart_add_up_to_one(size):
    window = stem.hann(size)
    assert_allclose(window, window[::-1], rtol=1e-6)
    assert 0 < window[0] < window[size // 2] <= 1
    if size % 2 == 0:
        assert_allclose(window[: size // 2] + window[size // 2 :], 1, rtol=1e-6)


def test_sgd_moves_a_fading_kernel_as_the_window_times_the_weights_that_it_trains():
    target = RNG.normal(size=(8, 8, 1, 2)).astype(np.float32)
    window = np.outer(stem.hann(8), stem.hann(8))[..., None, None]

    def loss(kernel, bias):
        return jnp.sum((kernel - target) ** 2) + jnp.sum((kernel.sum((0, 1, 2)) - bias) ** 2) / 99

    def trained(optimizer, params, value):
        state = optimizer.init(params)
        for _ in range(4):
            updates, state = optimizer.update(jax.grad(value)(params), state, params)
            params = optax.apply_updates(params, updates)
        return params

    sgd = optax.sgd(0.05, 0.9, nesterov=True)
    plain = {stem.STEM: {"kernel": jnp.array(target[::-1])}, "bias": jnp.zeros(2)}
    inside = trained(sgd, plain, lambda p: loss(window * p[stem.STEM]["kernel"], p["bias"]))
    start = stem.faded({"params": plain})["params"]
    found = trained(stem.fading(sgd), start, lambda p: loss(p[stem.STEM]["kernel"], p["bias"]))
    assert_allclose(found[stem.STEM]["kernel"], window * inside[stem.STEM]["kernel"], atol=1e-6)
    assert_allclose(found["bias"], inside["bias"], rtol=1e-5)


def test_an_enlarged_kernel_sees_of_doubled_pixels_what_the_other_does():
    kernel = RNG.normal(size=(4, 4, 3, 5)).astype(np.float32)
    images = RNG.random((2, 16, 16, 3), np.float32)
    enlarged = stem.enlarged({"params": {stem.STEM: {"kernel": kernel}}})["params"][stem.STEM]["kernel"]
    doubled = images.repeat(2, axis=1).repeat(2, axis=2)
    assert_allclose(seen(doubled, enlarged, 4, 2), seen(images, kernel, 2, 1), rtol=1e-4, atol=1e-5)
    assert_array_equal(jnp.abs(enlarged[0, 3]) <= jnp.abs(enlarged[1, 3]), True)


def seen(images, kernel, stride, padding):
    pads = ((padding, padding),) * 2
    return jax.lax.conv_general_dilated(
        images, kernel, (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def test_training_goes_on_from_a_classifier_of_images_of_half_the_side(tmp_path, small):
    release = tiny.release(tmp_path / "c.safetensors", tiny.NAMES, "resnet8", small[1])
    network = {"architecture": "resnet8-64", "mean": release.config.mean, "std": release.config.std}
    recipe = replace(Recipe(), **network, batch_size=2, epochs=1, seed_factor=4)
    images, labels = RNG.integers(0, 256, (6, 32, 32, 3), np.uint8), np.arange(6) % 3
    run = runs.prepare(recipe, images, labels, tiny.NAMES, 6)
    found = runs.start(run, release).variables["params"]
    wanted = stem.enlarged(release.variables)["params"]
    assert_allclose(found[stem.STEM]["kernel"], wanted[stem.STEM]["kernel"], rtol=1e-6)
    assert_array_equal(found["BasicBlock_0"]["Conv_0"]["kernel"], wanted["BasicBlock_0"]["Conv_0"]["kernel"])
    other = runs.prepare(replace(recipe, architecture="resnet18"), images, labels, tiny.NAMES, 6)
    with tiny.refused(match="another network than the recipe's"):
        runs.start(other, release)


def test_a_first_kernel_fades_from_the_start_and_of_the_family_resnet_alone():
    recipe = replace(Recipe(), architecture="resnet8", fade_stem=True, batch_size=2, epochs=1)
    images, labels = RNG.integers(0, 256, (6, 16, 16, 3), np.uint8), np.arange(6) % 3
    run = runs.prepare(recipe, images, labels, tiny.NAMES, 6)
    kernel = np.asarray(runs.start(run).variables["params"][stem.STEM]["kernel"])
    window = np.outer(stem.hann(4), stem.hann(4))
    assert_allclose(kernel.std((2, 3)) / window, (kernel.std((2, 3)) / window).mean(), rtol=0.25)
    with tiny.refused(match="fade_stem is for the family resnet: preact-resnet18 is of another"):
        build.validate(replace(recipe, architecture="preact-resnet18"))
