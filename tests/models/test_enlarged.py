"""The network for images of twice the side: what its first kernel sees, and how training goes on from it."""

import jax
import numpy as np
import tiny
from numpy.testing import assert_allclose

from rsynth_jax import models
from rsynth_jax.training import build
from rsynth_jax.training import run as runs
from rsynth_jax.training.recipes import RECIPES, replace

RNG = np.random.default_rng(0)


def seen(images, kernel, stride, padding):
    pads = ((padding, padding),) * 2
    return jax.lax.conv_general_dilated(
        images, kernel, (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def test_an_enlarged_kernel_sees_doubled_pixels_as_the_other_sees_their_halves():
    kernel = RNG.normal(size=(4, 4, 3, 5)).astype(np.float32)
    images = RNG.random((2, 16, 16, 3), np.float32)
    enlarged = models.enlarged({"params": {models.FIRST: {"kernel": kernel}}})["params"][models.FIRST][
        "kernel"
    ]
    doubled = images.repeat(2, axis=1).repeat(2, axis=2)
    assert_allclose(seen(doubled, enlarged, 4, 2), seen(images, kernel, 2, 1), rtol=1e-4, atol=1e-5)


def test_training_goes_on_from_a_classifier_of_images_of_half_the_side(tmp_path, small):
    release = tiny.release(tmp_path / "c.safetensors", tiny.NAMES, "resnet8", small[1])
    recipe = build.recipe_from_release(RECIPES["restricted-imagenet-64"], release)
    assert recipe.network.architecture == "resnet8-64" and recipe.network.mean == release.config.mean
    recipe = replace(recipe, batch_size=2, epochs=1)
    images, labels = RNG.integers(0, 256, (6, 32, 32, 3), np.uint8), np.arange(6) % 3
    found = runs.start(runs.prepare(recipe, images, labels, tiny.NAMES, 6), release).variables
    jax.tree.map(
        lambda a, b: assert_allclose(a, b, rtol=1e-6), dict(found), models.enlarged(release.variables)
    )
    other = runs.prepare(replace(recipe, architecture="resnet18"), images, labels, tiny.NAMES, 6)
    with tiny.refused(match="another network than the recipe's"):
        runs.start(other, release)


def test_a_recipe_of_another_network_takes_that_of_its_start(tmp_path, small):
    release = tiny.release(tmp_path / "c.safetensors", tiny.NAMES, "resnet8", small[1])
    recipe = build.recipe_from_release(RECIPES["imagenet"], release)
    assert recipe.network.architecture == "resnet8"
